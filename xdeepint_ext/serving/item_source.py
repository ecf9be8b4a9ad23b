"""Items from files, a chunk at a time: TFRecords of tf.Examples, CSV, or JSON, with or without an object a line."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.serving.cache_shard import CacheError
from xdeepint_ext.serving.item_cache import as_ids
from xdeepint_ext.serving.loaded_towers import LoadedTowers
from xdeepint_ext.serving.rows import MISSING, SEPARATOR, RowError, csv_rows, examples, read_rows

BLOCK = 4096
"""Records that are parsed together."""

_DTYPES = {"string": tf.string, "int": tf.int64}
_FRAME = 16
"""Bytes of a TFRecord beside its content."""


@dataclasses.dataclass(frozen=True)
class Items:
    """Some items.

    Args:
      ids: (n,) int64 or bytes.
      examples: serialized tf.Examples.
      places: where each one stands: (file, number from 1).
      bytes_read: of the files, about, up to the last one.
    """

    ids: np.ndarray
    examples: list[bytes]
    places: list[tuple[str, int]]
    bytes_read: int

    def __len__(self) -> int:
        return len(self.examples)

    def fingerprints(self) -> np.ndarray:
        """(n,) uint64 of each example's bytes."""
        digests = b"".join([hashlib.blake2b(example, digest_size=8).digest() for example in self.examples])
        return np.frombuffer(digests, "<u8")

    def take(self, which: np.ndarray) -> Items:
        """The items of the given indices."""
        chosen = which.tolist()
        examples, places = ([values[i] for i in chosen] for values in (self.examples, self.places))
        return Items(self.ids[which], examples, places, self.bytes_read)


class ItemSource:
    """The items of files.

    Args:
      files: names with `.tfrecord` (and `.gz` behind it, if compressed) are TFRecords, others text, as
        `serving.query` takes it.
      towers: the model, which says what columns an item has.
      id_column: the raw column of the item's id; None = that of the feature with role `item_id`.
      separator: of several values in a cell of CSV.

    Raises:
      FileNotFoundError: a file is not there.
      CacheError: it is not known which column is the id.
    """

    def __init__(
        self,
        files: Sequence[str | os.PathLike[str]],
        towers: LoadedTowers,
        id_column: str | None = None,
        separator: str = SEPARATOR,
    ) -> None:
        self._files = [os.fspath(file) for file in files]
        if not self._files:
            raise CacheError("items: expected at least one file")
        for file in self._files:
            if not os.path.isfile(file):
                raise FileNotFoundError(f"items: no file {file}")
        columns = towers.columns("item")
        self.id_column, self.id_dtype = _id_column(towers, columns, id_column)
        self._specs = {**columns, self.id_column: tf.TensorSpec((None,), _DTYPES[self.id_dtype])}
        self._separator = separator
        self.bytes = None if any(f.endswith(".gz") for f in self._files) else sum(map(os.path.getsize, self._files))

    def chunks(self, size: int) -> Iterator[Items]:
        """All items in the files' order, `size` at a time.

        Raises:
          CacheError, RowError: an item is damaged or has no id; names file and number.
        """
        some: list[Items] = []
        for block in self._blocks(min(size, BLOCK)):
            some.append(block)
            while sum(map(len, some)) >= size:
                whole = _joined(some)
                yield whole.take(np.arange(size))
                some = [whole.take(np.arange(size, len(whole)))]
        if sum(map(len, some)):
            yield _joined(some)

    def _blocks(self, size: int) -> Iterator[Items]:
        before = 0
        for file in self._files:
            records = ".tfrecord" in os.path.basename(file)
            number, read = 1, 0
            for serialized, read in (self._of_records if records else self._of_text)(file, size):
                places = [(file, n) for n in range(number, number + len(serialized))]
                number += len(serialized)
                yield Items(self._ids(serialized, places), serialized, places, before + read)
            before += read

    def _of_records(self, file: str, size: int) -> Iterator[tuple[list[bytes], int]]:
        records = tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "").batch(size)
        number = read = 0
        try:
            for batch in records.as_numpy_iterator():
                number, read = number + len(batch), read + sum(map(len, batch)) + _FRAME * len(batch)
                yield batch.tolist(), read
        except tf.errors.DataLossError as error:
            raise CacheError(
                f"{file}: damaged after item {number}, or in one of the next {size}: {error.message}"
            ) from None

    def _of_text(self, file: str, size: int) -> Iterator[tuple[list[bytes], int]]:
        with open(file, encoding="utf-8-sig") as stream:
            lines = _Lines(stream)
            cells, rows = _rows(lines)
            first = 1
            try:
                while block := list(itertools.islice(rows, size)):
                    options: dict[str, Any] = {"cells": cells, "separator": self._separator, "first": first}
                    yield examples(block, self._specs, **options).tolist(), lines.bytes
                    first += len(block)
            except RowError as error:
                raise RowError(f"{file}: {error}") from None

    def _ids(self, serialized: list[bytes], places: Sequence[tuple[str, int]]) -> np.ndarray:
        dtype = _DTYPES[self.id_dtype]
        spec = {self.id_column: tf.io.FixedLenFeature((), dtype, MISSING[dtype])}
        try:
            ids = tf.io.parse_example(tf.constant(serialized, tf.string), spec)[self.id_column].numpy()
        except tf.errors.InvalidArgumentError as error:
            (file, first), (_, last) = places[0], places[-1]
            raise CacheError(
                f"{file}, items {first} to {last}: the item id, column {self.id_column!r}, cannot be read: "
                f"{error.message}"
            ) from None
        missing = np.flatnonzero(ids == MISSING[dtype])
        if len(missing):
            file, number = places[missing[0]]
            raise CacheError(f"{file}, item {number}: no id in column {self.id_column!r}")
        return as_ids(ids.tolist(), self.id_dtype)


class _Lines:
    """A text file's lines, counted."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._stream, self.bytes = stream, 0

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            self.bytes += len(line)
            yield line


def _rows(lines: _Lines) -> tuple[bool, Iterator[dict[str, Any]]]:
    """Whether values are cells of CSV; the rows."""
    stream = iter(lines)
    first = next((line for line in stream if line.strip()), "")
    stream = itertools.chain([first], stream)
    start = first.lstrip()[:1]
    if start == "[":
        return False, iter(read_rows("".join(stream)))
    if start == "{":
        return False, _json_lines(stream)
    return True, csv_rows(stream)


def _json_lines(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate((line for line in lines if line.strip()), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RowError(f"row {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise RowError(f"row {number}: expected an object of column names and values, got {row!r}")
        yield row


def _id_column(towers: LoadedTowers, columns: Mapping[str, tf.TensorSpec], named: str | None) -> tuple[str, str]:
    """The id's column and its type."""
    role = towers.item_id
    if role is not None and named in (None, role["column"]):
        return role["column"], role["dtype"]
    if named is None:
        raise CacheError(f"id_column: no feature of the model has role item_id; name one of {sorted(columns)}")
    spec = columns.get(named)
    kinds = {dtype: name for name, dtype in _DTYPES.items()}
    if spec is None or spec.shape.rank != 1 or spec.dtype not in kinds:
        fitting = sorted(name for name, s in columns.items() if s.shape.rank == 1 and s.dtype in kinds)
        raise CacheError(f"id_column must be one of {fitting}, a column of one text or whole number; got {named!r}")
    return named, kinds[spec.dtype]


def _joined(some: Sequence[Items]) -> Items:
    if len(some) == 1:
        return some[0]
    return Items(
        np.concatenate([block.ids for block in some]),
        [example for block in some for example in block.examples],
        [place for block in some for place in block.places],
        some[-1].bytes_read,
    )
