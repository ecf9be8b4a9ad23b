"""Losses of one example at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import RankingLoss, functional
from xdeepint_ext.losses.masks import masked
from xdeepint_ext.utils.registry import register


@register
class LogLoss(RankingLoss):
    """Binary cross-entropy on logits: `mean(softplus(z) - y z)` over the examples whose label is not below 0.

    Args:
      reduction: a `tf.keras.losses.Reduction`.
      name: of the loss.

    Call arguments:
      y_true: labels in [0, 1], (B,) or (B, 1); below 0 = missing.
      y_pred: logits, (B,) or (B, 1).
      sample_weight: (B,) or (B, 1).

    Example:
      >>> round(float(LogLoss()(tf.constant([1.0, 0.0]), tf.constant([0.0, 0.0]))), 4)
      0.6931

    Source: xDeepInt (arXiv 2301.01089), equation 8.
    """

    def __init__(self, reduction: str = "auto", name: str = "log_loss") -> None:
        super().__init__(reduction=reduction, name=name)

    def units(self, labels: tf.Tensor, logits: tf.Tensor, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        valid = tf.logical_not(labels < 0)
        logits = masked(logits, valid)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), valid


@register
def log_loss(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `LogLoss`: the scalar mean. `group_ids` has no effect; `options` are the constructor's."""
    return functional(LogLoss, y_true, y_pred, sample_weight, options)
