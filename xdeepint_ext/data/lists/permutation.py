"""Pseudo-random permutations by key: samples without replacement, without a table and without rejection."""

from __future__ import annotations

import numpy as np

from xdeepint_ext.data.splits import hash_rows

__all__ = ["permuted"]

_ROUNDS = 6


def permuted(keys: np.ndarray, positions: np.ndarray, size: int) -> np.ndarray:
    """Where a permutation of range(size) takes a position; every key has a permutation of its own.

    The first n positions of a key are a sample of n without replacement. A Feistel network on the next even number of
    bits, walked on until the value is below `size` (Black, Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).

    Args:
      keys: (n,) uint64.
      positions: (n,) int64, in 0 .. size - 1.
      size: of the permuted range, >= 1.

    Returns:
      (n,) int64.

    Example:
      >>> sorted(permuted(np.full(5, 7, np.uint64), np.arange(5), 5).tolist())
      [0, 1, 2, 3, 4]
    """
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    result = _feistel(keys, positions.astype(np.uint64), half)
    outside = np.flatnonzero(result >= size)
    while len(outside):
        result[outside] = _feistel(keys[outside], result[outside], half)
        outside = outside[result[outside] >= size]
    return result.astype(np.int64)


def _feistel(keys: np.ndarray, values: np.ndarray, half: np.uint64) -> np.ndarray:
    """A permutation of the numbers of 2 `half` bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for number in range(_ROUNDS):
        left, right = right, left ^ (hash_rows(keys + right, number, "permutation") & mask)
    return left << half | right
