"""A stack of dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.registry import register


class DenseStack(tf.keras.layers.Layer):
    """Base of the layers that stack dense layers: their arguments.

    Args:
      units: a width for each layer.
      activation, dropout, kernel_regularizer: of all layers.
    """

    def __init__(
        self,
        units: Sequence[int],
        activation: Any = "relu",
        dropout: float = 0.0,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not units or any(u < 1 for u in units):
            raise ValueError(f"{type(self).__name__}: units must be widths > 0, got {list(units)}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"{type(self).__name__}: dropout must be in [0, 1), got {dropout}")
        self.units = list(units)
        self.activation = tf.keras.activations.get(activation)
        self.dropout = dropout
        self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": tf.keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "kernel_regularizer": tf.keras.regularizers.serialize(self.kernel_regularizer),
        }


@register
class MLP(DenseStack):
    """Dense layers one after the other: `x_l = a(x_{l-1} W_l + b_l)`, each followed by dropout.

    Args:
      units: width of each layer.
      activation: a. Our choice: relu.
      dropout: rate after every layer.
      kernel_regularizer: of every W. Paper's baselines: L2 of 1e-4.
      linear_output: whether the last layer has neither activation nor dropout.

    Call arguments:
      inputs: (B, n); other ranks are flattened to it.
      training: whether dropout acts.

    Returns:
      (B, units[-1]).

    Example:
      >>> MLP([400, 400, 400])(tf.ones((8, 160))).shape
      TensorShape([8, 400])
    """

    def __init__(
        self,
        units: Sequence[int],
        activation: Any = "relu",
        dropout: float = 0.0,
        kernel_regularizer: Any = None,
        linear_output: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, dropout, kernel_regularizer, **kwargs)
        self.linear_output = linear_output
        policy = self._dtype_policy
        options = {"kernel_regularizer": self.kernel_regularizer, "dtype": policy}
        self._layers_in_order: list[tf.keras.layers.Layer] = [tf.keras.layers.Flatten(dtype=policy)]
        for number, width in enumerate(self.units, 1):
            plain = linear_output and number == len(self.units)
            self._layers_in_order.append(tf.keras.layers.Dense(width, None if plain else self.activation, **options))
            if self.dropout and not plain:
                self._layers_in_order.append(tf.keras.layers.Dropout(self.dropout, dtype=policy))

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = inputs
        for layer in self._layers_in_order:
            x = layer(x, training=training) if isinstance(layer, tf.keras.layers.Dropout) else layer(x)
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "linear_output": self.linear_output}
