"""How codebooks start and move: k-means on residuals, moving averages, and which codes expire."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from xdeepint_ext.layers.nearest_code import nearest_codes


def code_sums(codes: tf.Tensor, x: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(how many vectors each code has (K,), their sums (K, d)), of vectors x (B, d) with codes (B,)."""
    return code_counts(codes, size, x.dtype), tf.math.unsorted_segment_sum(x, codes, size)


def code_counts(codes: tf.Tensor, size: int, dtype: tf.DType) -> tf.Tensor:
    """How many of the codes (B,) are each of 0 .. K - 1: (K,)."""
    return tf.math.unsorted_segment_sum(tf.ones_like(codes, dtype), codes, size)


def perplexity(counts: tf.Tensor) -> tf.Tensor:
    """`exp(entropy)` of how often the codes occur, (..., K) -> (...): K where all do alike, 1 for one code or none."""
    shares = tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=-1, keepdims=True))
    return tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares), axis=-1))


def smoothed_means(counts: tf.Tensor, sums: tf.Tensor, epsilon: float) -> tf.Tensor:
    """`m_k / (n (N_k + epsilon) / (n + K epsilon))`, `n = sum_k N_k`: means under Laplace smoothing; 0 where n is 0.

    Args:
      counts: N, (L, K).
      sums: m, (L, K, d).
      epsilon: what every code counts more.

    Returns:
      (L, K, d).
    """
    total = tf.reduce_sum(counts, axis=1, keepdims=True)
    smoothed = total * (counts + epsilon) / (total + counts.shape[1] * epsilon)
    return tf.math.divide_no_nan(sums, smoothed[:, :, tf.newaxis])


def drawn_places(levels: int, size: int, rows: tf.Tensor, seed: Sequence[int | tf.Tensor]) -> tf.Tensor:
    """A place in a batch for each code of each level, no place twice at a level while there are enough.

    The batch is cut into K stretches; each code gets one, in turn from a drawn one on, and a drawn place in it.

    Args:
      levels: L.
      size: K.
      rows: of the batch, a scalar int32.
      seed: two integers.

    Returns:
      (L, K) int32 in [0, rows), 0 for an empty batch.
    """
    seed = tf.stack([tf.cast(part, tf.int64) for part in seed])
    # Whole numbers of an algorithm by name: floats, and the algorithm chosen by itself, are others under XLA.
    bits = tf.random.stateless_uniform((levels, size + 1), seed, None, None, tf.int32, alg="philox")
    draws = tf.cast(bits, tf.float64) / 2.0**32 + 0.5
    turn = tf.cast(draws[:, size:] * size, tf.int32)
    stretches = tf.cast((tf.range(size) + turn) % size, tf.float64)
    places = tf.cast((stretches + draws[:, :size]) * tf.cast(rows, tf.float64) / size, tf.int32)
    return tf.clip_by_value(places, 0, tf.maximum(rows - 1, 0))


def residual_kmeans(points: tf.Tensor, places: tf.Tensor, steps: int, search: str) -> tf.Tensor:
    """k-means of each level on what the levels before it leave over.

    Args:
      points: (N, d), N > 0.
      places: (L, K): the points whose residuals each level starts with.
      steps: Lloyd's steps a level.
      search: see `nearest_codes`.

    Returns:
      (L, K, d).
    """
    codebooks, residual = [], points
    for level in tf.unstack(places):
        codebooks.append(kmeans(residual, tf.gather(residual, level), steps, search))
        residual -= tf.gather(codebooks[-1], nearest_codes(residual, codebooks[-1], search))
    return tf.stack(codebooks)


def kmeans(points: tf.Tensor, start: tf.Tensor, steps: int, search: str) -> tf.Tensor:
    """Lloyd's algorithm. A cluster that is left empty moves to one of the points that are farthest from their own.

    Args:
      points: (N, d), N > 0.
      start: (K, d).
      steps: how many.
      search: see `nearest_codes`.

    Returns:
      (K, d).
    """
    size, last = start.shape[0], tf.shape(points)[0] - 1

    def step(number: tf.Tensor, centres: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        codes = nearest_codes(points, centres, search)
        counts, sums = code_sums(codes, points, size)
        distances = tf.reduce_sum(tf.square(points - tf.gather(centres, codes)), axis=1)
        farthest = tf.argsort(distances, direction="DESCENDING", stable=True)
        empty = tf.equal(counts, 0)
        turn = tf.maximum(tf.cumsum(tf.cast(empty, tf.int32)) - 1, 0)
        others = tf.gather(points, tf.gather(farthest, tf.minimum(turn, last)))
        means = tf.math.divide_no_nan(sums, counts[:, tf.newaxis])
        return number + 1, tf.where(empty[:, tf.newaxis], others, means)

    _, centres = tf.while_loop(
        lambda number, _: number < steps, step, (tf.constant(0), start), maximum_iterations=steps, parallel_iterations=1
    )
    return centres
