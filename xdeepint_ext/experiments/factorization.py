"""A small retrieval model: matrix factorisation of who liked what, by alternating least squares."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

__all__ = ["Factors", "factorize"]

_PAIRS_AT_ONCE = 1 << 15


@dataclasses.dataclass(frozen=True)
class Factors:
    """Args: users (U, f) and items (I, f), float32; a score is their product."""

    users: np.ndarray
    items: np.ndarray


def factorize(
    users: np.ndarray,
    items: np.ndarray,
    shape: tuple[int, int],
    *,
    factors: int = 32,
    unobserved: float = 0.1,
    regularization: float = 0.02,
    sweeps: int = 8,
    seed: int = 0,
    start: Factors | None = None,
) -> Factors:
    """Minimises `sum_S (1 - p_u q_i)^2 + a sum_ui (p_u q_i)^2 + sum_u r_u |p_u|^2 + sum_i r_i |q_i|^2`.

    S is the pairs, a is `unobserved`, and r is `regularization` times (the pairs of the user or item, plus a times how
    many there are on the other side): as much for each term in which the vector is. Users without a pair get the mean
    of the others' vectors, whose order of the items is about that of their popularity.

    Args:
      users: (n,) positions; repeated pairs count once.
      items: (n,) positions.
      shape: (U, I).
      factors: f.
      unobserved: a, weight of all pairs; our choice.
      regularization: our choice.
      sweeps: alternations.
      seed: of the first vectors.
      start: vectors to begin with, such as those of the days before.

    Raises:
      ValueError: there is no pair.

    Example:
      >>> found = factorize(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), (3, 3), factors=2, unobserved=0.3)
      >>> bool((found.users @ found.items.T)[0].argmin() == 2)
      True

    Source: Hu, Koren and Volinsky (ICDM 2008); weights and regularisation as Rendle et al. (arXiv 2110.14037).
    """
    pairs = np.unique(np.asarray(users, np.int64) * shape[1] + np.asarray(items, np.int64))
    if not len(pairs):
        raise ValueError("factorize: there is no pair of a user and an item")
    by_user = np.stack([pairs // shape[1], pairs % shape[1]])
    by_item = by_user[::-1, np.argsort(by_user[1], kind="stable")]
    deviation = 0.1 / np.sqrt(factors)
    p, q = (
        np.random.default_rng((seed, side)).normal(0, deviation, (size, factors)).astype(np.float32)
        for side, size in enumerate(shape)
    )
    if start is not None:
        p, q = start.users.copy(), start.items.copy()
    for _ in range(sweeps):
        p = _solved(by_user, q, shape[0], unobserved, regularization)
        q = _solved(by_item, p, shape[1], unobserved, regularization)
    p = _solved(by_user, q, shape[0], unobserved, regularization)
    known = np.bincount(by_user[0], minlength=shape[0]) > 0
    p[~known] = p[known].mean(axis=0)
    return Factors(p, q)


def _solved(pairs: np.ndarray, others: np.ndarray, size: int, unobserved: float, regularization: float) -> np.ndarray:
    """The best vectors of one side, which `pairs` (2, n) begin with and are ordered by. Without a pair: zeros."""
    rows, columns = pairs
    f = others.shape[1]
    found = np.zeros((size, f), np.float32)
    gram = unobserved * (others.T @ others)
    padded = np.concatenate([others, np.zeros((1, f), np.float32)])
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    counts = np.diff(np.r_[starts, len(rows)])
    for some in _alike(counts):
        places = np.arange(counts[some].max())
        there = places < counts[some][:, np.newaxis]
        index = np.where(there, columns[np.minimum(starts[some][:, np.newaxis] + places, len(rows) - 1)], len(others))
        vectors = padded[index]
        products = np.matmul(vectors.transpose(0, 2, 1), vectors) + gram
        penalty = regularization * (counts[some] + unobserved * len(others))
        products[:, np.arange(f), np.arange(f)] += penalty[:, np.newaxis]
        found[rows[starts[some]]] = np.linalg.solve(products, vectors.sum(axis=1)[:, :, np.newaxis])[:, :, 0]
    return found


def _alike(counts: np.ndarray) -> Iterator[np.ndarray]:
    """Groups of rows of about as many pairs, so that little is padded, and of bounded size."""
    order = np.argsort(counts, kind="stable")
    begin = 0
    while begin < len(order):
        most = counts[order[begin:]]
        fitting = int(np.searchsorted(most * np.arange(1, len(most) + 1), _PAIRS_AT_ONCE, "right"))
        end = begin + max(fitting, 1)
        yield order[begin:end]
        begin = end
