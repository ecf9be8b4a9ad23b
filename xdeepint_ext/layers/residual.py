"""Dense residual units: the layers of Deep Crossing."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.mlp import DenseStack
from xdeepint_ext.utils.registry import register


@register
class ResidualUnits(DenseStack):
    """Residual units one after the other: `x_l = a(x_{l-1} + a(x_{l-1} W_0 + b_0) W_1 + b_1)`, then dropout.

    Args:
      units: width between the two products of each unit. Paper: five of 512, 512, 256, 128, 64.
      activation: a. Paper: relu.
      dropout: rate after every unit. Paper: none.
      kernel_regularizer: of every W. Paper: none.

    Weights:
      as of dense layers, W_0 (n, units[l]), b_0, W_1 (units[l], n), b_1 of each unit, in the optimizer group `default`.

    Call arguments:
      inputs: (B, n); other ranks are flattened to it.
      training: whether dropout acts.

    Returns:
      (B, n).

    Raises:
      ValueError: there are no units, one is < 1, or dropout is not in [0, 1).

    Example:
      >>> ResidualUnits([512, 256])(tf.ones((8, 160))).shape
      TensorShape([8, 160])

    Source: Shan et al., Deep Crossing (KDD 2016), §4.3.
    """

    def build(self, input_shape: Any) -> None:
        size = tf.TensorShape(input_shape)[1:].num_elements()
        if size is None:
            raise ValueError(f"ResidualUnits: inputs must be static but for the batch, got {input_shape}")
        options = {"kernel_regularizer": self.kernel_regularizer, "dtype": self._dtype_policy}
        self.inner = [
            tf.keras.layers.Dense(width, self.activation, name=f"inner_{index}", **options)
            for index, width in enumerate(self.units)
        ]
        self.outer = [
            tf.keras.layers.Dense(size, name=f"outer_{index}", **options) for index, _ in enumerate(self.units)
        ]
        for inner, outer, width in zip(self.inner, self.outer, self.units, strict=True):
            for layer, inputs in ((inner, size), (outer, width)):
                with tf.name_scope(layer.name):
                    layer.build((None, inputs))
        self._dropout = tf.keras.layers.Dropout(self.dropout, dtype=self._dtype_policy)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = tf.reshape(inputs, (-1, inputs.shape[1:].num_elements()))
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = self._dropout(self.activation(x + outer(inner(x))), training=training)
        return x
