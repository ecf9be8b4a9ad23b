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
      max_length: H, places of the longest history; None = those of x, which then is padded.

    Weights:
      recency: (H,), w of the last place first. Optimizer group `default`.

    Call arguments:
      inputs: [x, n (B,), lengths, int, at most H]. x is padded, (B, H, K), H static, and what is behind the end is not
        looked at; or it is what is there alone, (sum of n, K), one history after the other: less work where most are
        short.

    Returns:
      (B, K); 0 for an empty history.

    Example:
      >>> RecencyPooling()([tf.constant([[[1.0], [3.0], [9.0]]]), tf.constant([2])]).numpy().tolist()
      [[2.0]]

    Source: ours; with w = 0 the base model of CROLoss (arXiv 2208.02971).
    """

    def __init__(self, learned: bool = True, max_length: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if max_length is not None and max_length < 1:
            raise ValueError(f"RecencyPooling: max_length must be >= 1, got {max_length}")
        self.learned, self.max_length = learned, max_length

    def build(self, input_shape: Any) -> None:
        shape = tf.TensorShape(input_shape[0])
        self.length = self.max_length if shape.rank == 2 else shape[1]
        if self.length is None:
            raise ValueError(
                f"RecencyPooling: the number of places must be static, or max_length given, got {input_shape[0]}"
            )
        if self.max_length not in (None, self.length):
            raise ValueError(f"RecencyPooling: max_length is {self.max_length}, but x has {self.length} places")
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
        if x.shape.rank == 3:
            return tf.einsum("bhk,bh->bk", tf.where(here[:, :, tf.newaxis], x, 0), weights)
        places = tf.where(here)
        x *= tf.gather_nd(weights, places)[:, tf.newaxis]
        return tf.math.unsorted_segment_sum(x, places[:, 0], tf.shape(lengths)[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learned": self.learned, "max_length": self.max_length}
