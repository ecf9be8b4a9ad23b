"""Blocks of days, each with the days that its cascade may know: nothing that scores a list has seen its day."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

__all__ = ["Block", "time_blocks"]


@dataclasses.dataclass(frozen=True)
class Block:
    """Days whose lists the same candidate model and the same teacher score.

    Args:
      known_until: the last day that they were trained on, YYYYMMDD.
      first: first day of the block, later than `known_until`.
      last: its last day.
    """

    known_until: int
    first: int
    last: int

    def of(self, days: np.ndarray) -> np.ndarray:
        """(n,) days -> whether they are in the block."""
        return (days >= self.first) & (days <= self.last)


def time_blocks(days: Sequence[int], train_until: int, warm_days: int, refit_days: int) -> list[Block]:
    """Cuts the days behind the first `warm_days` into blocks of `refit_days`; those behind training are one.

    Args:
      days: with rows, ascending, YYYYMMDD.
      train_until: last day of the training split.
      warm_days: days without lists, from which the first models are trained.
      refit_days: days of a block; then the models are trained anew, on all days before.

    Raises:
      ValueError: a number is below 1, no training day is left for lists, or none is behind training.

    Example:
      >>> for block in time_blocks([1, 2, 3, 4, 5, 6], train_until=4, warm_days=1, refit_days=2):
      ...     print(block)
      Block(known_until=1, first=2, last=3)
      Block(known_until=3, first=4, last=4)
      Block(known_until=4, first=5, last=6)
    """
    for name, value in (("warm_days", warm_days), ("refit_days", refit_days)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    train, later = [day for day in days if day <= train_until], [day for day in days if day > train_until]
    if len(train) <= warm_days:
        raise ValueError(f"warm_days={warm_days} leaves no list for training: it has {len(train)} days, {train}")
    if not later:
        raise ValueError(f"train_until={train_until} leaves no day for validation and test; the last is {train[-1]}")
    starts = range(warm_days, len(train), refit_days)
    ends = [*starts[1:], len(train)]
    blocks = [Block(train[start - 1], train[start], train[end - 1]) for start, end in zip(starts, ends, strict=True)]
    return [*blocks, Block(train[-1], later[0], later[-1])]
