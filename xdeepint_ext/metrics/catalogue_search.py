"""The best items of a whole catalogue for many users, exactly, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from xdeepint_ext.utils.processors import usable_processors

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

    A product of matrices and a partial sort a block; memory is that of a few times `users_at_once x items_at_once`
    scores, besides the arguments and the result. Of equal scores the item that stands first in the catalogue comes
    first, whatever the blocks.

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
      FloatingPointError: a vector is not finite.

    Example:
      >>> best_items(np.float32([[1, 0]]), np.float32([[1, 0], [3, 0], [2, 9]]), 2).items.tolist()
      [[1, 2]]
    """
    users, items = np.asarray(users, np.float32), np.asarray(items, np.float32)
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
    for name, vectors in (("users", users), ("items", items)):
        if not np.isfinite(vectors).all():
            row = np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0]
            raise FloatingPointError(f"best_items: {name} must be finite, got {vectors[row]} in row {row}")
    found = Best(np.empty((len(users), n), np.int32), np.empty((len(users), n), np.float32))
    blocks = [items[start : start + items_at_once] for start in range(0, len(items), items_at_once)]
    with ThreadPoolExecutor(usable_processors()) as pool:
        for start in range(0, len(users), users_at_once):
            stop = min(start + users_at_once, len(users))
            rows = np.repeat(np.arange(stop - start), np.diff(seen_splits[start : stop + 1]))
            mine = seen[seen_splits[start] : seen_splits[stop]]
            parts = list(_of_blocks(users[start:stop], blocks, n, rows, mine, pool))
            scores, places = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
            if len(parts) > 1:  # the first of equals is that of the first block
                scores, order = _best(scores, n)
                places = np.take_along_axis(places, order, axis=1)
            found.scores[start:stop], found.items[start:stop] = scores, places
    found.items[np.isneginf(found.scores)] = NOTHING
    return found


def _of_blocks(
    users: np.ndarray, blocks: Sequence[np.ndarray], n: int, rows: np.ndarray, seen: np.ndarray, pool: Executor
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The best of each block: scores, and positions in the catalogue."""
    first = 0
    for block in blocks:
        size = len(block)
        scores = users @ block.T
        inside = (seen >= first) & (seen < first + size)
        scores[rows[inside], seen[inside] - first] = -np.inf
        count = min(n, size)
        parts = list(
            pool.map(lambda part, count=count: _best(part, count), np.array_split(scores, usable_processors()))
        )
        best, places = (np.concatenate(part) for part in zip(*parts, strict=True))
        yield best, places + first
        first += size


def _best(scores: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(U, N) -> the n largest of each row in falling order and their places, both (U, n); of equals the first place.

    Finding the n-th largest and then its betters is several times as fast as a heap or `argpartition`.
    """
    least = np.partition(scores, -n, axis=1)[:, -n, np.newaxis]
    wanted = scores >= least
    if np.count_nonzero(wanted) > wanted.shape[0] * n:  # some equal to an n-th are too many
        for row in np.flatnonzero(wanted.sum(axis=1) > n):
            equal = np.flatnonzero(scores[row] == least[row])
            wanted[row, equal[n - np.count_nonzero(scores[row] > least[row]) :]] = False
    places = np.flatnonzero(wanted).reshape(len(scores), n) % scores.shape[1]
    chosen = np.take_along_axis(scores, places, axis=1)
    order = _falling(chosen)
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(places, order, axis=1)


def _falling(scores: np.ndarray) -> np.ndarray:
    """(U, n) float32 -> places of each row from the largest to the smallest; of equals the first place.

    Integers of which the upper half is the score's order and the lower one the place sort several times as fast as
    `argsort(kind="stable")`.
    """
    bits = (-scores + np.float32(0)).view(np.int32)  # + 0: the two zeros are equal, and so must their bits be
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)  # as integers rise, floats do
    keys = rising << 32 | np.arange(scores.shape[1])
    keys.sort(axis=1)
    return keys & 0xFFFFFFFF
