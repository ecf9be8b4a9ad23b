"""A block of causal self-attention over a sequence."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.registry import register


@register
class CausalSelfAttention(tf.keras.layers.Layer):
    """`y = x + A(norm(x))`, then `y + F(norm(y))`: attention to no later place, and two dense layers.

    Head h of place i weighs place j <= i by the softmax of `<q_i, k_j> / sqrt(d) + b_h[i - j]`: how long ago something
    was is what the places have in common, so a bias of the distance stands for embeddings of places. As no place sees a
    later one, what stands behind a sequence's end changes nothing before it.

    Args:
      num_heads: h, a divisor of K.
      hidden: width of F's first layer; None = K. SASRec: K.
      dropout: rate behind A and F, and of the attention's weights. SASRec: 0.2 to 0.5.

    Weights:
      query, key, value, output: (K, K); distance_bias: (num_heads, H); kernels and biases of F; scales and offsets of
      the two normalisations. Optimizer group `default`.

    Call arguments:
      inputs: (B, H, K), H and K static.
      training: whether dropout acts.

    Returns:
      (B, H, K).

    Raises:
      ValueError: the heads do not divide K, an argument is out of range, or H or K is not static.

    Example:
      >>> CausalSelfAttention(num_heads=2)(tf.ones((3, 5, 8))).shape
      TensorShape([3, 5, 8])

    Source: Kang and McAuley, SASRec (arXiv 1808.09781), §III, with the normalisations before the parts, and the bias of
    distances of Raffel et al. (arXiv 1910.10683), §2.1, one for each distance, in place of embeddings of places.
    """

    def __init__(self, num_heads: int = 2, hidden: int | None = None, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for argument, value in {"num_heads": num_heads, "hidden": hidden}.items():
            if value is not None and value < 1:
                raise ValueError(f"CausalSelfAttention: {argument} must be >= 1, got {value}")
        if not 0 <= dropout < 1:
            raise ValueError(f"CausalSelfAttention: dropout must be in [0, 1), got {dropout}")
        self.num_heads = num_heads
        self.hidden = hidden
        self.dropout = dropout
        policy = self._dtype_policy
        self.norms = [
            tf.keras.layers.LayerNormalization(epsilon=1e-6, name=f"norm_{i}", dtype=policy) for i in range(2)
        ]
        self.drops = [tf.keras.layers.Dropout(dropout, name=f"dropout_{i}", dtype=policy) for i in range(3)]

    def build(self, input_shape: Any) -> None:
        _, self.length, width = tf.TensorShape(input_shape)
        if self.length is None or width is None:
            raise ValueError(f"CausalSelfAttention: places and width must be static, got {input_shape}")
        if width % self.num_heads:
            raise ValueError(f"CausalSelfAttention: num_heads={self.num_heads} must divide the width {width}")
        names = ("query", "key", "value", "output")
        self.query, self.key, self.value, self.joined = (
            self.add_weight(name=name, shape=(width, width), initializer="glorot_uniform") for name in names
        )
        self.distance_bias = self.add_weight(
            name="distance_bias", shape=(self.num_heads, self.length), initializer="zeros"
        )
        policy = self._dtype_policy
        self.inner = tf.keras.layers.Dense(self.hidden or width, activation="relu", name="inner", dtype=policy)
        self.outer = tf.keras.layers.Dense(width, name="outer", dtype=policy)
        wide = (None, self.length, self.hidden or width)
        for layer, shape in (
            (self.norms[0], input_shape),
            (self.norms[1], input_shape),
            (self.inner, input_shape),
            (self.outer, wide),
        ):
            with tf.name_scope(layer.name):
                layer.build(shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        attended = self._attention(self.norms[0](inputs), training)
        y = inputs + self.drops[0](attended, training=training)
        return y + self.drops[1](self.outer(self.inner(self.norms[1](y))), training=training)

    def _attention(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        query, key, value = (self._heads(x, kernel) for kernel in (self.query, self.key, self.value))
        scores = at_least_float32(tf.matmul(query, key, transpose_b=True)) / query.shape[-1] ** 0.5
        places = tf.range(self.length)
        distance = places[:, tf.newaxis] - places
        bias = tf.gather(self.distance_bias, tf.maximum(distance, 0), axis=1)
        scores = tf.where(distance >= 0, scores + tf.cast(bias, scores.dtype), scores.dtype.min)
        weights = self.drops[2](tf.cast(tf.nn.softmax(scores), value.dtype), training=training)
        joined = tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3))
        joined = tf.reshape(joined, (-1, self.length, x.shape[-1]))
        return tf.einsum("bhk,kn->bhn", joined, tf.cast(self.joined, joined.dtype))

    def _heads(self, x: tf.Tensor, kernel: Any) -> tf.Tensor:
        """(B, H, K) -> (B, heads, H, K / heads)."""
        y = tf.einsum("bhk,kn->bhn", x, tf.cast(kernel, x.dtype))
        return tf.transpose(
            tf.reshape(y, (-1, self.length, self.num_heads, x.shape[-1] // self.num_heads)), (0, 2, 1, 3)
        )

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads, "hidden": self.hidden, "dropout": self.dropout}
