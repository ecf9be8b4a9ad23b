"""Small tables that are joined to a log: read whole into memory."""

from __future__ import annotations

import csv
import dataclasses
import functools
import gzip
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TextIO

from xdeepint_ext.data.manifest import DataError

__all__ = ["SideTable", "as_integer", "read_csv", "read_separated"]


@dataclasses.dataclass(frozen=True)
class SideTable:
    """Rows of text by their key.

    Args:
      names: of the columns.
      rows: key -> one token for each column; `b""` = no value.
    """

    names: tuple[str, ...] = ()
    rows: dict[bytes, tuple[bytes, ...]] = dataclasses.field(default_factory=dict)

    def join(self, keys: Sequence[bytes]) -> dict[str, tuple[bytes, ...]]:
        """The columns for a sequence of keys; `b""` where the table has no such key."""
        found = map(self.rows.get, keys, repeat((b"",) * len(self.names)))
        columns = list(zip(*found, strict=True)) or [()] * len(self.names)
        return dict(zip(self.names, columns, strict=True))

    def absent(self, keys: Iterable[bytes]) -> int:
        """How many of the keys the table does not have."""
        return sum(key not in self.rows for key in keys)


def _open_text(path: str, encoding: str) -> TextIO:
    if path.endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding=encoding, newline="")
    return open(path, encoding=encoding, newline="")


def read_csv(path: str, key: str, columns: Sequence[str], separator: str = ",") -> SideTable:
    """Reads a CSV file with a header line.

    Args:
      path: plain or .gz.
      key: name of the key column.
      columns: names of the columns wanted.
      separator: between two values.

    Raises:
      DataError: a column is missing, a row is short or long, a key repeats, or the file is damaged.
    """
    with _open_text(path, "utf-8-sig") as stream:
        rows = csv.reader(stream, delimiter=separator)
        # Published files have blanks around names, such as Taobao's "new_user_class_level ".
        header = [name.strip() for name in next(_whole(path, rows), [])]
        absent = [name for name in (key, *columns) if name not in header]
        if absent:
            raise DataError(f"{os.path.basename(path)}: no column {absent[0]!r}; it has {header}")
        wanted = {name: header.index(name) for name in columns}
        return _collect(path, _whole(path, rows), header.index(key), wanted, len(header), first=2)


def read_separated(path: str, separator: str, names: Sequence[str], columns: Sequence[str], encoding: str) -> SideTable:
    """Reads a file without a header line whose first value is the key; see `read_csv`.

    Args:
      path: plain or .gz.
      separator: between two values.
      names: of the file's columns.
      columns: those wanted.
      encoding: of the file.
    """
    with _open_text(path, encoding) as stream:
        rows = (line.rstrip("\r\n").split(separator) for line in stream)
        wanted = {name: list(names).index(name) for name in columns}
        return _collect(path, _whole(path, rows), 0, wanted, len(names), first=1)


def _whole(path: str, rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """The rows; what goes wrong while they are read names the file."""
    number = 0
    try:
        for row in rows:
            number += 1
            yield row
    except (EOFError, OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{os.path.basename(path)}: damaged after row {number}: {error}") from None


def _collect(
    path: str, rows: Iterable[list[str]], key: int, wanted: Mapping[str, int], width: int, first: int
) -> SideTable:
    table = SideTable(tuple(wanted))
    # Equal texts become one object: less memory, and joined columns are hashed and compared much faster.
    one: dict[str, bytes] = {}
    for number, row in enumerate(rows, first):
        if not row or row == [""]:
            continue
        if len(row) != width:
            raise DataError(f"{os.path.basename(path)}, row {number}: expected {width} columns, got {len(row)}")
        if row[key].encode() in table.rows:
            raise DataError(f"{os.path.basename(path)}, row {number}: {row[key]!r} is there twice")
        table.rows[row[key].encode()] = tuple(
            one.setdefault(row[position], row[position].encode()) for position in wanted.values()
        )
    if not table.rows:
        raise DataError(f"{os.path.basename(path)} is empty")
    return table


@functools.lru_cache(1 << 16)
def as_integer(token: bytes) -> bytes:
    """`b"7.0"` -> `b"7"`; other texts as they are."""
    return token[:-2] if token.endswith(b".0") else token
