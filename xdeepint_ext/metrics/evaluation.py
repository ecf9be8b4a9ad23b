"""Ranking and likelihood metrics of whole prediction arrays, in NumPy float64.

They are exact, unlike metrics that are updated batch by batch, and are meant for the evaluation of a finished model.
What cannot be computed, such as an AUC where all labels are equal, is NaN; the caller says why.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["GroupAUC", "auc", "gauc", "log_loss", "normalized_cross_entropy", "roc_curve"]

GROUP_WEIGHTS = ("rows", "positives", "uniform")


class GroupAUC(NamedTuple):
    """GAUC and what it rests on.

    Attributes:
      value: the mean of the groups' AUC; NaN where no group has both classes.
      groups: groups with both classes, which count.
      groups_left_out: groups with one class only, which have no AUC.
      rows_left_out: their rows.
    """

    value: float
    groups: int
    groups_left_out: int
    rows_left_out: int


def auc(labels: Any, scores: Any, weights: Any = None) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting one half.

    Args:
      labels: (n,), 0 or 1.
      scores: (n,), logits or probabilities.
      weights: (n,) >= 0; None = 1.

    Returns:
      The AUC; NaN where the labels (of weight > 0) are all equal.

    Raises:
      ValueError: lengths differ, a label is neither 0 nor 1, or a score or weight is not a number.

    Example:
      >>> auc([0, 1, 1, 0], [0.1, 0.4, 0.3, 0.3])
      0.875
    """
    return AUCOfWeights(labels, scores)(checked_weights(weights, len(np.ravel(labels))))


class AUCOfWeights:
    """The AUC of fixed labels and scores as a function of the rows' weights: the sorting is done once.

    Args:
      labels: see `auc`.
      scores: see `auc`.
    """

    def __init__(self, labels: Any, scores: Any) -> None:
        labels, scores = checked(labels, scores)
        _require_binary(labels)
        self._order = np.argsort(scores, kind="stable")
        ordered = scores[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self._positive = labels[self._order]

    def __call__(self, weights: np.ndarray) -> float:
        weights = weights[self._order]
        positives = np.add.reduceat(weights * self._positive, self._starts)
        negatives = np.add.reduceat(weights * (1 - self._positive), self._starts)
        pairs = positives.sum() * negatives.sum()
        if pairs == 0:
            return float("nan")
        below = np.cumsum(negatives) - negatives
        return float((positives * (below + negatives / 2)).sum() / pairs)


def gauc(labels: Any, scores: Any, groups: Any, weight: str = "rows", weights: Any = None) -> GroupAUC:
    """Mean of the AUC inside each group, such as a user; groups with one class only are left out, and counted.

    Args:
      labels: (n,), 0 or 1.
      scores: (n,), logits or probabilities.
      groups: (n,), a value for each group.
      weight: of a group in the mean: its `rows`, its `positives`, or `uniform`.
      weights: (n,) of the rows >= 0; None = 1.

    Returns:
      A `GroupAUC`.

    Raises:
      ValueError: as `auc`, or `weight` is unknown.

    Example:
      >>> gauc([0, 1, 1, 0, 1], [0.1, 0.2, 0.4, 0.3, 0.9], ["a", "a", "b", "b", "c"])
      GroupAUC(value=1.0, groups=2, groups_left_out=1, rows_left_out=1)
    """
    values, group_weights, rows = group_aucs(labels, scores, groups, weight, weights)
    used = ~np.isnan(values)
    total = group_weights[used].sum()
    mean = float((values[used] * group_weights[used]).sum() / total) if total > 0 else float("nan")
    return GroupAUC(mean, int(used.sum()), int((~used).sum()), int(rows[~used].sum()))


def group_aucs(
    labels: Any, scores: Any, groups: Any, weight: str = "rows", weights: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each group's AUC (NaN where it has one class only), its weight in the mean, and its rows; sorted by group.

    Args:
      labels: see `gauc`.
      scores: see there.
      groups: see there.
      weight: see there.
      weights: see there.
    """
    if weight not in GROUP_WEIGHTS:
        raise ValueError(f"weight must be one of {GROUP_WEIGHTS}, got {weight!r}")
    labels, scores = checked(labels, scores)
    _require_binary(labels)
    weights = checked_weights(weights, len(labels))
    names, index = np.unique(np.ravel(groups), return_inverse=True)
    if len(index) != len(labels):
        raise ValueError(f"groups must have one entry for each of the {len(labels)} labels, got {len(index)}")
    order = np.lexsort((scores, index))
    ordered_group, ordered_score = index[order], scores[order]
    new_group = np.r_[True, ordered_group[1:] != ordered_group[:-1]]
    ties = np.flatnonzero(new_group | np.r_[True, ordered_score[1:] != ordered_score[:-1]])
    positives = np.add.reduceat(weights[order] * labels[order], ties)
    negatives = np.add.reduceat(weights[order] * (1 - labels[order]), ties)
    group_of_tie = ordered_group[ties]
    below = np.cumsum(negatives) - negatives
    below -= below[np.searchsorted(group_of_tie, group_of_tie)]
    by_group = [np.bincount(group_of_tie, x, len(names)) for x in (positives, negatives)]
    wins = np.bincount(group_of_tie, positives * (below + negatives / 2), len(names))
    pairs = by_group[0] * by_group[1]
    values = np.divide(wins, pairs, out=np.full(len(names), np.nan), where=pairs > 0)
    group_weights = {"rows": by_group[0] + by_group[1], "positives": by_group[0], "uniform": np.ones(len(names))}
    return values, group_weights[weight], np.bincount(index, minlength=len(names))


def log_loss(labels: Any, logits: Any, weights: Any = None) -> float:
    """Mean binary cross-entropy: `mean(softplus(z) - y z)`.

    Args:
      labels: (n,), in [0, 1].
      logits: (n,), before the sigmoid.
      weights: (n,) >= 0; None = 1.

    Returns:
      The weighted mean; NaN without weight.

    Example:
      >>> round(log_loss([1, 0], [0.0, 0.0]), 4)
      0.6931
    """
    labels, logits = checked(labels, logits)
    return weighted_mean(np.logaddexp(0, logits) - labels * logits, checked_weights(weights, len(labels)))


def normalized_cross_entropy(labels: Any, logits: Any, weights: Any = None) -> float:
    """Log loss over the log loss of always predicting the labels' mean; below 1 is better than that.

    Args:
      labels: see `log_loss`.
      logits: see there.
      weights: see there.

    Returns:
      The ratio; NaN where the labels are all equal.

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook (ADKDD 2014), equation 1.
    """
    labels, logits = checked(labels, logits)
    weights = checked_weights(weights, len(labels))
    mean = weighted_mean(labels, weights)
    if not 0 < mean < 1:
        return float("nan")
    entropy = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean))
    return float(log_loss(labels, logits, weights) / entropy)


def roc_curve(labels: Any, scores: Any, weights: Any = None, max_points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates from (0, 0) to (1, 1), at most about `max_points` of them.

    Args:
      labels: see `auc`.
      scores: see there.
      weights: see there.
      max_points: of a longer curve, points at even distances along it are kept.

    Returns:
      (false positive rates, true positive rates); NaN where one class is absent.
    """
    labels, scores = checked(labels, scores)
    _require_binary(labels)
    weights = checked_weights(weights, len(labels))
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    true = np.r_[0.0, np.cumsum((weights * labels)[order])[ends]]
    false = np.r_[0.0, np.cumsum((weights * (1 - labels))[order])[ends]]
    with np.errstate(invalid="ignore", divide="ignore"):
        false, true = false / false[-1], true / true[-1]
    if len(true) > max_points:
        along = false + true
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], max_points)))
        kept = np.unique(np.r_[0, np.minimum(kept, len(true) - 1), len(true) - 1])
        false, true = false[kept], true[kept]
    return false, true


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """The mean; NaN where the weights sum to 0."""
    total = weights.sum()
    return float((values * weights).sum() / total) if total > 0 else float("nan")


def checked(labels: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as flat float64 arrays of one length > 0, all numbers.

    Raises:
      ValueError: they are not.
    """
    labels, scores = (np.asarray(x, np.float64).ravel() for x in (labels, scores))
    if len(labels) != len(scores) or not len(labels):
        raise ValueError(f"labels and scores must have one length > 0, got {len(labels)} and {len(scores)}")
    for name, values in (("labels", labels), ("scores", scores)):
        bad = np.flatnonzero(np.isnan(values))
        if len(bad):
            raise ValueError(f"{name} must be numbers, got NaN in {len(bad)} rows, first in row {bad[0]}")
    if labels.min() < 0 or labels.max() > 1:
        raise ValueError(f"labels must be in [0, 1], got {labels.min()} .. {labels.max()}")
    return labels, scores


def checked_weights(weights: Any, length: int) -> np.ndarray:
    """The rows' weights as a float64 array, ones for None.

    Raises:
      ValueError: another length, or a weight that is negative or not a number.
    """
    if weights is None:
        return np.ones(length)
    weights = np.asarray(weights, np.float64).ravel()
    if len(weights) != length:
        raise ValueError(f"weights must have one entry for each of the {length} labels, got {len(weights)}")
    if not (weights >= 0).all():
        raise ValueError("weights must be numbers >= 0")
    return weights


def _require_binary(labels: np.ndarray) -> None:
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {np.unique(labels[~np.isin(labels, (0, 1))])[:3]}")
