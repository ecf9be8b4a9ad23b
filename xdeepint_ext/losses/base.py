"""`RankingLoss`: the one place that owns dict labels, masks, sample weights and the mean's denominator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32

MEAN_REDUCTIONS = ("auto", "sum_over_batch_size")


def masked_sum(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Sum of the values where `mask` holds; 0 when nothing is valid. What is masked out never reaches the result."""
    return tf.reduce_sum(tf.where(mask, values, tf.zeros_like(values)))


class RankingLoss(tf.keras.losses.Loss):
    """Base of the losses: a subclass gives the loss of every unit (an example, or a list) and which units are valid.

    `y_true` may be a dict {"label": ..., side input: ...}. A label below 0 is padding or missing: it adds nothing to
    the sum or to the mean's denominator. The mean divides by the number of valid units, not by the sum of the weights,
    as Keras does; with no valid unit it is 0. Half-precision input is computed in float32.

    Args:
      reduction: a `tf.keras.losses.Reduction`; "none" returns the units' losses, 0 where invalid.
      name: of the loss.

    Subclasses override:
      side_inputs: names of the side inputs that the loss needs, from `group_ids`, `item_ids`, `stages`, `teacher`.
      units: (labels, logits, side) -> (losses, valid), of one shape.
    """

    side_inputs: tuple[str, ...] = ()

    def __init__(self, reduction: str = "auto", name: str | None = None) -> None:
        super().__init__(reduction=reduction, name=name)

    def units(self, labels: tf.Tensor, logits: tf.Tensor, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of every unit and whether it is valid."""
        raise NotImplementedError

    def call(self, y_true: Any, y_pred: tf.Tensor) -> tf.Tensor:
        """The losses of the units, 0 where invalid."""
        losses, valid = self._units(y_true, y_pred)
        return tf.where(valid, losses, tf.zeros_like(losses))

    def sums(self, y_true: Any, y_pred: tf.Tensor, sample_weight: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """(weighted sum of the valid units' losses, number of valid units), whose quotient is the mean.

        Under a strategy the sums of all replicas give the exact global mean.
        """
        losses, valid = self._units(y_true, y_pred)
        if sample_weight is not None:
            losses = losses * _like(sample_weight, losses, "sample_weight")
        return masked_sum(losses, valid), tf.reduce_sum(tf.cast(valid, losses.dtype))

    def __call__(self, y_true: Any, y_pred: tf.Tensor, sample_weight: Any = None) -> tf.Tensor:
        with tf.name_scope(self.name or "loss"):
            if self.reduction == "none":
                losses = self.call(y_true, y_pred)
                return losses if sample_weight is None else losses * _like(sample_weight, losses, "sample_weight")
            total, count = self.sums(y_true, y_pred, sample_weight)
            return total if self.reduction == "sum" else tf.math.divide_no_nan(total, count)

    def _units(self, y_true: Any, y_pred: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        side = dict(y_true) if isinstance(y_true, Mapping) else {"label": y_true}
        if "label" not in side:
            raise ValueError(f"{self.name}: y_true lacks 'label'; got {sorted(side)}")
        missing = [name for name in self.side_inputs if name not in side]
        if missing:
            raise ValueError(f"{self.name}: y_true lacks the side inputs {missing}; got {sorted(side)}")
        logits = at_least_float32(y_pred)
        return self.units(_like(side.pop("label"), logits, "y_true"), logits, side)


def _like(x: Any, y: tf.Tensor, argument: str) -> tf.Tensor:
    """`x` in the dtype of `y`, and in its shape where only a trailing axis of length 1 differs."""
    x = tf.cast(x, y.dtype)
    if x.shape.rank == y.shape.rank - 1 and y.shape[-1] == 1:
        x = x[..., tf.newaxis]
    elif x.shape.rank == y.shape.rank + 1 and x.shape[-1] == 1:
        x = tf.squeeze(x, axis=-1)
    if not x.shape.is_compatible_with(y.shape):
        raise ValueError(f"{argument} must have the shape of y_pred, {y.shape}, got {x.shape}")
    return x
