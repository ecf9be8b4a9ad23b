"""A progress line on standard error: how much is done, how fast, and how long it will take."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Counts units of work and shows them: a line rewritten in place on a terminal, a new line now and then elsewhere.

    Args:
      total: units to do; None = unknown.
      unit: what is counted, in the plural.
      label: begins the line.
      stream: where to write; default standard error.
      interval: seconds between two lines; default 0.2 on a terminal, 10 elsewhere.

    Example:
      >>> with Progress(100, "steps", "train") as progress:
      ...     progress.update(100)
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        label: str,
        stream: TextIO | None = None,
        interval: float | None = None,
    ) -> None:
        self._total, self._unit, self._label = total, unit, label
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._interval = interval if interval is not None else 0.2 if self._terminal else 10.0
        self._start = self._shown = time.monotonic()
        self._done = 0
        self._fraction: float | None = None
        self._text = ""

    def update(self, n: int = 1, fraction: float | None = None, text: str = "") -> None:
        """Adds `n` units.

        Args:
          n: units done since the last call.
          fraction: share of the work done so far, where the total is unknown.
          text: more to show at the end of the line, such as the loss.
        """
        self._done += n
        if self._total:
            self._fraction = min(1.0, self._done / self._total)
        elif fraction is not None:
            self._fraction = min(1.0, fraction)
        self._text = text
        now = time.monotonic()
        if now - self._shown >= self._interval:
            self._shown = now
            self._write(self._line(now), end="" if self._terminal else "\n")

    def _line(self, now: float, finished: bool = False) -> str:
        seconds = max(now - self._start, 1e-9)
        parts = [f"{self._label}:", f"{self._done:,} {self._unit}", f"{self._done / seconds:,.0f} {self._unit}/s"]
        if self._fraction is not None and not finished:
            parts.insert(1, f"{100 * self._fraction:.0f}%")
        if finished:
            parts.append(f"in {_clock(seconds)}")
        elif self._fraction:
            parts.append(f"{_clock(seconds * (1 - self._fraction) / self._fraction)} left")
        return "  ".join([*parts, self._text] if self._text else parts)

    def _write(self, line: str, end: str) -> None:
        # "\x1b[K" clears what a longer line left behind.
        print(f"\r{line}\x1b[K" if self._terminal else line, end=end, file=self._stream, flush=True)

    def __enter__(self) -> Progress:
        self._start = self._shown = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write(self._line(time.monotonic(), finished=True), end="\n")
        elif self._terminal:
            self._write("", end="")


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
