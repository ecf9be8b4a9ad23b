"""Which code of a codebook is nearest to a vector."""

from __future__ import annotations

import tensorflow as tf

SEARCHES = ("fast", "exact")


def nearest_codes(x: tf.Tensor, codebook: tf.Tensor, search: str = "fast") -> tf.Tensor:
    """`argmin_k |x - C_k|^2`; of equally near codes the lowest index.

    Args:
      x: (B, d).
      codebook: C, (K, d).
      search: `fast`: by `|C_k|^2 / 2 - x . C_k`, one matrix product; its rounding may choose either of two codes that
        are almost equally near, the more so where a GPU rounds products to TF32. `exact`: by the sums of the squared
        differences, K times the reads of memory.

    Returns:
      (B,) int32.

    Example:
      >>> nearest_codes(tf.constant([[0.9, 0.2], [0.1, 0.8]]), tf.constant([[1.0, 0.0], [0.0, 1.0]])).numpy()
      array([0, 1], dtype=int32)
    """
    if search == "exact":
        distances = tf.map_fn(lambda code: tf.reduce_sum(tf.square(x - code), axis=1), codebook)  # a code at a time
        return tf.argmin(distances, axis=0, output_type=tf.int32)
    half_norms = 0.5 * tf.reduce_sum(tf.square(codebook), axis=1)
    return tf.argmin(half_norms - tf.matmul(x, codebook, transpose_b=True), axis=1, output_type=tf.int32)
