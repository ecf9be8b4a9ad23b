"""What lists of the best items are worth to users: recall, hit rate and NDCG at any N."""

from __future__ import annotations

import numpy as np

__all__ = ["hits_of", "retrieval_scores"]

TARGETS_AT_ONCE = 8192


def hits_of(items: np.ndarray, targets: np.ndarray, target_splits: np.ndarray) -> np.ndarray:
    """Which of users' best items are among their targets.

    Args:
      items: (U, n), items of users, the best first.
      targets: int, all users' one after the other; distinct inside of a user. One below 0 is no item of the
        catalogue, and never found.
      target_splits: (U + 1,), those of user u are `targets[target_splits[u] : target_splits[u + 1]]`.

    Returns:
      (U, n) bool.

    Example:
      >>> hits_of(np.array([[4, 2], [4, 2]]), np.array([2, 7, 4]), np.array([0, 2, 3])).tolist()
      [[False, True], [True, False]]
    """
    if len(target_splits) != len(items) + 1:
        raise ValueError(f"target_splits must be {len(items) + 1} ends of users, got {len(target_splits)}")
    rows = np.repeat(np.arange(len(items)), np.diff(target_splits))
    known = np.flatnonzero(targets >= 0)
    hits = np.zeros(items.shape, bool)
    for some in np.array_split(known, -(-known.size // TARGETS_AT_ONCE) or 1):
        target, place = np.nonzero(items[rows[some]] == targets[some, np.newaxis])
        hits[rows[some][target], place] = True
    return hits


def retrieval_scores(hits: np.ndarray, num_targets: np.ndarray, at: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Each user's metrics at every N; a split's figure is their mean.

    `recall_at_N` is the share of his targets among the best N; `hit_rate_at_N` whether there is one; `ndcg_at_N` is
    `DCG / ideal DCG`, gains 1, discounts `1 / log2(rank + 1)`, the ideal that of min(N, targets) hits;
    `legacy_ndcg_at_N` is CROLoss's repository's (ComiRec's), whose ideal is that of as many hits as there are.

    Args:
      hits: (U, n) bool, see `hits_of`.
      num_targets: (U,), targets of users, those that no list can hold among them. A user without one has NaN.
      at: the values of N, at most n each.

    Returns:
      metric -> (U,) float64.

    Raises:
      ValueError: an N is out of range.

    Example:
      >>> scores = retrieval_scores(np.array([[False, True]]), np.array([2]), (1, 2))
      >>> scores["recall_at_2"].tolist(), scores["legacy_ndcg_at_2"].round(4).tolist()
      ([0.5], [0.6309])

    Source: CROLoss (arXiv 2208.02971), equation 5, and the authors' evaluator.
    """
    wrong = [n for n in at if not 1 <= n <= hits.shape[1]]
    if wrong:
        raise ValueError(f"at must be in 1 .. {hits.shape[1]}, the length of the lists, got {wrong}")
    discounts = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    counted = num_targets > 0
    number = np.where(counted, num_targets, 1)
    found: dict[str, np.ndarray] = {}
    for n in at:
        some = hits[:, :n]
        count, gain = some.sum(axis=1), some @ discounts[:n]
        values = {
            "recall": count / number,
            "hit_rate": (count > 0).astype(np.float64),
            "ndcg": gain / ideal[np.minimum(number, n)],
            "legacy_ndcg": gain / np.where(count > 0, ideal[count], 1.0),
        }
        found |= {f"{name}_at_{n}": np.where(counted, value, np.nan) for name, value in values.items()}
    return found
