"""Days of time stamps in the log's own time zone, and the split that a day belongs to."""

from __future__ import annotations

import dataclasses

import numpy as np

from xdeepint_ext.data.splits import TEST, TRAIN, VALID

__all__ = ["BEIJING", "LAST_SECOND", "DaySplit", "clock_columns", "days_of", "next_days"]

BEIJING = 8 * 3600
"""Seconds that clocks in China are ahead of UTC."""
_DAY = 86_400
LAST_SECOND = 253_402_214_400
"""Of the year 9999, in every time zone: beyond it there is no YYYYMMDD."""


@dataclasses.dataclass(frozen=True)
class DaySplit:
    """Training until a day, validation until another, then test.

    Args:
      train_until: last day of the training split, YYYYMMDD.
      valid_until: last day of the validation split.

    Raises:
      ValueError: they are in the wrong order.
    """

    train_until: int
    valid_until: int

    def __post_init__(self) -> None:
        if self.train_until > self.valid_until:
            raise ValueError(f"train_until {self.train_until} is after valid_until {self.valid_until}")

    def __call__(self, days: np.ndarray) -> np.ndarray:
        """The split (uint8: `TRAIN`, `VALID`, `TEST`) of each day."""
        return np.where(days <= self.train_until, TRAIN, np.where(days <= self.valid_until, VALID, TEST)).astype(
            np.uint8
        )


def days_of(seconds: np.ndarray, ahead: int = BEIJING) -> np.ndarray:
    """The calendar day, YYYYMMDD (int64), of Unix times.

    Args:
      seconds: int64.
      ahead: seconds that the clocks are ahead of UTC.

    Example:
      >>> days_of(np.array([1494032110]))  # 2017-05-06 08:55:10 in Beijing
      array([20170506])
    """
    return _as_numbers(((seconds + ahead) // _DAY).astype("datetime64[D]"))


def next_days(days: np.ndarray) -> np.ndarray:
    """The days after days, YYYYMMDD.

    Example:
      >>> next_days(np.array([20171130, 20171231]))
      array([20171201, 20180101])
    """
    months = ((days // 10_000 - 1970) * 12 + days // 100 % 100 - 1).astype("datetime64[M]")
    return _as_numbers(months.astype("datetime64[D]") + days % 100)


def _as_numbers(dates: np.ndarray) -> np.ndarray:
    months = dates.astype("datetime64[M]")
    years = dates.astype("datetime64[Y]").astype(np.int64) + 1970
    return years * 10_000 + (months.astype(np.int64) % 12 + 1) * 100 + (dates - months).astype(np.int64) + 1


def clock_columns(seconds: np.ndarray, ahead: int = BEIJING) -> dict[str, tuple[bytes, ...]]:
    """The raw columns `hour` (0 .. 23) and `weekday` (1 = Monday) of Unix times.

    Args:
      seconds: int64.
      ahead: seconds that the clocks are ahead of UTC.

    Example:
      >>> clock_columns(np.array([1494032110]))  # a Saturday
      {'hour': (b'8',), 'weekday': (b'6',)}
    """
    local = seconds + ahead
    hours = local // 3600 % 24
    weekdays = (local // _DAY + 3) % 7 + 1  # 1970-01-01 was a Thursday
    return {
        "hour": tuple(b"%d" % hour for hour in hours.tolist()),
        "weekday": tuple(b"%d" % day for day in weekdays.tolist()),
    }
