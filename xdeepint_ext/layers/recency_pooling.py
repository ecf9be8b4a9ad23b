"""The mean of a history, in which places weigh by how recent they are."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.registry import register


@register
class RecencyPooling(tf.keras.layers.Layer):
    """`sum_j a_j x_j`, a the softmax over the places j of a history of `w[n - 1 - j]`, n its length.

    With w = 0, the start, it is the mean.

    Args:
      learned: False = w stays 0: the mean.

    Weights:
      recency: (H,), w of the last place first. Optimizer group `default`.

    Call arguments:
      inputs: [x (B, H, K), H static, what is behind the end is not looked at; n (B,), lengths, int].

    Returns:
      (B, K); 0 for an empty history.

    Example:
      >>> RecencyPooling()([tf.constant([[[1.0], [3.0], [9.0]]]), tf.constant([2])]).numpy().tolist()
      [[2.0]]

    Source: ours; with w = 0 the base model of CROLoss (arXiv 2208.02971).
    """

    def __init__(self, learned: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.learned = learned

    def build(self, input_shape: Any) -> None:
        self.length = tf.TensorShape(input_shape[0])[1]
        if self.length is None:
            raise ValueError(f"RecencyPooling: the number of places must be static, got {input_shape[0]}")
        self.recency = (
            self.add_weight(name="recency", shape=(self.length,), initializer="zeros") if self.learned else None
        )
        super().build(input_shape)

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        x, lengths = inputs
        age = tf.cast(lengths, tf.int32)[:, tf.newaxis] - 1 - tf.range(self.length)
        here = age >= 0
        if self.recency is None:
            weights = tf.cast(here, x.dtype)
        else:
            scores = tf.gather(tf.cast(self.recency, x.dtype), tf.maximum(age, 0))
            weights = tf.cast(here, x.dtype) * tf.exp(scores - tf.reduce_max(tf.cast(self.recency, x.dtype)))
        weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=1, keepdims=True))
        return tf.einsum("bhk,bh->bk", tf.where(here[:, :, tf.newaxis], x, 0), weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learned": self.learned}
