"""Unquoted text files whose first line names the columns: where the wanted ones are, and their values in a block."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.raw import Block, TextFile, first_line, split_lines

__all__ = ["Layout", "read_layout"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a file's columns are.

    Args:
      separator: between two values.
      width: how many columns the file has.
      positions: wanted column -> its place.
    """

    separator: bytes
    width: int
    positions: dict[str, int]

    def split(self, block: Block) -> tuple[dict[str, tuple[bytes, ...]], np.ndarray, list[tuple[int, str]]]:
        """The wanted columns of a block, the records' numbers, and what could not be read; see `split_lines`."""
        columns, numbers, bad = split_lines(block, self.separator, self.width)
        return {name: columns[i] for name, i in self.positions.items()}, numbers, bad


def read_layout(file: TextFile, separator: str, wanted: Sequence[str]) -> Layout:
    """Reads a file's header line.

    Args:
      file: plain or .gz.
      separator: between two names.
      wanted: names of the columns to find; the others are left unread.

    Raises:
      DataError: a wanted column is not there, or twice.
    """
    header = first_line(file.path).decode("utf-8", "replace").split(separator)
    for name in wanted:
        if name not in header:
            raise DataError(f"{file.name}: no column {name!r}; it has {header}")
        if header.count(name) > 1:
            raise DataError(f"{file.name}: column {name!r} is there twice")
    return Layout(separator.encode(), len(header), {name: header.index(name) for name in wanted})
