"""A subclass of a loss: log loss in which users with many examples do not drown the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses import RankingLoss


@tf.keras.utils.register_keras_serializable(package="click_model")
class GroupBalancedLogLoss(RankingLoss):
    """Weighted mean of the examples' log losses; an example of a group with c examples has a weight like `c^-power`.

    c counts the group's valid examples in the batch, and the weights are scaled to a mean of 1. With `power=1` every
    group counts the same, with `power=0` every example.

    The schema's feature with the role `group` arrives as the side input `group_ids`; dict labels, missing labels,
    sample weights and reductions are the base class's business.

    Args:
      power: see above.
      reduction: a `tf.keras.losses.Reduction`.
      name: of the loss.

    Call arguments:
      y_true: {"label": (B,) or (B, 1), "group_ids": (B,)}.
      y_pred: logits, (B,) or (B, 1).
    """

    side_inputs = ("group_ids",)

    def __init__(
        self, power: float = 1.0, reduction: str = "auto", name: str | None = "group_balanced_log_loss"
    ) -> None:
        super().__init__(reduction=reduction, name=name)
        self.power = power

    def units(self, labels: tf.Tensor, logits: tf.Tensor, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        valid = tf.logical_not(labels < 0)  # a NaN is valid, so that it shows
        counted = tf.cast(tf.reshape(valid, [-1]), logits.dtype)
        _, group = tf.unique(tf.reshape(side["group_ids"], [-1]))
        size = tf.gather(tf.math.unsorted_segment_sum(counted, group, tf.size(group)), group)
        weights = counted * tf.maximum(size, 1.0) ** -self.power
        weights *= tf.math.divide_no_nan(tf.reduce_sum(counted), tf.reduce_sum(weights))
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        return losses * tf.reshape(weights, tf.shape(logits)), valid

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}
