"""Losses of one example at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import RankingLoss, functional
from xdeepint_ext.losses.masks import masked
from xdeepint_ext.utils.registry import register


@register
class LogLoss(RankingLoss):
    """Binary cross-entropy on logits: `mean(softplus(z) - y z)` over the examples whose label is not below 0.

    With a `pos_weight` w it is `mean(w y softplus(-z) + (1 - y) softplus(z))`.

    Args:
      pos_weight: w > 0, of the positive part: of a target among M sampled candidates M, for one to weigh as much as all
        of the candidates together. It moves the logits by ln w, so that they are no longer calibrated. Default 1.
      reduction: a `tf.keras.losses.Reduction`.
      name: of the loss.

    Call arguments:
      y_true: labels in [0, 1], (B,) or (B, 1); below 0 = missing.
      y_pred: logits, (B,) or (B, 1).
      sample_weight: (B,) or (B, 1).

    Raises:
      ValueError: pos_weight is not above 0, or not finite.

    Example:
      >>> round(float(LogLoss()(tf.constant([1.0, 0.0]), tf.constant([0.0, 0.0]))), 4)
      0.6931

    Source: xDeepInt (arXiv 2301.01089), equation 8.
    """

    def __init__(self, pos_weight: float = 1.0, reduction: str = "auto", name: str = "log_loss") -> None:
        super().__init__(reduction=reduction, name=name)
        if not (pos_weight > 0 and math.isfinite(pos_weight)):
            raise ValueError(f"pos_weight must be > 0 and finite, got {pos_weight}")
        self.pos_weight = float(pos_weight)

    def units(self, labels: tf.Tensor, logits: tf.Tensor, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        valid = tf.logical_not(labels < 0)
        logits = masked(logits, valid)
        if self.pos_weight == 1:  # in fewer passes
            return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), valid
        return tf.nn.weighted_cross_entropy_with_logits(labels, logits, self.pos_weight), valid

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pos_weight": self.pos_weight}


@register
def log_loss(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `LogLoss`: the scalar mean. `group_ids` has no effect; `options` are the constructor's."""
    return functional(LogLoss, y_true, y_pred, sample_weight, options)
