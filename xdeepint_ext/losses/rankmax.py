"""Rankmax and its adaptive margin: coarse-grained losses that stop caring once the rest is far enough below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import Normalized, functional
from xdeepint_ext.losses.lists import Lists
from xdeepint_ext.losses.masks import masked
from xdeepint_ext.utils.registry import register

MARGINS = ("label_gap", "constant")


@register
class RankmaxLoss(Normalized):
    """Rankmax: `sum_{j: y_j > 0} log sum_i max(0, z_i - z_j + 1)`; over lists with a positive, the mean.

    The sum over i includes j itself, which gives 1. A term is 0, with gradient 0, once all others are 1 below.

    Args:
      normalize: divide by the list's number of positives; False is the sum, as printed.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: labels or grades (B, L): above 0 = positive; below 0 = padding.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the positive; or (B,).

    Example:
      >>> round(float(RankmaxLoss()([[1.0, 0.0, 0.0, 0.0]], [[2.0, 0.5, 1.8, -1.0]])), 4)
      0.5878

    Source: Kong et al., Rankmax (NeurIPS 2020); as printed in RankTower (arXiv 2407.12385).
    """

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        losses, number = _hinges(lists, _constant_margin(1.0))
        return self.normalized(losses, number), number > 0


@register
def rankmax(y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any) -> tf.Tensor:
    """Functional form of `RankmaxLoss`: the scalar mean. `options` are the constructor's."""
    return functional(RankmaxLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


@register
class AdaptiveMarginRankmaxLoss(Normalized):
    """Rankmax on grades: `sum_{j: y_j > 0} log(1 + sum_{i: y_i < y_j} max(0, z_i - z_j + delta (y_j - y_i)))`.

    Only lower-graded items compete. Equals `RankmaxLoss` for binary labels with one positive and delta = 1.

    Args:
      margin: `label_gap`, the formula above, our reading of "adaptive margin", which the slides do not define; or
        `constant`, `log sum_i max(0, z_i - z_j + delta)` over all items, which they print (with delta = 1).
      delta: > 0, logits of margin a grade.
      normalize: divide by the list's number of positives; False is the sum, as printed.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: grades (B, L): above 0 = positive; below 0 = padding.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the positive; or (B,).

    Raises:
      ValueError: margin is unknown, or delta not above 0.

    Example:
      >>> round(float(AdaptiveMarginRankmaxLoss()([[1.0, 0.0, 0.0, 0.0]], [[2.0, 0.5, 1.8, -1.0]])), 4)
      0.5878

    Source: RankTower (arXiv 2407.12385), coarse-grained loss.
    """

    def __init__(self, margin: str = "label_gap", delta: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        if margin not in MARGINS:
            raise ValueError(f"margin must be one of {MARGINS}, got {margin!r}")
        if not delta > 0:
            raise ValueError(f"delta must be > 0, got {delta}")
        self.margin = margin
        self.delta = delta

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        make = _label_gap if self.margin == "label_gap" else _constant_margin
        losses, number = _hinges(lists, make(self.delta))
        return self.normalized(losses, number), number > 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin, "delta": self.delta}


@register
def adaptive_margin_rankmax(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `AdaptiveMarginRankmaxLoss`: the scalar mean. `options` are the constructor's."""
    return functional(AdaptiveMarginRankmaxLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


def _hinges(lists: Lists, log_sum: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The sum over the positives of every list, and their number."""
    values = [lists.labels, lists.logits]
    positive = lists.labels > 0
    terms = lists.pairs(log_sum, values, values, only=positive)
    return lists.sum(lists.weights * terms), lists.count(positive)


def _constant_margin(delta: float) -> Any:
    def log_sum(together: tf.Tensor, y: tf.Tensor, z: tf.Tensor, others_y: tf.Tensor, others_z: tf.Tensor) -> tf.Tensor:
        total = tf.reduce_sum(masked(tf.nn.relu(others_z - z + delta), together), axis=-1)
        # A row that is no positive has no pair, and log 0 would spoil the gradient.
        return tf.math.log(tf.where(total > 0, total, tf.ones_like(total)))

    return log_sum


def _label_gap(delta: float) -> Any:
    def log_sum(together: tf.Tensor, y: tf.Tensor, z: tf.Tensor, others_y: tf.Tensor, others_z: tf.Tensor) -> tf.Tensor:
        here = tf.logical_and(together, others_y < y)
        hinges = tf.nn.relu(others_z - z + delta * (y - others_y))
        return tf.math.log1p(tf.reduce_sum(masked(hinges, here), axis=-1))

    return log_sum
