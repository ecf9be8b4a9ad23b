"""Log-likelihoods of gold taggings and gold spans. Minimise them negated."""

from __future__ import annotations

import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32

__all__ = ["span_log_likelihood", "tagging_log_likelihood"]

OVER_TAGGINGS = ("marginal", "hard_em", "first")


def tagging_log_likelihood(
    log_probs: tf.Tensor, taggings: tf.Tensor, mask: tf.Tensor, over: str = "marginal"
) -> tf.Tensor:
    """`log Σ_{T ∈ taggings} Π_t p_t[T_t]` over the tokens of the mask.

    Args:
      log_probs: (B, n, tags), logs of the tokens' probabilities.
      taggings: (B, K, n) integers, the gold taggings; one that begins with -1 is none.
      mask: (B, n) booleans: the tokens that count.
      over: `marginal`: the sum above. `hard_em`: the best tagging alone. `first`: the first tagging alone, the plain
        cross-entropy of its tokens, summed.

    Returns:
      (B,); -inf where there is no tagging.

    Raises:
      ValueError: an unknown `over`.

    Example:
      >>> log_probs = tf.math.log([[[0.2, 0.8], [0.5, 0.5]]])
      >>> found = tagging_log_likelihood(log_probs, [[[1, 0], [0, 1]]], tf.ones((1, 2), tf.bool))
      >>> round(float(tf.exp(found[0])), 4)  # 0.8 * 0.5 + 0.2 * 0.5
      0.5

    Source: Segal et al., EMNLP 2020 (TASE), section 3; `hard_em` is Min et al., EMNLP 2019.
    """
    if over not in OVER_TAGGINGS:
        raise ValueError(f"over must be one of {OVER_TAGGINGS}, got {over!r}")
    log_probs, taggings = at_least_float32(log_probs), tf.cast(taggings, tf.int32)
    taggings = taggings[:, :1] if over == "first" else taggings
    chosen = tf.one_hot(taggings, log_probs.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    counted = chosen & mask[:, tf.newaxis, :, tf.newaxis]
    sums = tf.reduce_sum(tf.where(counted, log_probs[:, tf.newaxis], tf.zeros_like(log_probs[:, tf.newaxis])), (2, 3))
    sums = tf.where(taggings[:, :, 0] >= 0, sums, tf.constant(float("-inf"), sums.dtype))
    return tf.reduce_max(sums, axis=1) if over == "hard_em" else tf.reduce_logsumexp(sums, axis=1)


def span_log_likelihood(log_probs: tf.Tensor, spans: tf.Tensor) -> tf.Tensor:
    """`log Σ_{(s, e) ∈ spans} p_start[s] p_end[e]`.

    Args:
      log_probs: (B, n, 2), logs of the probabilities to start and to end there.
      spans: (B, M, 2) integers, (first, last token); -1 = none.

    Returns:
      (B,); -inf where there is no span.

    Example:
      >>> log_probs = tf.math.log([[[0.7, 0.1], [0.3, 0.9]]])
      >>> round(float(tf.exp(span_log_likelihood(log_probs, [[[0, 1], [1, 1]]])[0])), 4)  # 0.7 * 0.9 + 0.3 * 0.9
      0.9
    """
    log_probs, spans = at_least_float32(log_probs), tf.cast(spans, tf.int32)
    starts, ends = (tf.gather(log_probs[..., i], tf.maximum(spans[..., i], 0), axis=1, batch_dims=1) for i in (0, 1))
    sums = tf.where(spans[..., 0] >= 0, starts + ends, tf.constant(float("-inf"), log_probs.dtype))
    return tf.reduce_logsumexp(sums, axis=1)
