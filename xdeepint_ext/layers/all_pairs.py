"""Scores of all users with all items, a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.registry import register

USERS_AT_ONCE = 64
ITEMS_AT_ONCE = 4096


@register
def score_all_pairs(
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    users: tf.Tensor,
    items: tf.Tensor,
    users_at_once: int = USERS_AT_ONCE,
    items_at_once: int = ITEMS_AT_ONCE,
) -> tf.Tensor:
    """`score` of every user with every item, in the memory of `users_at_once x items_at_once` of them.

    Neither users nor items are copied as a whole. In the last chunk the last one stands several times. XLA can compile
    it.

    Args:
      score: (users (u, ...), items (n, ...)) -> (u, n).
      users: (U, ...).
      items: (N, ...).
      users_at_once: most users that meet items at a time. Our choice: 64.
      items_at_once: most items that meet users at a time. Our choice: 4096.

    Returns:
      (U, N).

    Raises:
      ValueError: one of the two numbers is below 1.

    Example:
      >>> dot = lambda users, items: tf.matmul(users, items, transpose_b=True)
      >>> score_all_pairs(dot, tf.ones((3, 2)), tf.ones((5, 2)), items_at_once=2).shape
      TensorShape([3, 5])
    """
    for argument, value in {"users_at_once": users_at_once, "items_at_once": items_at_once}.items():
        if value < 1:
            raise ValueError(f"score_all_pairs: {argument} must be >= 1, got {value}")

    user_size, user_chunks = _chunks(users, users_at_once)
    item_size, item_chunks = _chunks(items, items_at_once)

    def of_chunk(index: tf.Tensor) -> tf.Tensor:
        some_users = _rows(users, index // item_chunks, user_size)
        return score(some_users, _rows(items, index % item_chunks, item_size))

    dtype = score(users[:0], items[:0]).dtype
    # One after the other: memory is what this is about.
    parts = tf.map_fn(of_chunk, tf.range(user_chunks * item_chunks), fn_output_signature=dtype, parallel_iterations=1)
    parts = tf.reshape(parts, (user_chunks, item_chunks, user_size, item_size))
    parts = tf.transpose(parts, (0, 2, 1, 3))
    scores = tf.reshape(parts, (user_chunks * user_size, item_chunks * item_size))
    scores = scores[: tf.shape(users)[0], : tf.shape(items)[0]]
    return tf.ensure_shape(scores, (users.shape[0], items.shape[0]))


def _chunks(x: tf.Tensor, most: int) -> tuple[Any, Any]:
    """(rows of a chunk, how many chunks there are: one of 0 rows where there is nothing), static where known."""
    rows = x.shape[0]
    if rows is not None:
        size = min(rows, most)
        return size, -(-rows // max(size, 1)) or 1
    rows = tf.shape(x)[0]
    size = tf.minimum(rows, most)
    return size, tf.maximum(-(-rows // tf.maximum(size, 1)), 1)


def _rows(x: tf.Tensor, chunk: tf.Tensor, size: Any) -> tf.Tensor:
    """The rows of a chunk; the last one's missing rows are copies of the last row."""
    index = tf.minimum(tf.range(size) + chunk * size, tf.shape(x)[0] - 1)
    return tf.gather(x, index)
