"""Calibrations found from scores and labels: by the rate of down-sampling, Platt scaling, isotonic regression."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xdeepint_ext.serving.calibration import Calibration, CalibrationError

__all__ = ["METHODS", "fit_calibration", "population_weights"]

METHODS = ("none", "platt", "isotonic")
GROUP_ROWS = 20
"""Rows that isotonic regression starts from together at least."""
LEAST_SLOPE = 0.1
"""Of an isotonic calibration: a flatter line would make equal float32 numbers of different ones."""
_NEWTON_STEPS = 100
_HALVINGS = 40


def fit_calibration(
    method: str, labels: Any, logits: Any, weights: Any = None, negative_sampling_rate: float = 1.0
) -> Calibration:
    """The calibration of a model, from its logits on rows that it was not trained on.

    * The rate r of down-sampling, the share of the negatives that were kept, is corrected in closed form:
      `p / (p + (1 - p) / r)`, which is `z + ln r` in logits. Every negative row counts `1 / r` times in what follows.
    * `none`: nothing more.
    * `platt`: `a z + b`, which minimises the log loss of smoothed labels, `(n_1 + 1) / (n_1 + 2)` and `1 / (n_0 + 2)`.
    * `isotonic`: isotonic regression of the labels; a block becomes a knot at its mean logit, whose value is the logit
      of its mean label (and one more row of the overall mean, so that it is finite). Lines join the knots, with slope
      1 beyond them. Our choices: the regression starts from groups of 20 rows, and neighbours between which the
      line would be flatter than 0.1 are pooled, too. So the function is strictly increasing, and ties stay what they
      were; a regression's own steps would make ties, and an AUC that counts these one half.

    Args:
      method: one of the three.
      labels: (n,), 0 or 1.
      logits: (n,).
      weights: (n,) >= 0; None = 1.
      negative_sampling_rate: r, in (0, 1].

    Returns:
      The `Calibration`.

    Raises:
      CalibrationError: there is no row, all labels (of weight > 0) or all logits are equal, a logit or weight is not
        finite, or the scores rank the rows the wrong way round.
      ValueError: the method is unknown, or the rate out of range.

    Example:
      >>> fit_calibration("none", [0, 1], [0.0, 1.0], negative_sampling_rate=0.5)([0.0]).round(3).tolist()
      [-0.693]

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook (ADKDD 2014), section 6.3; Platt,
    Probabilistic Outputs for Support Vector Machines (1999); Zadrozny and Elkan (KDD 2002).
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if not 0 < negative_sampling_rate <= 1:
        raise ValueError(f"negative_sampling_rate must be in (0, 1], got {negative_sampling_rate}")
    shift = math.log(negative_sampling_rate)
    if method == "none":
        return Calibration((0.0,), (shift,))
    labels, logits, weights = _checked(labels, logits, weights)
    weights = population_weights(labels, weights, negative_sampling_rate)
    fit = {"platt": _platt, "isotonic": _isotonic}[method]
    return fit(labels, logits + shift, weights).behind_shift(shift)


def population_weights(labels: np.ndarray, weights: Any, negative_sampling_rate: float) -> np.ndarray:
    """(n,) float64: what each row stands for before negatives were down-sampled."""
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    return weights * np.where(labels == 0, 1 / negative_sampling_rate, 1.0)


def _checked(labels: Any, logits: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, logits = (np.ravel(np.asarray(values, np.float64)) for values in (labels, logits))
    weights = np.ones(len(labels)) if weights is None else np.ravel(np.asarray(weights, np.float64))
    if not len(labels) == len(logits) == len(weights):
        raise ValueError(
            f"labels, logits and weights must be as many, got {len(labels)}, {len(logits)} and {len(weights)}"
        )
    for name, values in (("logits", logits), ("weights", weights)):
        wrong = int((~np.isfinite(values)).sum())
        if wrong:
            raise CalibrationError(f"{wrong} of {len(values)} {name} are not finite")
    if weights.min(initial=0) < 0:
        raise CalibrationError(f"weights must be >= 0, got {weights.min()}")
    labels, logits, weights = (values[weights > 0] for values in (labels, logits, weights))
    if not len(labels):
        raise CalibrationError("there is no row with a label and a weight > 0")
    if not np.isin(labels, (0, 1)).all():
        raise CalibrationError(f"labels must be 0 or 1, got {labels[~np.isin(labels, (0, 1))][0]}")
    if labels.min() == labels.max():
        raise CalibrationError(f"all {len(labels)} labels are {labels[0]:g}: nothing can be learned of probabilities")
    if logits.min() == logits.max():
        raise CalibrationError(f"all {len(logits)} logits are {logits[0]:g}: the model tells no row from another")
    return labels, logits, weights


def _platt(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> Calibration:
    ones, zeros = (float(weights[labels == label].sum()) for label in (1, 0))
    # In units of a row of mean weight, so that the smoothing does not depend on the weights' scale.
    unit = float(weights.mean())
    targets = np.where(labels == 1, (ones / unit + 1) / (ones / unit + 2), 1 / (zeros / unit + 2))
    centre, scale = float(np.average(logits, weights=weights)), float(logits.std())
    design = np.stack([(logits - centre) / scale, np.ones(len(logits))])

    def loss(theta: np.ndarray) -> float:
        f = theta @ design
        return float((weights * (np.logaddexp(0, f) - targets * f)).sum())

    theta = np.array([scale, centre])
    best = loss(theta)
    for _ in range(_NEWTON_STEPS):
        p = np.exp(-np.logaddexp(0, -(theta @ design)))
        gradient = design @ (weights * (p - targets))
        hessian = (design * (weights * p * (1 - p))) @ design.T
        step = np.linalg.solve(hessian + 1e-12 * np.trace(hessian) * np.eye(2), gradient)
        size = next((2.0**-i for i in range(_HALVINGS) if loss(theta - 2.0**-i * step) < best), 0.0)
        if not size:
            break
        theta = theta - size * step
        best = loss(theta)
    slope = float(theta[0]) / scale
    if not slope > 0:
        raise CalibrationError(
            f"Platt scaling found the slope {slope:g}: the scores rank these rows the wrong way round, or not at all"
        )
    return Calibration((centre,), (float(theta[1]),), slope, slope, "platt")


def _isotonic(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> Calibration:
    order = np.argsort(logits, kind="stable")
    labels, logits, weights = labels[order], logits[order], weights[order]
    _, first, counts = np.unique(logits, return_index=True, return_counts=True)
    group = np.repeat(first // GROUP_ROWS, counts)  # rows that tie stay together
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    sums = [np.add.reduceat(weights * values, starts) for values in (np.ones(len(labels)), logits, labels)]
    row, mean = float(weights.mean()), float(np.average(labels, weights=weights))

    def knot(mass: float, x: float, ones: float) -> tuple[float, float]:
        share = (ones + row * mean) / (mass + row)
        return x / mass, math.log(share / (1 - share))

    blocks: list[tuple[float, float, float]] = []
    knots: list[tuple[float, float]] = []
    for mass, x, ones in zip(*(found.tolist() for found in sums), strict=True):
        block = (mass, x, ones)
        here = knot(*block)
        while blocks and here[1] - knots[-1][1] < LEAST_SLOPE * (here[0] - knots[-1][0]):
            before = blocks.pop()
            knots.pop()
            block = (block[0] + before[0], block[1] + before[1], block[2] + before[2])
            here = knot(*block)
        blocks.append(block)
        knots.append(here)
    if len(knots) == 1:
        raise CalibrationError(
            "isotonic regression found one block only: the scores rank these rows the wrong way round, or not at all"
        )
    xs, ys = zip(*knots, strict=True)
    return Calibration(xs, ys, method="isotonic")
