"""Whether one model is better than another on the same rows: the paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from xdeepint_ext.metrics.evaluation import AUCOfWeights, checked, group_aucs, weighted_mean

__all__ = ["Difference", "paired_bootstrap", "paired_means"]


class Difference(NamedTuple):
    """A difference between two models.

    Attributes:
      value: metric of a minus metric of b, on all rows.
      low, high: its 95 % interval.
      deviation: standard deviation over the replicates, the standard error of `value`.
    """

    value: float
    low: float
    high: float
    deviation: float


def paired_bootstrap(
    labels: Any,
    scores_a: Any,
    scores_b: Any,
    metric: str = "auc",
    n: int = 1000,
    seed: int = 0,
    groups: Any = None,
) -> Difference:
    """Resamples rows, or with `groups` whole groups, for both models alike, and sees how their difference varies.

    Args:
      labels: (rows,), 0 or 1.
      scores_a: (rows,), logits of the first model.
      scores_b: (rows,), logits of the second.
      metric: `auc`, `log_loss`, or `gauc` (weighted by rows; needs groups).
      n: replicates.
      seed: of the resampling.
      groups: (rows,), such as users, whose rows are not independent: they are drawn whole.

    Returns:
      A `Difference`. The interval is between the 2.5 % and 97.5 % quantiles; replicates in which the metric does not
      exist (one class only) are left out of it.

    Raises:
      ValueError: `metric` is unknown, or `gauc` comes without groups.

    Example:
      >>> random = np.random.default_rng(0)
      >>> y, z = random.integers(0, 2, 500), random.normal(size=500)
      >>> difference = paired_bootstrap(y, y + z, z, n=200)
      >>> difference.low > 0
      True

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), sections 13.3 and 16.
    """
    makers: dict[str, Callable[..., Callable[[np.ndarray], float]]] = {
        "auc": lambda scores: AUCOfWeights(labels, scores),
        "log_loss": lambda scores: _log_loss_of_weights(labels, scores),
        "gauc": lambda scores: _gauc_of_weights(labels, scores, groups),
    }
    if metric not in makers:
        raise ValueError(f"metric must be one of {sorted(makers)}, got {metric!r}")
    if metric == "gauc" and groups is None:
        raise ValueError("metric 'gauc' needs groups")
    of_a, of_b = makers[metric](scores_a), makers[metric](scores_b)
    rows = np.size(labels)
    units = np.arange(rows) if groups is None else np.unique(np.ravel(groups), return_inverse=True)[1]
    drawn_rows = np.arange(units.max() + 1) if metric == "gauc" else units
    generator = np.random.default_rng(seed)
    count = int(units.max()) + 1
    differences = np.empty(n)
    for i in range(n):
        counts = np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)
        weights = counts[drawn_rows]
        differences[i] = of_a(weights) - of_b(weights)
    everything = np.ones(len(drawn_rows))
    low, high = np.nanquantile(differences, (0.025, 0.975))
    return Difference(of_a(everything) - of_b(everything), float(low), float(high), float(np.nanstd(differences)))


def paired_means(
    values_a: Mapping[str, Any], values_b: Mapping[str, Any], groups: Any, n: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Resamples groups for both models alike, and sees how the differences of means over rows, such as lists, vary.

    Args:
      values_a: metric -> (rows,), what each row contributes to the mean; NaN where it has no part in it.
      values_b: of the second model, NaN in the same rows.
      groups: (rows,), such as users, whose rows are not independent: they are drawn whole.
      n: replicates.
      seed: of the resampling; all metrics see the same replicates.

    Returns:
      metric -> `Difference`; NaN for a metric without a row.

    Raises:
      ValueError: the two have different metrics, or NaN in different rows.

    Example:
      >>> a, b = {"recall": [1.0, 0.5, 1.0]}, {"recall": [0.5, 0.0, 0.5]}
      >>> round(paired_means(a, b, groups=[1, 1, 2], n=50)["recall"].low, 6)
      0.5

    Source: as `paired_bootstrap`; ratios of sums over the groups drawn, as groups differ in how many rows they have.
    """
    if set(values_a) != set(values_b):
        raise ValueError(f"both models must have the same metrics, got {sorted(values_a)} and {sorted(values_b)}")
    units = np.unique(np.ravel(groups), return_inverse=True)[1]
    count = int(units.max()) + 1
    generator = np.random.default_rng(seed)
    drawn = np.stack([np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(n)])
    found = {}
    for metric in values_a:
        a, b = (np.asarray(values[metric], np.float64) for values in (values_a, values_b))
        gaps, rows = a - b, ~np.isnan(a)
        if not np.array_equal(rows, ~np.isnan(b)):
            raise ValueError(f"metric {metric!r}: the two models have values of different rows")
        if not rows.any():
            found[metric] = Difference(*[float("nan")] * 4)
            continue
        sums = np.bincount(units[rows], gaps[rows], minlength=count)
        numbers = np.bincount(units[rows], minlength=count).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a replicate may have drawn no row
            means = (drawn @ sums) / (drawn @ numbers)
        low, high = np.nanquantile(means, (0.025, 0.975))
        found[metric] = Difference(float(gaps[rows].mean()), float(low), float(high), float(np.nanstd(means)))
    return found


def _log_loss_of_weights(labels: Any, logits: Any) -> Callable[[np.ndarray], float]:
    labels, logits = checked(labels, logits)
    losses = np.logaddexp(0, logits) - labels * logits
    return lambda weights: weighted_mean(losses, weights)


def _gauc_of_weights(labels: Any, scores: Any, groups: Any) -> Callable[[np.ndarray], float]:
    """A group drawn twice counts twice; its own AUC does not change. The weights are the groups'."""
    values, by_rows, _ = group_aucs(labels, scores, groups)
    used = ~np.isnan(values)
    return lambda weights: weighted_mean(values[used], by_rows[used] * weights[used])
