"""Raw rows (JSON, CSV, dictionaries) -> the typed arrays that a signature takes. Needs TensorFlow and NumPy alone."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

SEPARATOR = "|"
# As in xdeepint_ext.data.parsing, which imports more than a client needs.
MISSING: dict[tf.DType, Any] = {tf.string: b"", tf.int64: tf.int64.min, tf.float32: math.nan}
_EXPECTED = {tf.string: "text", tf.int64: "a whole number", tf.float32: "a number"}

Row = Mapping[str, Any]
Specs = Mapping[str, tf.TensorSpec]


class RowError(ValueError):
    """A row does not fit the signature; the message names row and column."""


def read_text(file: str) -> str:
    """The text of a file, - = standard input, to give to `read_rows`."""
    if file == "-":
        return sys.stdin.read()
    with open(file, encoding="utf-8-sig") as stream:
        return stream.read()


def read_rows(text: str) -> list[dict[str, Any]]:
    r"""Rows of a JSON list of objects, of one JSON object a line, or of CSV with a header (whose cells stay text).

    Raises:
      RowError: the text is none of these, or holds no row.

    Example:
      >>> read_rows('{"user": 3}'), read_rows("user,item\n3,4")
      ([{'user': 3}], [{'user': '3', 'item': '4'}])
    """
    start = text.lstrip()[:1]
    if start == "[":
        rows = _json(text, "the input")
    elif start == "{":
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        rows = [_json(line, f"line {number}") for number, line in lines]
    else:
        rows = list(csv_rows(io.StringIO(text)))
    bad = [number for number, row in enumerate(rows, 1) if not isinstance(row, dict)]
    if bad:
        raise RowError(f"row {bad[0]}: expected an object of column names and values, got {rows[bad[0] - 1]!r}")
    if not rows:
        raise RowError("the input holds no row")
    return rows


def is_csv(text: str) -> bool:
    """Whether `read_rows` takes the text for CSV."""
    return text.lstrip()[:1] not in ("[", "{")


def typed(
    rows: Sequence[Row], specs: Specs, *, cells: bool = False, separator: str = SEPARATOR
) -> dict[str, np.ndarray]:
    """The arrays that a signature takes.

    Args:
      rows: column name -> value, a list of values for a column of several; None = missing. Columns that `specs` lacks
        are not looked at.
      specs: the signature's inputs. Of a spec whose first dimension is 1, all rows must have the same value.
      cells: the values are cells of a CSV file: text, "" = missing, several values separated.
      separator: of the values in such a cell.

    Returns:
      Column -> array: (B,), (B, longest) padded with the missing value, or (B, n); strings as arrays of bytes.

    Raises:
      RowError: a column is missing, or a value has the wrong type or number.

    Example:
      >>> typed([{"age": 3}, {"age": None}], {"age": tf.TensorSpec((None,), tf.float32)})["age"].tolist()
      [3.0, nan]
    """
    columns = _columns(rows, specs, cells, separator)
    return {
        name: _array([_one(name, column)] if specs[name].shape[0] == 1 else column, specs[name])
        for name, column in columns.items()
    }


def examples(
    rows: Sequence[Row], specs: Specs, *, cells: bool = False, separator: str = SEPARATOR, first: int = 1
) -> np.ndarray:
    """Serialized tf.Examples, (B,), of what `typed` gives for the same arguments, missing values written out.

    Equal rows have equal bytes. Messages count rows from `first` on.
    """
    columns = _columns(rows, specs, cells, separator, first)
    found = []
    for index in range(len(rows)):
        example = tf.train.Example()
        for name, column in columns.items():
            values = column[index] if specs[name].shape.rank == 2 else [column[index]]
            feature = example.features.feature[name]
            lists = {tf.string: feature.bytes_list, tf.int64: feature.int64_list, tf.float32: feature.float_list}
            lists[specs[name].dtype].value.extend(values)
        found.append(example.SerializeToString(deterministic=True))
    return np.array(found, dtype=object)


def _columns(rows: Sequence[Row], specs: Specs, cells: bool, separator: str, first: int = 1) -> dict[str, list[Any]]:
    """Column -> the values of its rows; lists of them where the signature takes several."""
    convert = _cell if cells else _value
    columns: dict[str, list[Any]] = {}
    for number, row in enumerate(rows, first):
        missing = sorted(set(specs) - set(row))
        if missing:
            raise RowError(
                f"row {number}: no column {', '.join(map(repr, missing))} (null where a value is missing); the row has "
                f"{sorted(row)}"
            )
    for name, spec in sorted(specs.items()):
        if spec.dtype not in MISSING:
            raise RowError(f"column {name!r}: the signature wants {spec.dtype.name}, which rows cannot give")
        columns[name] = []
        for number, row in enumerate(rows, first):
            try:
                columns[name].append(convert(row[name], spec, separator))
            except ValueError as error:
                raise RowError(f"row {number}, column {name!r}: {error}") from None
    return columns


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(f"{where} is not JSON: {error}") from None


def csv_rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Rows of CSV with a header, one after another.

    Raises:
      RowError: a row has another number of cells than the header, or its quotes are wrong.
    """
    reader = csv.DictReader(lines, restkey="", strict=True)
    number = 0
    try:
        for number, row in enumerate(reader, 1):
            if "" in row or None in row.values():
                raise RowError(f"row {number}: expected {len(reader.fieldnames or ())} cells, as in the header")
            yield row
    except csv.Error as error:
        raise RowError(f"row {number + 1} is not CSV: {error}") from None


def _value(value: Any, spec: tf.TensorSpec, separator: str) -> Any:
    """A value of JSON."""
    if spec.shape.rank == 1:
        return _scalar(value, spec.dtype)
    if value is None:
        return [MISSING[spec.dtype]] * (spec.shape[1] or 0)
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list, got {value!r}")
    return _several([_scalar(element, spec.dtype) for element in value], spec)


def _scalar(value: Any, dtype: tf.DType) -> Any:
    if value is None:
        return MISSING[dtype]
    if dtype == tf.string and isinstance(value, str | bytes):
        return tf.compat.as_bytes(value)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if dtype == tf.int64 and whole and tf.int64.min <= value <= tf.int64.max:
        return int(value)
    if dtype == tf.float32 and (whole or isinstance(value, float | np.floating)):
        return float(value)
    raise ValueError(f"expected {_EXPECTED[dtype]}, got {value!r}")


def _cell(value: str, spec: tf.TensorSpec, separator: str) -> Any:
    """A cell of a CSV file."""
    if spec.shape.rank == 1:
        return _scalar_of_text(value, spec.dtype) if value else MISSING[spec.dtype]
    if not value:
        return _value(None, spec, separator)
    return _several([_scalar_of_text(part, spec.dtype) for part in value.split(separator)], spec)


def _scalar_of_text(text: str, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        return text.encode()
    try:
        return _scalar(int(text) if dtype == tf.int64 else float(text), dtype)
    except ValueError:
        raise ValueError(f"expected {_EXPECTED[dtype]}, got {text!r}") from None


def _several(values: list[Any], spec: tf.TensorSpec) -> list[Any]:
    if spec.shape[1] not in (None, len(values)):
        raise ValueError(f"expected {spec.shape[1]} values, got {len(values)}")
    return values


def _one(name: str, column: list[Any]) -> Any:
    """The value that all rows share."""
    for number, value in enumerate(column, 1):
        # NaN, the missing number, differs from itself.
        if repr(value) != repr(column[0]):
            raise RowError(
                f"row {number}, column {name!r}: this signature takes one value for all rows, but row 1 has "
                f"{column[0]!r} and this one {value!r}"
            )
    return column[0]


def _array(column: list[Any], spec: tf.TensorSpec) -> np.ndarray:
    dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
    if spec.shape.rank == 1:
        return np.array(column, dtype)
    longest = spec.shape[1] or max((len(values) for values in column), default=0)
    padded = np.full((len(column), longest), MISSING[spec.dtype], dtype)
    for row, values in enumerate(column):
        padded[row, : len(values)] = values
    return padded
