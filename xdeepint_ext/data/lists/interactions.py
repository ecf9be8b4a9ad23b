"""What lists are drawn from: a log of events, the users and the items by position, and what is known of them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from xdeepint_ext.data.manifest import DataError

__all__ = ["Entities", "EventLog", "History", "Interactions"]


@dataclasses.dataclass(frozen=True)
class Entities:
    """All users, or all items (the catalogue); others name them by their position.

    Args:
      keys: their ids as text, unique.
      columns: raw column -> one token for each; `b""` = missing.
      first_day: the day, YYYYMMDD, from which an item may be shown: before it, it is neither candidate nor random item.
        None = always.

    Raises:
      DataError: keys repeat, or a column has another length.
    """

    keys: Sequence[bytes]
    columns: Mapping[str, Sequence[bytes]]
    first_day: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(set(self.keys)) != len(self.keys):
            raise DataError(f"keys must be unique, but {len(self.keys) - len(set(self.keys))} of them repeat")
        lengths = {name: len(tokens) for name, tokens in self.columns.items()}
        if self.first_day is not None:
            lengths["first_day"] = len(self.first_day)
        for name, length in lengths.items():
            if length != len(self.keys):
                raise DataError(f"column {name!r} has {length} values for {len(self.keys)} keys")

    def __len__(self) -> int:
        return len(self.keys)

    @functools.cached_property
    def hashes(self) -> np.ndarray:
        """A uint64 for each key, whatever its position: what is drawn must not depend on who else is there."""
        digests = b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in self.keys)
        return np.frombuffer(digests, "<u8")


@dataclasses.dataclass(frozen=True)
class EventLog:
    """The rows of a log: who was shown (or touched) what, when, and what he did.

    Args:
      users: (n,) positions in the users.
      items: (n,) positions in the items.
      days: (n,) calendar days, YYYYMMDD. Days are what splits are made of.
      times: (n,) seconds, which order the rows of a day; rows of the same second keep their order.
      events: name -> (n,) numbers, above 0 where the event happened.

    Raises:
      DataError: there is no row, or a column has another length, or an event is negative or NaN.
    """

    users: np.ndarray
    items: np.ndarray
    days: np.ndarray
    times: np.ndarray
    events: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if not len(self.users):
            raise DataError("the log has no row")
        columns = {"items": self.items, "days": self.days, "times": self.times, **self.events}
        for name, values in columns.items():
            if np.shape(values) != np.shape(self.users):
                raise DataError(f"log: {name!r} has shape {np.shape(values)}, but users {np.shape(self.users)}")
        for name, values in self.events.items():
            wrong = np.flatnonzero(~(np.asarray(values) >= 0))
            if len(wrong):
                raise DataError(f"log, row {wrong[0]}: event {name!r} must be >= 0, got {values[wrong[0]]}")

    def __len__(self) -> int:
        return len(self.users)


@dataclasses.dataclass(frozen=True)
class History:
    """A user's last items with an event, as a sequence feature.

    Args:
      feature: its name.
      event: name of the event; None = every row of the log.
      length: items kept, the last ones, where the prepared directory has no such feature.
      before: for each user the item ids from before the log, oldest first, separated by blanks; None = none.
    """

    feature: str
    event: str | None = None
    length: int = 50
    before: Sequence[bytes] | None = None


@dataclasses.dataclass(frozen=True)
class Interactions:
    """A log with its users and items.

    Args:
      log: the rows. It is held in memory (some 20 bytes a row, and 1 an event), as the tables are.
      users: everybody.
      items: the catalogue.
      histories: sequence features that grow with the log.
      separators: raw column -> what stands between its values; `|` where none is given.
      notes: what else is worth knowing: rows left out and why.

    Raises:
      DataError: a position is out of range, a history names no event, or has another length than the users.
    """

    log: EventLog
    users: Entities
    items: Entities
    histories: tuple[History, ...] = ()
    separators: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, positions, size in (
            ("users", self.log.users, len(self.users)),
            ("items", self.log.items, len(self.items)),
        ):
            wrong = np.flatnonzero((positions < 0) | (positions >= size))
            if len(wrong):
                raise DataError(
                    f"log, row {wrong[0]}: {name!r} must be a position in 0 .. {size - 1}, got {positions[wrong[0]]}"
                )
        for history in self.histories:
            if history.event is not None and history.event not in self.log.events:
                raise DataError(
                    f"history {history.feature!r} is of event {history.event!r}; the log has {sorted(self.log.events)}"
                )
            if history.before is not None and len(history.before) != len(self.users):
                raise DataError(
                    f"history {history.feature!r}: before has {len(history.before)} rows for {len(self.users)} users"
                )
