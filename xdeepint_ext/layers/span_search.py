"""The best single span by its start and its end, in graph code."""

from __future__ import annotations

import tensorflow as tf

from xdeepint_ext.layers.tagging import TagScheme
from xdeepint_ext.utils.dtypes import at_least_float32

__all__ = ["best_span", "edge_log_probs", "tags_of_best_span"]

IMPOSSIBLE = -1e9
"""A log-probability that loses against any other, and is finite, so that no difference of two is NaN."""


def edge_log_probs(logits: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """Log-softmax over the tokens, of those that are allowed alone.

    Args:
      logits: (B, n, 2), of start and end.
      allowed: (B, n) booleans, one True a row at least.

    Returns:
      (B, n, 2); about -1e9 where not allowed.
    """
    logits = at_least_float32(logits)
    return tf.nn.log_softmax(tf.where(allowed[..., tf.newaxis], logits, tf.constant(IMPOSSIBLE, logits.dtype)), axis=1)


def best_span(log_probs: tf.Tensor, mask: tf.Tensor, max_answer: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`argmax log p_start[s] + log p_end[e]` over `s <= e < s + max_answer`; ties go to the first, then shortest span.

    Args:
      log_probs: (B, n, 2), of start and end.
      mask: (B, n) booleans: tokens that a span may start and end at.
      max_answer: tokens of a span at most.

    Returns:
      First tokens and last tokens, (B,) int32, and the sums, (B,).

    Example:
      >>> log_probs = tf.math.log([[[0.1, 0.8], [0.9, 0.2]]])
      >>> [int(x[0]) for x in best_span(log_probs, tf.ones((1, 2), tf.bool), 5)[:2]]
      [1, 1]
    """
    log_probs = at_least_float32(log_probs)
    log_probs = tf.where(mask[..., tf.newaxis], log_probs, tf.constant(IMPOSSIBLE, log_probs.dtype))
    ends = tf.pad(log_probs[..., 1], [[0, 0], [0, max_answer - 1]], constant_values=IMPOSSIBLE)
    ahead = tf.range(tf.shape(log_probs)[1])[:, tf.newaxis] + tf.range(max_answer)
    sums = log_probs[..., :1] + tf.gather(ends, ahead, axis=1)
    flat = tf.reshape(sums, (-1, tf.size(ahead)))
    best = tf.argmax(flat, axis=1, output_type=tf.int32)
    return best // max_answer, best // max_answer + best % max_answer, tf.reduce_max(flat, axis=1)


def tags_of_best_span(
    first: tf.Tensor, last: tf.Tensor, value: tf.Tensor, there: tf.Tensor, mask: tf.Tensor, scheme: TagScheme
) -> tuple[tf.Tensor, tf.Tensor]:
    """One span a row as tags.

    Args:
      first: (B,) tokens.
      last: (B,) tokens.
      value: (B,), the spans' log-probabilities.
      there: (B,) booleans; False = no span.
      mask: (B, n) booleans: where there are tokens. A row without any has no span.
      scheme: of the tags.

    Returns:
      Tags, (B, n) int32, and `value` at all tokens, (B, n).
    """
    place = tf.range(tf.shape(mask)[1])
    first, last = first[:, tf.newaxis], last[:, tf.newaxis]
    inside = (place >= first) & (place <= last) & there[:, tf.newaxis] & tf.reduce_any(mask, axis=1, keepdims=True)
    tags = tf.where(place == first, scheme.first, scheme.inside) * tf.cast(inside, tf.int32)
    return tags, tf.broadcast_to(value[:, tf.newaxis], tf.shape(mask))
