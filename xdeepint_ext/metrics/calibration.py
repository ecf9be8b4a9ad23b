"""How far predicted probabilities agree with the frequencies seen."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xdeepint_ext.metrics.evaluation import checked, checked_weights

__all__ = ["CalibrationTable", "calibration_table", "expected_calibration_error"]

BINNINGS = ("mass", "width")


class CalibrationTable(NamedTuple):
    """One entry for each bin that holds rows.

    Attributes:
      weight: sum of the rows' weights.
      predicted: mean predicted probability.
      observed: mean label.
    """

    weight: np.ndarray
    predicted: np.ndarray
    observed: np.ndarray


def calibration_table(
    labels: Any, probabilities: Any, weights: Any = None, bins: int = 15, binning: str = "mass"
) -> CalibrationTable:
    """Predicted and observed frequency, bin by bin of the predicted probability.

    Args:
      labels: (n,), in [0, 1].
      probabilities: (n,), in [0, 1].
      weights: (n,) >= 0; None = 1.
      bins: how many; 15 as Guo et al.
      binning: `mass` = bins of equally many rows, our choice, as click probabilities crowd near 0; `width` = of equal
        width, as Guo et al.

    Returns:
      A `CalibrationTable`. Equal probabilities share a bin.

    Raises:
      ValueError: a probability is outside [0, 1], `bins` is not positive, or `binning` is unknown.
    """
    labels, probabilities = checked(labels, probabilities)
    weights = checked_weights(weights, len(labels))
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError(f"probabilities must be in [0, 1], got {probabilities.min()} .. {probabilities.max()}")
    if bins < 1:
        raise ValueError(f"bins must be >= 1, got {bins}")
    if binning not in BINNINGS:
        raise ValueError(f"binning must be one of {BINNINGS}, got {binning!r}")
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.quantile(probabilities, inner) if binning == "mass" else inner
    index = np.searchsorted(edges, probabilities, side="left")
    mass, predicted, observed = (
        np.bincount(index, weights * values, bins) for values in (np.ones(len(labels)), probabilities, labels)
    )
    filled = mass > 0
    return CalibrationTable(mass[filled], predicted[filled] / mass[filled], observed[filled] / mass[filled])


def expected_calibration_error(
    labels: Any, probabilities: Any, weights: Any = None, bins: int = 15, binning: str = "mass"
) -> float:
    """Mean distance between predicted and observed frequency over the bins: `sum_b (n_b / n) |y_b - p_b|`.

    Args:
      labels: see `calibration_table`.
      probabilities: see there.
      weights: see there.
      bins: see there.
      binning: see there.

    Returns:
      The error in [0, 1]; NaN without weight.

    Example:
      >>> expected_calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5])
      0.0

    Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), equation 3.
    """
    table = calibration_table(labels, probabilities, weights, bins, binning)
    total = table.weight.sum()
    return float((table.weight * np.abs(table.observed - table.predicted)).sum() / total) if total > 0 else float("nan")
