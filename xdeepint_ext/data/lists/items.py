"""Items of several lists as parallel arrays, and the pool that random items come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from xdeepint_ext.data.lists.interactions import Entities
from xdeepint_ext.data.lists.permutation import permuted

__all__ = ["Items", "Pool", "place_in_list"]


@dataclasses.dataclass(frozen=True)
class Items:
    """Items of lists.

    Args:
      lists: (n,) number of the list.
      items: (n,) position in the catalogue.
      stages: (n,) uint8.
      labels: (n,) grades.
      soft: (n,) soft labels, or None.
      teacher: (n,) scores, or None.
    """

    lists: np.ndarray
    items: np.ndarray
    stages: np.ndarray
    labels: np.ndarray
    soft: np.ndarray | None = None
    teacher: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lists)

    def take(self, which: np.ndarray) -> Items:
        """The items of the given indices, or where a mask is True."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        chosen: dict[str, Any] = {name: None if x is None else x[which] for name, x in columns.items()}
        return Items(**chosen)

    def of_lists(self, kept: np.ndarray) -> Items:
        """The items of the lists where a mask is True; the lists are numbered anew."""
        chosen = self.take(kept[self.lists])
        return dataclasses.replace(chosen, lists=(np.cumsum(kept) - 1)[chosen.lists])

    def unlabelled(self, lists: np.ndarray, items: np.ndarray, stage: int) -> Items:
        """Items of a stage without feedback: labels 0, teacher NaN, both only where this object has such."""
        return Items(
            lists,
            items,
            np.full(len(lists), stage, np.uint8),
            np.zeros(len(lists), np.float32),
            None if self.soft is None else np.zeros(len(lists), np.float32),
            None if self.teacher is None else np.full(len(lists), np.nan, np.float32),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Items]) -> Items:
        """All parts' items, one part after another."""
        columns: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            values = [getattr(part, field.name) for part in parts]
            columns[field.name] = None if values[0] is None else np.concatenate(values)
        return cls(**columns)


def place_in_list(lists: np.ndarray) -> np.ndarray:
    """How many items of the same list stand before each one; the lists must be in order."""
    first = np.flatnonzero(np.r_[True, lists[1:] != lists[:-1]]) if len(lists) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[first, len(lists)])
    return np.arange(len(lists)) - np.repeat(first, lengths)


class Pool:
    """The catalogue in the order in which its items appear.

    Args:
      items: the catalogue.
    """

    def __init__(self, items: Entities) -> None:
        first = np.zeros(len(items), np.int64) if items.first_day is None else np.asarray(items.first_day, np.int64)
        self._items = np.lexsort((items.hashes, first))
        self._days = first[self._items]
        self._places = np.empty(len(items), np.int64)
        self._places[self._items] = np.arange(len(items))

    def absent(self, day: int) -> np.ndarray:
        """Items that may not be shown yet."""
        return self._items[np.searchsorted(self._days, day, "right") :]

    def draw(
        self, keys: np.ndarray, day: int, lists: np.ndarray, items: np.ndarray, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws items for each list, uniformly and without replacement.

        Args:
          keys: (U,) uint64, of the lists.
          day: the lists' day.
          lists: (n,) lists of the items that may not be drawn.
          items: (n,) these items, each once in its list.
          number: items wanted in a list; there are fewer where the catalogue ends.

        Returns:
          (lists, items), ordered by list.
        """
        size = int(np.searchsorted(self._days, day, "right"))
        tries = np.minimum(number + np.bincount(lists, minlength=len(keys)), size)
        into = np.repeat(np.arange(len(keys)), tries)
        if not len(into):
            return into, into
        places = permuted(keys[into], place_in_list(into), size)
        fine = ~np.isin(into * len(self._items) + places, lists * len(self._items) + self._places[items])
        into, places = into[fine], places[fine]
        wanted = place_in_list(into) < number
        return into[wanted], self._items[places[wanted]]
