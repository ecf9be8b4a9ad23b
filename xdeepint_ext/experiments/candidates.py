"""Candidates of lists: the retrieval model's scores, each day's of a model of the days before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xdeepint_ext.data.lists import Interactions, hard_labels
from xdeepint_ext.experiments.factorization import Factors, factorize
from xdeepint_ext.experiments.time_blocks import Block

__all__ = ["CandidateScores"]

# Alternations from random vectors, and from those of the block before.
SWEEPS, WARM_SWEEPS = 8, 3


class CandidateScores:
    """A scorer for `write_lists`: `p_u q_i` of the block's factors, minus infinity for what was seen on earlier days.

    The factors of a block are of pairs with a grade above 0 up to its `known_until`, and of the histories from before
    the log of events in `order`.

    Args:
      interactions: the log.
      order: names of events that make a grade, see `hard_labels`.
      blocks: of days.
      factors: columns.
      seen_again: whether what a user has seen may be a candidate again.
      seed: of the factorisation.
    """

    def __init__(
        self,
        interactions: Interactions,
        order: Sequence[str],
        blocks: Sequence[Block],
        factors: int = 32,
        seen_again: bool = False,
        seed: int = 0,
    ) -> None:
        self._blocks, self._seen_again = tuple(blocks), seen_again
        log, shape = interactions.log, (len(interactions.users), len(interactions.items))
        past = _past(interactions, [history.event for history in interactions.histories if history.event in order])
        liked = np.flatnonzero(hard_labels(log.events, order) > 0)
        self._factors: list[Factors] = []
        for block in self._blocks:
            rows = liked[log.days[liked] <= block.known_until]
            pairs = np.concatenate([past, np.stack([log.users[rows], log.items[rows]]).astype(np.int64)], axis=1)
            start = self._factors[-1] if self._factors else None
            sweeps = WARM_SWEEPS if start else SWEEPS
            found = factorize(pairs[0], pairs[1], shape, factors=factors, sweeps=sweeps, seed=seed, start=start)
            self._factors.append(found)
        before = _past(interactions, [history.event for history in interactions.histories])
        users = np.concatenate([before[0], log.users])
        moments = _moments(users, np.concatenate([np.zeros(before.shape[1], np.int64), log.days]))
        ascending = np.argsort(moments, kind="stable")
        self._moments, self._items = moments[ascending], np.concatenate([before[1], log.items])[ascending]

    def __call__(self, users: np.ndarray, day: int) -> np.ndarray:
        """(positions of users (n,), day) -> scores (n, items).

        Raises:
          ValueError: the day is in no block.
        """
        number = next((i for i, block in enumerate(self._blocks) if block.first <= day <= block.last), None)
        if number is None:
            raise ValueError(f"day {day} is in no block of {self._blocks}")
        found = self._factors[number]
        scores: np.ndarray = found.users[users] @ found.items.T
        if not self._seen_again:
            scores[self._seen(users, day)] = -np.inf
        return scores

    def _seen(self, users: np.ndarray, day: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, items) that the users saw on earlier days, or before the log."""
        begins, ends = (np.searchsorted(self._moments, _moments(users, np.full(len(users), when))) for when in (0, day))
        lengths = ends - begins
        rows = np.repeat(np.arange(len(users)), lengths)
        places = (
            np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(begins, lengths)
        )
        return rows, self._items[places]


def _moments(users: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Numbers that order rows by user, then by day."""
    return users.astype(np.int64) * 10**9 + days


def _past(interactions: Interactions, events: Sequence[str | None]) -> np.ndarray:
    """(users, items) of histories from before the log of some events; items that the catalogue lacks are left out."""
    positions = {key: i for i, key in enumerate(interactions.items.keys)}
    pairs = [
        (user, positions[key])
        for history in interactions.histories
        if history.event in events and history.before is not None
        for user, keys in enumerate(history.before)
        for key in keys.split()
        if key in positions
    ]
    return np.array(sorted(set(pairs)), np.int64).reshape(-1, 2).T
