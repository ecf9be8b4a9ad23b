"""What a model's ranking of each list is worth, on fixed test sets; means, and differences of two models."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xdeepint_ext.metrics import paired_means

__all__ = ["SETS", "ListPredictions", "TestSet", "compare", "score"]

ITEMS, POSITIVES = "items", "positives"


@dataclasses.dataclass(frozen=True)
class TestSet:
    """The items that are ranked, and how many of the best are looked at.

    Args:
      stages: of the items of a list; none = the whole catalogue takes the items' place.
      ks: K of Recall@K and NDCG@K.
      what: in words.
    """

    __test__ = False  # for pytest

    stages: tuple[str, ...]
    ks: tuple[int, ...]
    what: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """Recall and NDCG at each K, then the numbers of items and of positives."""
        return tuple(f"{metric}_at_{k}" for k in self.ks for metric in ("recall", "ndcg"))


SETS = {
    "impressions": TestSet(
        ("impression",), (1, 2), "the impressions of lists that have two or more, not all of one grade"
    ),
    "candidates": TestSet(("impression", "candidate"), (5, 10, 20, 50), "impressions and candidates"),
    "catalogue": TestSet((), (5, 10, 20, 50), "every item of the catalogue"),
}
"""The test sets of a split of lists; of the validation part the catalogue is left out."""


@dataclasses.dataclass
class ListPredictions:
    """Each list's metrics in each test set.

    Args:
      users: (lists,), whose lists they are: rows of one user are not independent.
      values: `SET.METRIC` -> (lists,), and `SET.items`, `SET.positives`, how many the set has in the list; NaN where
        the list is not in the set.
    """

    users: np.ndarray
    values: dict[str, np.ndarray]

    def take(self, rows: np.ndarray) -> ListPredictions:
        """The lists of these numbers, in their order."""
        return ListPredictions(self.users[rows], {name: found[rows] for name, found in self.values.items()})

    @classmethod
    def load(cls, path: str) -> ListPredictions:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            found = dict(arrays)
        return cls(found.pop("users"), found)

    def save(self, path: str) -> None:
        """Writes an .npz: `users`, and an array for each metric."""
        np.savez_compressed(path, users=self.users, **self.values)  # type: ignore[arg-type]

    @property
    def sets(self) -> tuple[str, ...]:
        """The test sets that were ranked."""
        return tuple(name for name in SETS if f"{name}.{ITEMS}" in self.values)


def score(predictions: ListPredictions, notes: list[str] | None = None, where: str = "") -> dict[str, float]:
    """Means over the lists of each test set, and how long these are.

    Args:
      predictions: of a split.
      notes: gets a line for each test set without a list.
      where: begins these lines.

    Returns:
      `rows`, the lists of the split; of each set `SET.recall_at_K`, `SET.ndcg_at_K`, `SET.lists`, `SET.items_mean`,
      `SET.items_median`, `SET.items_p90`, `SET.items_max`, `SET.positives_mean`.
    """
    found = {"rows": float(len(predictions.users))}
    for name in predictions.sets:
        items = predictions.values[f"{name}.{ITEMS}"]
        inside = ~np.isnan(items)
        found[f"{name}.lists"] = float(inside.sum())
        if not inside.any():
            if notes is not None:
                notes.append(f"{where}{name}: no list is in this set ({SETS[name].what}), so there are no metrics")
            found |= {f"{name}.{metric}": float("nan") for metric in SETS[name].metrics}
            continue
        for metric in SETS[name].metrics:
            found[f"{name}.{metric}"] = float(predictions.values[f"{name}.{metric}"][inside].mean())
        found[f"{name}.items_mean"] = float(items[inside].mean())
        for share, quantile in (("median", 0.5), ("p90", 0.9), ("max", 1.0)):
            found[f"{name}.items_{share}"] = float(np.quantile(items[inside], quantile))
        found[f"{name}.positives_mean"] = float(predictions.values[f"{name}.{POSITIVES}"][inside].mean())
    return found


def compare(a: ListPredictions, b: ListPredictions, seed: int = 0) -> dict[str, Any]:
    """Differences a - b of every metric, with intervals over users, drawn whole.

    Args:
      a: predictions of a model.
      b: of another, for the same lists.
      seed: of the resampling.

    Raises:
      ValueError: they are not of the same lists.
    """
    if not np.array_equal(a.users, b.users) or set(a.values) != set(b.values):
        raise ValueError("only predictions of the same lists can be compared; their users or test sets differ")
    metrics = [f"{name}.{metric}" for name in a.sets for metric in SETS[name].metrics]
    of_a, of_b = ({metric: p.values[metric] for metric in metrics} for p in (a, b))
    return dict(paired_means(of_a, of_b, a.users, seed=seed))
