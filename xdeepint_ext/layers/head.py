"""Output layers: field matrix -> logits."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.dtypes import full_precision
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag


@register
class FieldLinearHead(tf.keras.layers.Layer):
    """A logit from the field matrix: `sum_k (sum_f w_f X[f, k] + b)`; the bias counts once per column, K times in all.

    Computes in float32 under mixed precision.

    Args:
      kernel_initializer: of w. Authors: Glorot uniform.
      kernel_regularizer: of w, added to the loss.

    Weights:
      kernel: (F, 1); bias: (1,); both in the optimizer group `interaction`, as in the paper.

    Call arguments:
      inputs: (B, F, K).

    Returns:
      Logits (B, 1).

    Example:
      >>> FieldLinearHead()(tf.ones((8, 10, 16))).shape
      TensorShape([8, 1])

    Source: xDeepInt (arXiv 2301.01089) §3.4, equation 7.
    """

    def __init__(
        self, kernel_initializer: Any = "glorot_uniform", kernel_regularizer: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**full_precision(kwargs))
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank != 3 or shape[1] is None or shape[2] is None:
            raise ValueError(f"FieldLinearHead: inputs must have shape (batch, fields, width), got {shape}")
        self.kernel = tag(
            self.add_weight(
                name="kernel",
                shape=(shape[1], 1),
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
            ),
            "interaction",
        )
        self.bias = tag(self.add_weight(name="bias", shape=(1,), initializer="zeros"), "interaction")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.reduce_sum(inputs, axis=2), self.kernel) + inputs.shape[2] * self.bias

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape([tf.TensorShape(input_shape)[0], 1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": tf.keras.regularizers.serialize(self.kernel_regularizer),
        }


@register
class SumHead(tf.keras.layers.Layer):
    """A logit from rows that are weights already: `sum_{f,k} X[f, k] + b`. Computes in float32 under mixed precision.

    Weights:
      bias: (1,), optimizer group `interaction`.

    Call arguments:
      inputs: (B, F, K).

    Returns:
      Logits (B, 1).

    Example:
      >>> float(SumHead()(tf.ones((1, 3, 1)))[0, 0])
      3.0
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**full_precision(kwargs))

    def build(self, input_shape: Any) -> None:
        self.bias = tag(self.add_weight(name="bias", shape=(1,), initializer="zeros"), "interaction")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(inputs, axis=[1, 2])[:, tf.newaxis] + self.bias

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape([tf.TensorShape(input_shape)[0], 1])
