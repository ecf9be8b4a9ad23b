"""What a cache's type costs: scores of kept representations beside those of the towers themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xdeepint_ext.serving.item_cache import ItemCache
from xdeepint_ext.serving.loaded_towers import LoadedTowers


def measure(
    towers: LoadedTowers, cache: ItemCache, users: Mapping[str, np.ndarray], ids: np.ndarray, examples: Sequence[bytes]
) -> dict[str, Any]:
    """Errors of the logits and probabilities, and what becomes of the order, over some users and items.

    Args:
      towers: the model.
      cache: of the model.
      users: task -> representations (U, ...).
      ids: (n,) ids of the items.
      examples: these items' features.

    Returns:
      `users`, `items`, and by task `logit_error` and `probability_error` ({"largest", "mean"}), `rank_correlation`
      (Spearman's, mean over the users), and `overlap`: K -> share of the best K that stay among the best K.
    """
    exact = towers.items(examples)
    kept = cache.vectors(cache.look_up(ids))
    number = len(next(iter(users.values())))
    logits: dict[str, list[np.ndarray]] = {task: [] for task in towers.tasks}
    for user in range(number):
        own = {task: vectors[user : user + 1] for task, vectors in users.items()}
        scores = towers.score(own, exact), towers.score(own, kept)
        for task in towers.tasks:
            logits[task].append(np.stack([found[task] for found in scores]).astype(np.float64))
    return {"users": number, "items": len(ids), "tasks": {t: _compared(np.stack(x, 1)) for t, x in logits.items()}}


def _compared(logits: np.ndarray) -> dict[str, Any]:
    """(2, users, items): exact and kept."""
    exact, kept = logits
    probabilities = 1 / (1 + np.exp(-logits))
    return {
        "logit_error": _error(exact, kept),
        "probability_error": _error(*probabilities),
        "rank_correlation": float(np.mean([rank_correlation(*pair) for pair in zip(exact, kept, strict=True)])),
        "overlap": {
            str(k): float(np.mean([overlap(*pair, k) for pair in zip(exact, kept, strict=True)]))
            for k in (10, 100)
            if k < exact.shape[1]
        },
    }


def _error(exact: np.ndarray, kept: np.ndarray) -> dict[str, float]:
    errors = np.abs(exact - kept)
    return {"largest": float(errors.max()), "mean": float(errors.mean())}


def overlap(exact: np.ndarray, kept: np.ndarray, k: int) -> float:
    """Share of the k highest of one that are among the k highest of the other.

    Example:
      >>> overlap(np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 1.0, 3.0, 2.0]), 2)
      0.5
    """
    first, second = (np.argsort(-scores, kind="stable")[:k] for scores in (exact, kept))
    return len(np.intersect1d(first, second)) / k


def rank_correlation(exact: np.ndarray, kept: np.ndarray) -> float:
    """Spearman's; equal scores share the mean of their ranks. 1 where one of the two is constant and the other, too.

    Example:
      >>> round(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])), 4)
      0.5
    """
    first, second = (_ranks(scores) for scores in (exact, kept))
    deviations = first.std() * second.std()
    if deviations == 0:
        return 1.0 if first.std() == second.std() else 0.0
    return float(np.mean((first - first.mean()) * (second - second.mean())) / deviations)


def _ranks(scores: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]
