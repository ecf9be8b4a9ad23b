"""Deep Crossing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import ResidualUnits
from xdeepint_ext.models.baselines.parts import DeepModel
from xdeepint_ext.utils.registry import register


@register
class DeepCrossing(DeepModel):
    """`logit = w . x_L + b`, `x_l = relu(x_{l-1} + W_1 relu(W_0 x_{l-1} + b_0) + b_1)` on the concatenated embeddings.

    The embeddings are those of the other models: without the paper's relu behind them.

    Args:
      schema: a `Schema`.
      units: inner widths of the residual units. Default: the paper's five.
      width, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = DeepCrossing(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Shan et al., Deep Crossing (KDD 2016), §4.
    """

    def __init__(self, schema: Any, *, units: Sequence[int] = (512, 512, 256, 128, 64), **kwargs: Any) -> None:
        super().__init__(schema, units=units, **kwargs)

    def make_deep(self, units: Sequence[int], **options: Any) -> tf.keras.layers.Layer:
        return ResidualUnits(units, **options)
