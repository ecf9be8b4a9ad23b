"""Counting values in bounded memory; vocabularies, most frequent first, equals in the order of their bytes."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter

__all__ = ["ValueCounter", "writable"]

# One value and its count take about 200 bytes in a dict.
MAX_VALUES = 1_000_000


def writable(value: bytes) -> bool:
    """Whether a vocabulary file, one value a line, can hold the value; TensorFlow drops its carriage returns."""
    return b"\n" not in value and b"\r" not in value


class ValueCounter:
    """Counts the values of several tables; what does not fit into memory goes to sorted files and is merged at the end.

    Args:
      directory: where the sorted files go; it must exist.
      max_values: distinct values, of all tables together, held in memory.

    Example:
      >>> counter = ValueCounter("/nowhere")
      >>> counter.add("colour", {b"red": 1, b"blue": 2})
      >>> counter.add("colour", {b"red": 1})
      >>> [value for value, _ in counter.ordered("colour", min_count=1)]
      [b'blue', b'red']
    """

    def __init__(self, directory: str | os.PathLike[str], max_values: int = MAX_VALUES) -> None:
        self._directory = os.fspath(directory)
        self._max_values = max_values
        self._counts: dict[str, dict[bytes, int]] = {}
        self._runs: dict[str, list[str]] = {}
        self._held = self._files = 0

    def add(self, table: str, counts: Mapping[bytes, int]) -> None:
        """Adds counts of values; a value must be `writable`."""
        held = self._counts.setdefault(table, {})
        before = len(held)
        for value, count in counts.items():
            held[value] = held.get(value, 0) + count
        self._held += len(held) - before
        if self._held > self._max_values:
            self._spill()

    def ordered(self, table: str, min_count: int) -> Iterator[tuple[bytes, int]]:
        """The values counted at least `min_count` times, with their counts, in the order of the vocabulary."""
        kept = (pair for pair in self._totals(table) if pair[1] >= min_count)
        by_count = ((-count, value) for value, count in kept)
        runs: list[list[tuple[int, bytes]] | Iterator[tuple[int, bytes]]] = []
        while chunk := sorted(itertools.islice(by_count, self._max_values)):
            runs.append(
                chunk if len(chunk) < self._max_values else self._read(self._write((v, -n) for n, v in chunk), -1)
            )
        return ((value, -negative) for negative, value in heapq.merge(*runs))

    def most_frequent(self, table: str) -> int:
        """The largest count of a table, 0 where it has no value."""
        return max((count for _, count in self._totals(table)), default=0)

    def write(self, table: str, path: str, min_count: int, max_values: int | None = None) -> tuple[int, int]:
        """Writes a vocabulary file.

        Args:
          table: whose values.
          path: of the file.
          min_count: values counted less often are left out.
          max_values: the most frequent ones that the file holds at most; None = all.

        Returns:
          The number of its values, and of those that `max_values` left out.
        """
        size = left_out = 0
        with open(path, "wb") as stream:
            for value, _ in self.ordered(table, min_count):
                if max_values is not None and size == max_values:
                    left_out += 1
                    continue
                stream.write(value + b"\n")
                size += 1
        return size, left_out

    def _totals(self, table: str) -> Iterator[tuple[bytes, int]]:
        held = self._counts.get(table, {})
        if table not in self._runs:
            yield from held.items()
            return
        runs = [(pair[::-1] for pair in self._read(path, 1)) for path in self._runs[table]]
        merged = heapq.merge(*runs, sorted(held.items()), key=itemgetter(0))
        for value, pairs in itertools.groupby(merged, key=itemgetter(0)):
            yield value, sum(count for _, count in pairs)

    def _spill(self) -> None:
        for table, counts in self._counts.items():
            if counts:
                self._runs.setdefault(table, []).append(self._write(sorted(counts.items())))
                counts.clear()
        self._held = 0

    def _write(self, pairs: Iterable[tuple[bytes, int]]) -> str:
        self._files += 1
        path = os.path.join(self._directory, f"counts-{self._files:05d}")
        with open(path, "wb") as stream:
            stream.writelines(b"%d %s\n" % (count, value) for value, count in pairs)
        return path

    @staticmethod
    def _read(path: str, sign: int) -> Iterator[tuple[int, bytes]]:
        """Pairs of sign * count and value."""
        with open(path, "rb") as stream:
            for line in stream:
                count, value = line[:-1].split(b" ", 1)
                yield sign * int(count), value
