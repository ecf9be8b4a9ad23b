"""How far the distribution of a column is from a reference: one number a measure."""

from __future__ import annotations

import numpy as np

from xdeepint_ext.serving.column_statistics import CATEGORICAL, ColumnCollector, ColumnStatistics

__all__ = ["MEASURES", "Measured", "jensen_shannon", "measure", "population_stability_index"]

MEASURES = ("linf", "js", "psi", "missing", "unknown")
"""L-infinity, Jensen-Shannon, population stability index; differences of the missing and the unknown rate."""
OTHER = "(all others)"

Measured = dict[str, tuple[float, str]]
"""Measure -> (value, what it comes from)."""


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits: `KL(p | m)/2 + KL(q | m)/2` with `m = (p + q)/2`; 0 = alike, 1 = disjoint.

    Args:
      p: (k,) shares.
      q: (k,) shares.

    Example:
      >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
      1.0

    Source: Lin, Divergence Measures Based on the Shannon Entropy (IEEE Transactions on Information Theory, 1991).
    """
    middle = (p + q) / 2

    def half(x: np.ndarray) -> float:
        some = x > 0
        return float((x[some] * np.log2(x[some] / middle[some])).sum()) / 2

    return half(p) + half(q)


def population_stability_index(p: np.ndarray, q: np.ndarray) -> float:
    """`sum (q - p) ln(q / p)` over bins of counts p and q, each with half a value more, so that none is empty.

    Args:
      p: (k,) counts of the reference.
      q: (k,) counts of the sample.

    Example:
      >>> population_stability_index(np.array([5.0, 5.0]), np.array([50.0, 50.0]))
      0.0

    Source: Siddiqi, Credit Risk Scorecards (2006), chapter 6.
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (p, q))
    return float(((q - p) * np.log(q / p)).sum())


def measure(reference: ColumnStatistics, sample: ColumnCollector) -> Measured:
    """All that can be said of a column: of two without values, only how many are missing.

    Args:
      reference: of the column.
      sample: the same column elsewhere.
    """
    missing = sample.missing / sample.rows
    found = {"missing": _rates("missing", reference.missing_rate, missing)}
    if reference.unknown_rate is not None and sample.unknown is not None:
        here = sample.unknown[0] / max(sample.unknown[1], 1)
        found["unknown"] = _rates("unknown", reference.unknown_rate, here)
    if reference.values and sample.values:
        of_kind = _categorical if reference.kind == CATEGORICAL else _numeric
        found |= of_kind(reference, sample)
    return found


def _rates(name: str, reference: float, sample: float) -> tuple[float, str]:
    return abs(sample - reference), f"{name} {sample:.2%}, reference {reference:.2%}"


def _categorical(reference: ColumnStatistics, sample: ColumnCollector) -> Measured:
    """Over the reference's most frequent values, and all others together."""
    counts = sample.counts()
    names = [*reference.top, OTHER]
    p, q = (np.array([of.get(name, 0.0) for name in reference.top]) for of in (reference.top, counts))
    p, q = np.append(p, max(reference.values - p.sum(), 0)), np.append(q, sample.values - q.sum())
    p, q = p / p.sum(), q / q.sum()
    place = int(np.argmax(np.abs(p - q)))
    moved = f"value {names[place]!r} {q[place]:.2%}, reference {p[place]:.2%}"
    return {"linf": (float(np.abs(p - q).max()), moved), "js": (jensen_shannon(p, q), moved)}


def _numeric(reference: ColumnStatistics, sample: ColumnCollector) -> Measured:
    """Over the reference's quantiles."""
    if not reference.quantiles:
        return {}
    inner = np.array([low for low, _, _ in reference.quantiles[1:]])
    p = np.array([count for _, _, count in reference.quantiles])
    numbers = sample.numbers()
    q = np.bincount(np.searchsorted(inner, numbers, side="right"), minlength=len(p)).astype(np.float64)
    middle = f"median {np.median(numbers):.6g}, reference {reference.moments['median']:.6g}"
    return {
        "psi": (population_stability_index(p, q), middle),
        "js": (jensen_shannon(p / p.sum(), q / q.sum()), middle),
    }
