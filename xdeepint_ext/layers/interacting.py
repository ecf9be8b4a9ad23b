"""Self-attention over fields: the interacting layer of AutoInt."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.subspaces import check_field_matrix
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.initializers import fresh
from xdeepint_ext.utils.registry import register


@register
class InteractingLayer(tf.keras.layers.Layer):
    """`y_m = relu([z_m^1 .. z_m^H] + v_m W_res)`, where head h of field m sees all fields.

    `z_m^h = sum_k a_mk (v_k W_value)`, where a_m is the softmax over k of `<v_m W_query, v_k W_key>`.

    Args:
      num_heads: H. Paper: 2.
      head_dim: d, columns of a head. Paper: 32.
      residual: whether `v W_res` is added. Paper: True.
      scaled: whether the softmax's arguments are divided by sqrt(d). Paper: False. (Authors' code: True, with a relu on
        each of the four products and a normalisation behind, which the paper lacks.)
      kernel_initializer: of all W. Our choice: Glorot uniform.

    Weights:
      query, key, value: (K, H d), head h owns columns h d onwards; residual_kernel: (K, H d). Optimizer group
        `default`: FTRL pulls products of weights to zero.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, F, H d).

    Raises:
      ValueError: an argument is below 1, or F or K is not static.

    Example:
      >>> InteractingLayer(num_heads=2, head_dim=8)(tf.ones((4, 10, 16))).shape
      TensorShape([4, 10, 16])

    Source: Song et al., AutoInt (arXiv 1810.11921), equations 5 to 8.
    """

    def __init__(
        self,
        num_heads: int = 2,
        head_dim: int = 32,
        residual: bool = True,
        scaled: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for argument, value in {"num_heads": num_heads, "head_dim": head_dim}.items():
            if value < 1:
                raise ValueError(f"InteractingLayer: {argument} must be >= 1, got {value}")
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.residual = residual
        self.scaled = scaled
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        _, width = check_field_matrix(input_shape, 1, "InteractingLayer")

        def kernel(name: str) -> tf.Variable:
            shape = (width, self.num_heads * self.head_dim)
            return self.add_weight(name=name, shape=shape, initializer=fresh(self.kernel_initializer))

        self.query, self.key, self.value = kernel("query"), kernel("key"), kernel("value")
        self.residual_kernel = kernel("residual_kernel") if self.residual else None
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        query, key, value = (self._heads(_project(inputs, kernel)) for kernel in (self.query, self.key, self.value))
        scores = at_least_float32(tf.matmul(query, key, transpose_b=True))
        if self.scaled:
            scores /= self.head_dim**0.5
        attention = tf.cast(tf.nn.softmax(scores), value.dtype)
        joined = tf.transpose(tf.matmul(attention, value), (0, 2, 1, 3))
        y = tf.reshape(joined, (-1, inputs.shape[1], self.num_heads * self.head_dim))
        return tf.nn.relu(y if self.residual_kernel is None else y + _project(inputs, self.residual_kernel))

    def _heads(self, x: tf.Tensor) -> tf.Tensor:
        """(B, F, H d) -> (B, H, F, d)."""
        return tf.transpose(tf.reshape(x, (-1, x.shape[1], self.num_heads, self.head_dim)), (0, 2, 1, 3))

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        batch, fields, _ = tf.TensorShape(input_shape)
        return tf.TensorShape([batch, fields, self.num_heads * self.head_dim])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "residual": self.residual,
            "scaled": self.scaled,
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
        }


def _project(x: tf.Tensor, kernel: Any) -> tf.Tensor:
    """(B, F, K) times (K, n)."""
    return tf.einsum("bfk,kn->bfn", x, kernel)
