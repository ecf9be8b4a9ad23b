"""Logs as columns of numbers, for lists: users and items by position, days, times and events."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from xdeepint_ext.data.lists.interactions import Entities, EventLog
from xdeepint_ext.data.loaders.tables import SideTable
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.raw import Block

__all__ = ["Index", "LogBlock", "numbers_of", "read_log"]


class Index:
    """Positions of keys, in the order of their first appearance.

    Args:
      table: its keys come first.
    """

    def __init__(self, table: SideTable | None = None) -> None:
        self._table = table
        self._positions = {key: i for i, key in enumerate(table.rows if table is not None else ())}
        self._known = len(self._positions)

    def __call__(self, keys: Sequence[bytes]) -> np.ndarray:
        """Positions (n,) int32; new keys are appended."""
        for key in dict.fromkeys(keys):
            self._positions.setdefault(key, len(self._positions))
        return np.fromiter(map(self._positions.__getitem__, keys), np.int32, len(keys))

    @property
    def keys(self) -> list[bytes]:
        """All keys, by position."""
        return list(self._positions)

    @property
    def added(self) -> int:
        """How many keys are not in the table."""
        return len(self._positions) - self._known

    def entities(self, column: str, **columns: Sequence[bytes]) -> Entities:
        """All keys with the table's columns.

        Args:
          column: name of the column that holds the key itself.
          **columns: more of them.
        """
        keys = self.keys
        joined = self._table.join(keys) if self._table is not None else {}
        return Entities(keys, {column: keys, **joined, **columns})


@dataclasses.dataclass
class LogBlock:
    """The rows of a block that could be read.

    Args:
      users: their keys.
      items: their keys.
      days: int64, YYYYMMDD.
      times: int64.
      events: name -> uint8.
      bad: (record's number, message) of the others.
      counters: how many rows were left out on purpose, by reason.
    """

    users: Sequence[bytes]
    items: Sequence[bytes]
    days: np.ndarray
    times: np.ndarray
    events: dict[str, np.ndarray]
    bad: list[tuple[int, str]]
    counters: dict[str, int] = dataclasses.field(default_factory=dict)


def read_log(
    blocks: Iterable[Block], parse: Callable[[Block], LogBlock], users: Index, items: Index, max_bad_rows: int
) -> tuple[EventLog, dict[str, int]]:
    """Reads a whole log into columns.

    Args:
      blocks: of the raw files.
      parse: block -> rows.
      users: index of their keys.
      items: index of their keys.
      max_bad_rows: so many unreadable rows are left out and counted.

    Returns:
      The log, and counts of what was left out.

    Raises:
      DataError: more rows than `max_bad_rows` cannot be read; names file and row.
    """
    columns: list[tuple[np.ndarray, ...]] = []
    names: list[str] = []
    counters: Counter[str] = Counter()
    bad: list[str] = []
    for block in blocks:
        found = parse(block)
        bad += [f"{block.file}, row {number}: {message}" for number, message in sorted(found.bad)]
        if len(bad) > max_bad_rows:
            shown = "\n  ".join(bad[:10])
            raise DataError(f"more than max_bad_rows={max_bad_rows} rows cannot be read; the first:\n  {shown}")
        counters.update(found.counters)
        names = list(found.events)
        days = found.days.astype(np.int32)
        columns.append((users(found.users), items(found.items), days, found.times, *found.events.values()))
    joined = [np.concatenate(values) for values in zip(*columns, strict=True)]
    users_of, items_of, days_of, times_of, *events = joined
    log = EventLog(users_of, items_of, days_of, times_of, dict(zip(names, events, strict=True)))
    counters.update({"unreadable_rows": len(bad), "users_without_features": users.added})
    counters["items_without_features"] = items.added
    return log, {name: count for name, count in counters.items() if count}


def numbers_of(tokens: Sequence[bytes], largest: int = 2**62) -> np.ndarray:
    """Whole numbers (int64) of tokens of digits, -1 where one is none or above `largest`."""
    known = {token: int(token) if token.isdigit() and int(token) <= largest else -1 for token in set(tokens)}
    return np.fromiter(map(known.__getitem__, tokens), np.int64, len(tokens))
