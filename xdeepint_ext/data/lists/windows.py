"""Windows of a log: the rows of a user and day, or of a shorter span, from which one list is made."""

from __future__ import annotations

import dataclasses

import numpy as np

from xdeepint_ext.data.lists.interactions import EventLog

__all__ = ["Windows"]


@dataclasses.dataclass(frozen=True)
class Windows:
    """The rows of a log, grouped by window and user.

    Args:
      rows: the log's rows, ordered by day, slot of the day, user, time.
      starts: where a group begins in `rows`, and the end.
      days: day of each group.
      slots: slot of the day of each group.
      ranks: number of each row's (not group's) window, ascending in time; rows of the log's order.
    """

    rows: np.ndarray
    starts: np.ndarray
    days: np.ndarray
    slots: np.ndarray
    ranks: np.ndarray

    @classmethod
    def of(cls, log: EventLog, window: str | int = "day") -> Windows:
        """Groups the rows of a log.

        Args:
          log: the rows.
          window: "day": a window is a day; or a number of seconds: a day is cut into windows of this length. The
            order of the windows is that of the days, then of the times.

        Raises:
          ValueError: window is neither.
        """
        if window != "day" and not (isinstance(window, int) and window > 0):
            raise ValueError(f"window must be 'day' or a number > 0, got {window!r}")
        days = np.asarray(log.days, np.int64)
        slots = np.zeros(len(log), np.int64) if window == "day" else np.asarray(log.times, np.int64) // int(window)
        rows = np.lexsort((log.times, log.users, slots, days))
        day, slot, user = days[rows], slots[rows], log.users[rows]
        new_window = np.r_[True, (day[1:] != day[:-1]) | (slot[1:] != slot[:-1])]
        starts = np.flatnonzero(new_window | np.r_[True, user[1:] != user[:-1]])
        ranks = np.empty(len(log), np.int64)
        ranks[rows] = np.cumsum(new_window) - 1
        return cls(rows, np.r_[starts, len(rows)], day[starts], slot[starts], ranks)

    def __len__(self) -> int:
        return len(self.days)

    def chunks(self, most: int) -> list[tuple[int, int]]:
        """First and last-plus-one groups of chunks of at most `most` groups, each within one day."""
        days = np.flatnonzero(np.r_[True, self.days[1:] != self.days[:-1]]).tolist()
        ends = [*days[1:], len(self)]
        return [
            (start, min(start + most, end))
            for first, end in zip(days, ends, strict=True)
            for start in range(first, end, most)
        ]
