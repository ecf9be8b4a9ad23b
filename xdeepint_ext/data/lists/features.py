"""The features of users and items as bytes of tf.Examples: tables, and histories up to a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xdeepint_ext.data.columns import Column
from xdeepint_ext.data.lists.interactions import Entities, History, Interactions
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.schema import Feature

__all__ = ["HistoryEncoder", "TableEncoder"]

_CACHED = 1 << 18


class TableEncoder:
    """Rows of a table as serialized `tf.train.Features`.

    Args:
      what: what the rows are, for messages.
      entities: the table.
      columns: its raw columns that are wanted.

    Raises:
      DataError: a column is not there.
    """

    def __init__(self, what: str, entities: Entities, columns: Sequence[Column]) -> None:
        lacking = [column.name for column in columns if column.name not in entities.columns]
        if lacking:
            raise DataError(f"the {what} lack the columns {lacking}; they have {sorted(entities.columns)}")
        self._what, self._entities, self._columns = what, entities, columns
        self._entries: dict[str, dict[bytes, bytes]] = {column.name: {} for column in columns}
        self._rows: dict[int, bytes] = {}

    def __call__(self, position: int) -> bytes:
        """The row at a position."""
        found = self._rows.get(position)
        if found is None:
            if len(self._rows) >= _CACHED:
                self._rows.clear()
            found = self._rows[position] = b"".join([self._entry(column, position) for column in self._columns])
        return found

    def _entry(self, column: Column, position: int) -> bytes:
        token = self._entities.columns[column.name][position]
        entries = self._entries[column.name]
        if token not in entries:
            if len(entries) >= _CACHED:
                entries.clear()
            try:
                entries[token] = column.convert(token)[0]
            except ValueError as error:
                key = self._entities.keys[position].decode("utf-8", "replace")
                raise DataError(f"{self._what} {key}: column {column.name!r}: {error}") from None
        return entries[token]

    def incomplete(self) -> set[str]:
        """Columns that some row has no value of."""
        return {column.name for column in self._columns if b"" in self._entities.columns[column.name]}


class HistoryEncoder:
    """Items with an event that a user had before a window, as an entry of `tf.train.Features`.

    Args:
      history: which event.
      interactions: the log.
      ranks: (n,) number of each row's window, ascending in time.
      feature: the sequence feature: its raw column, dtype and length.
    """

    def __init__(self, history: History, interactions: Interactions, ranks: np.ndarray, feature: Feature) -> None:
        log = interactions.log
        rows = np.arange(len(log)) if history.event is None else np.flatnonzero(log.events[history.event] > 0)
        self._windows = int(ranks.max()) + 1
        moments = log.users[rows].astype(np.int64) * self._windows + ranks[rows]
        order = np.lexsort((log.times[rows], moments))
        self._moments, self._items = moments[order], log.items[rows][order]
        self._keys, self._before = interactions.items.keys, history.before
        self._users, self._name, self._length = interactions.users.keys, feature.name, feature.length
        self._column = Column(feature.raw_name, str(feature.dtype), many=True, separator=b" ")

    def __call__(self, users: np.ndarray, ranks: np.ndarray) -> list[bytes]:
        """The entries of lists.

        Args:
          users: (U,) positions.
          ranks: (U,) numbers of the lists' windows; only rows of earlier windows enter.
        """
        first = users.astype(np.int64) * self._windows
        begins, ends = (np.searchsorted(self._moments, moments) for moments in (first, first + ranks))
        return [
            self._entry(user, self._items[max(begin, end - self._length) : end].tolist())
            for user, begin, end in zip(users.tolist(), begins.tolist(), ends.tolist(), strict=True)
        ]

    def _entry(self, user: int, items: list[int]) -> bytes:
        tokens = [self._keys[item] for item in items]
        if self._before is not None and len(tokens) < self._length:
            earlier = self._before[user].split()
            tokens = [*earlier[len(tokens) - self._length :], *tokens]
        try:
            return self._column.convert(b" ".join(tokens))[0]
        except ValueError as error:
            raise DataError(f"history {self._name!r} of user {self._users[user].decode()}: {error}") from None
