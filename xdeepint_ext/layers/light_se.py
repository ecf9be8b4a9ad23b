"""Light-SE: IntTower's weights of the fields of one tower."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.subspaces import check_field_matrix
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.initializers import fresh
from xdeepint_ext.utils.registry import register


@register
class LightSE(tf.keras.layers.Layer):
    """`E_f + a_f E_f`, where `a = softmax(W z)` over the fields and `z_f` is the mean of field f.

    Args:
      kernel_initializer: of W. Our choice: Glorot uniform.

    Weights:
      kernel: (F, F), `W[f, g]` multiplies z_g. Optimizer group `default`.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, F, K).

    Raises:
      ValueError: F or K is not static.

    Example:
      >>> LightSE()(tf.ones((8, 10, 16))).shape
      TensorShape([8, 10, 16])

    Source: Li et al., IntTower (arXiv 2210.09890), and the authors' code.
    """

    def __init__(self, kernel_initializer: Any = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        fields, _ = check_field_matrix(input_shape, 1, "LightSE")
        self.kernel = self.add_weight(name="kernel", shape=(fields, fields), initializer=fresh(self.kernel_initializer))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        scores = tf.matmul(tf.reduce_mean(inputs, axis=2), self.kernel, transpose_b=True)
        shares = tf.cast(tf.nn.softmax(at_least_float32(scores)), inputs.dtype)
        return inputs + shares[:, :, tf.newaxis] * inputs

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
        }
