"""What a model's best items are worth to each user of a split; means, and differences of two models."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xdeepint_ext.metrics import paired_means

__all__ = ["AT", "RetrievalPredictions", "compare", "score"]

AT = (5, 10, 20, 50, 100, 200, 500)
"""The N that are measured, as far as the catalogue has so many items."""
COMPARED = ("recall_at_", "ndcg_at_")


@dataclasses.dataclass
class RetrievalPredictions:
    """Each user's metrics.

    Args:
      targets: (U,), how many items he should be shown.
      values: metric -> (U,), see `metrics.retrieval_scores`.
      counts: what else was counted in the split, such as `unknown_targets`.
    """

    targets: np.ndarray
    values: dict[str, np.ndarray]
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def take(self, rows: np.ndarray) -> RetrievalPredictions:
        """The users of these numbers, in their order."""
        return RetrievalPredictions(
            self.targets[rows], {n: found[rows] for n, found in self.values.items()}, self.counts
        )

    @classmethod
    def load(cls, path: str) -> RetrievalPredictions:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            found = dict(arrays)
        return cls(found.pop("targets"), found)

    def save(self, path: str) -> None:
        """Writes an .npz: `targets`, and an array for each metric."""
        np.savez_compressed(path, targets=self.targets, **self.values)  # type: ignore[arg-type]


def score(predictions: RetrievalPredictions, notes: list[str] | None = None, where: str = "") -> dict[str, float]:
    """Means over the users who have a target.

    Args:
      predictions: of a split.
      notes: gets a line for what was counted, and for each N that the catalogue is too small for.
      where: begins these lines.

    Returns:
      `rows`, the users; of each N `recall_at_N`, `hit_rate_at_N`, `ndcg_at_N`, `legacy_ndcg_at_N`, and
      `pooled_recall_at_N`, in which every target counts alike; `targets_mean`.
    """
    found = {"rows": float(len(predictions.targets)), "targets_mean": float(predictions.targets.mean())}
    found |= {name: float(np.nanmean(values)) for name, values in predictions.values.items()}
    for name, values in predictions.values.items():
        if name.startswith("recall_at_"):
            found[f"pooled_{name}"] = float(np.nansum(values * predictions.targets) / predictions.targets.sum())
    if notes is not None:
        notes += [f"{where}{name}: {count:,}" for name, count in predictions.counts.items() if count]
    return found


def compare(a: RetrievalPredictions, b: RetrievalPredictions, seed: int = 0) -> dict[str, Any]:
    """Differences a - b of recall and NDCG at every N, with intervals over users.

    Args:
      a: predictions of a model.
      b: of another, for the same users.
      seed: of the resampling.

    Raises:
      ValueError: they are not of the same users.
    """
    if not np.array_equal(a.targets, b.targets) or set(a.values) != set(b.values):
        raise ValueError("only predictions of the same users can be compared; their targets or metrics differ")
    of_a, of_b = ({name: values for name, values in p.values.items() if name.startswith(COMPARED)} for p in (a, b))
    return dict(paired_means(of_a, of_b, np.arange(len(a.targets)), seed=seed))
