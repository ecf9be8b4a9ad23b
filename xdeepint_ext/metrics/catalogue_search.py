"""The best items of a whole catalogue for many users, exactly, in bounded memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

__all__ = ["Best", "best_items"]

USERS_AT_ONCE, ITEMS_AT_ONCE = 256, 65536
NOTHING = -1


class Best(NamedTuple):
    """The best items of users.

    Attributes:
      items: (U, n) int32, positions in the catalogue, the best first; -1 where a user has no more.
      scores: (U, n) float32; minus infinity where there is no item.
    """

    items: np.ndarray
    scores: np.ndarray


def best_items(
    users: np.ndarray,
    items: np.ndarray,
    n: int,
    seen: np.ndarray | None = None,
    seen_splits: np.ndarray | None = None,
    users_at_once: int = USERS_AT_ONCE,
    items_at_once: int = ITEMS_AT_ONCE,
) -> Best:
    """The n items of the largest products `<u, v>` with each user, without those that he has seen.

    A product of matrices and a partial sort a block; memory is that of `users_at_once x items_at_once` scores, besides
    the arguments and the result. Of equal scores the item that stands first in the catalogue comes first, whatever the
    blocks.

    Args:
      users: (U, d) float32.
      items: (N, d) float32.
      n: items a user, at most N.
      seen: int, positions of the items that users have seen, all users' one after the other; positions outside the
        catalogue are left alone. None = nothing is left out.
      seen_splits: (U + 1,), those of user u are `seen[seen_splits[u] : seen_splits[u + 1]]`.
      users_at_once: users of a block.
      items_at_once: items of a block, at least n.

    Raises:
      ValueError: n is no number of the catalogue's items, a block is too small, or the arrays do not fit together.

    Example:
      >>> best_items(np.float32([[1, 0]]), np.float32([[1, 0], [3, 0], [2, 9]]), 2).items.tolist()
      [[1, 2]]
    """
    if not 1 <= n <= len(items):
        raise ValueError(f"best_items: n must be in 1 .. {len(items)}, the catalogue's size, got {n}")
    if users_at_once < 1 or items_at_once < n:
        raise ValueError(
            f"best_items: users_at_once must be >= 1 and items_at_once >= n, got {users_at_once}, {items_at_once}, {n}"
        )
    if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
        raise ValueError(f"best_items: users and items must be (U, d) and (N, d), got {users.shape} and {items.shape}")
    if seen is None or seen_splits is None:
        seen, seen_splits = np.zeros(0, np.int64), np.zeros(len(users) + 1, np.int64)
    if len(seen_splits) != len(users) + 1 or seen_splits[-1] != len(seen):
        raise ValueError(
            f"best_items: seen_splits must be {len(users) + 1} ends of users in seen, whose last is {len(seen)}; got "
            f"{len(seen_splits)}, the last {seen_splits[-1:]}"
        )
    found = Best(np.empty((len(users), n), np.int32), np.empty((len(users), n), np.float32))
    blocks = [tf.constant(items[start : start + items_at_once]) for start in range(0, len(items), items_at_once)]
    for start in range(0, len(users), users_at_once):
        stop = min(start + users_at_once, len(users))
        rows = np.repeat(np.arange(stop - start), np.diff(seen_splits[start : stop + 1]))
        mine = seen[seen_splits[start] : seen_splits[stop]]
        parts = list(_of_blocks(tf.constant(users[start:stop]), blocks, n, rows, mine))
        scores, places = (tf.concat(part, axis=1) for part in zip(*parts, strict=True))
        if len(parts) > 1:  # the first of equals is that of the first block
            scores, order = tf.math.top_k(scores, n)
            places = tf.gather(places, order, batch_dims=1)
        found.scores[start:stop], found.items[start:stop] = scores, places
    found.items[np.isneginf(found.scores)] = NOTHING
    return found


def _of_blocks(
    users: tf.Tensor, blocks: list[tf.Tensor], n: int, rows: np.ndarray, seen: np.ndarray
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """The best of each block: scores, and positions in the catalogue."""
    first = 0
    for block in blocks:
        size = len(block)
        inside = (seen >= first) & (seen < first + size)
        index = tf.constant(np.stack([rows[inside], seen[inside] - first], axis=1), tf.int32)
        scores, places = _best_of_block(min(n, size))(users, block, index)
        yield scores, places + first
        first += size


@functools.lru_cache(maxsize=8)
def _best_of_block(n: int) -> tf.types.experimental.GenericFunction:
    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None), tf.float32),
            tf.TensorSpec((None, None), tf.float32),
            tf.TensorSpec((None, 2), tf.int32),
        ]
    )
    def best(users: tf.Tensor, items: tf.Tensor, seen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scores = tf.matmul(users, items, transpose_b=True)
        out = tf.fill([tf.shape(seen)[0]], -np.inf)
        return tf.math.top_k(tf.tensor_scatter_nd_update(scores, seen, out), n)

    return best
