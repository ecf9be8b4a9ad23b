"""The cross layer of DCN's first version."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag


@register
class VectorCross(tf.keras.layers.Layer):
    """Cross layers with a vector each: `x_l = x_0 (w_l . x_{l-1}) + b_l + x_{l-1}`, l = 1 .. L.

    The second version's, with a matrix each, is `tensorflow_recommenders.layers.feature_interaction.Cross`.

    Args:
      num_layers: L >= 0; 0 returns the input.

    Weights:
      kernels, biases: lists of L variables (n, 1) and (n,), in the optimizer group `interaction`.

    Call arguments:
      inputs: (B, n).

    Returns:
      (B, n).

    Raises:
      ValueError: num_layers is negative, or the input is not (B, n).

    Example:
      >>> VectorCross(2)(tf.ones((8, 160))).shape
      TensorShape([8, 160])

    Source: Wang et al., Deep & Cross Network (arXiv 1708.05123), equation 3.
    """

    def __init__(self, num_layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_layers < 0:
            raise ValueError(f"VectorCross: num_layers must be >= 0, got {num_layers}")
        self.num_layers = num_layers

    def build(self, input_shape: Any) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank != 2 or shape[1] is None:
            raise ValueError(f"VectorCross: inputs must have shape (batch, n), n static; got {shape}")
        self.kernels, self.biases = [], []
        for layer in range(self.num_layers):
            kernel = self.add_weight(name=f"kernel_{layer}", shape=(shape[1], 1), initializer="glorot_uniform")
            bias = self.add_weight(name=f"bias_{layer}", shape=(shape[1],), initializer="zeros")
            self.kernels.append(tag(kernel, "interaction"))
            self.biases.append(tag(bias, "interaction"))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = inputs
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            x = inputs * tf.matmul(x, kernel) + bias + x
        return x

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_layers": self.num_layers}
