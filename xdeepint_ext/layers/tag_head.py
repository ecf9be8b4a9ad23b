"""The layer behind an encoder that scores tokens."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32, full_precision
from xdeepint_ext.utils.registry import register


@register
class TokenHead(tf.keras.layers.Layer):
    """`W2 dropout(relu(W1 x + b1)) + b2`, or with `hidden_units=0` just `W2 x + b2`. Computes in float32 or wider.

    Args:
      units: values of a token.
      hidden_units: width between; None = min(width of the input, 1024), TASE's. 0 = linear, as in MultiSpanQA's tagger.
      dropout: of the hidden values; TASE's 0.1.

    Call arguments:
      inputs: (..., width).
      training: whether dropout is on.

    Returns:
      (..., units), logits.

    Raises:
      ValueError: units or hidden_units is out of range.

    Example:
      >>> TokenHead(3)(tf.ones((2, 5, 8))).shape
      TensorShape([2, 5, 3])

    Source: Segal et al., A Simple and Effective Model for Answering Multi-span Questions, EMNLP 2020.
    """

    def __init__(self, units: int, hidden_units: int | None = None, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**full_precision(kwargs))
        if units < 1 or (hidden_units or 0) < 0:
            raise ValueError(f"units must be >= 1 and hidden_units >= 0, got {units} and {hidden_units}")
        self.units = units
        self.hidden_units = hidden_units
        self.dropout = dropout

    def build(self, input_shape: Any) -> None:
        width = int(input_shape[-1])
        hidden = min(width, 1024) if self.hidden_units is None else self.hidden_units
        self.hidden = tf.keras.layers.Dense(hidden, "relu", dtype=self.dtype, name="hidden") if hidden else None
        self.drop = tf.keras.layers.Dropout(self.dropout, dtype=self.dtype)
        self.logits = tf.keras.layers.Dense(self.units, dtype=self.dtype, name="logits")
        if self.hidden is not None:
            self.hidden.build(input_shape)
        self.logits.build((*input_shape[:-1], hidden or width))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = at_least_float32(inputs)
        if self.hidden is not None:
            x = self.drop(self.hidden(x), training=training)
        return self.logits(x)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "hidden_units": self.hidden_units,
            "dropout": self.dropout,
        }
