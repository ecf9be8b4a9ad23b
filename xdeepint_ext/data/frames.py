"""`from_pandas`: a data frame as (schema, dataset), for a first try without files."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from xdeepint_ext.data import memory
from xdeepint_ext.data.damage import plain
from xdeepint_ext.data.manifest import DataError, vocabulary_file
from xdeepint_ext.data.parsing import DTYPES, MISSING, labels_and_weights, raw_columns
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.schema import Feature, Schema

# Whole numbers with more distinct values than this are taken for quantities, not for ids.
MOST_IDS = 1000


def from_pandas(
    frame: pd.DataFrame,
    label: str | Sequence[str],
    *,
    batch_size: int = 1024,
    features: Iterable[Feature] = (),
    shuffle: bool = False,
    epochs: int | None = 1,
    seed: int = 0,
    min_count: int = 1,
) -> tuple[Schema, tf.data.Dataset]:
    """Guesses a schema from a frame's columns and gives batches of (features, labels).

    Text, boolean and categorical columns, and whole-number columns of at most 1,000 distinct values, become
    categorical ids; other numbers become standard-scaled floats; columns of lists or tuples become `multi`. What the
    guess gets wrong, say in `features`.

    Args:
      frame: one row an example.
      label: the label's column, 0 or 1; several = several tasks, of which a row may lack some.
      batch_size: rows of a batch.
      features: `Feature` objects that replace the guess for their columns.
      shuffle: see `data.read`.
      epochs: see `data.read`.
      seed: see `data.read`.
      min_count: values that occur less often share the out-of-vocabulary id.

    Returns:
      (schema, dataset). The schema is complete: a model can be made of it. The dataset's `preprocessor` is the
      `Preprocessor` that made the ids, for `serving.export`.

    Raises:
      DataError: the frame is empty, lacks a column, a column cannot be read as its feature's type, or a label is
        neither 0 nor 1.

    Example:
      >>> frame = pd.DataFrame({"city": ["a", "b", "a"], "age": [20.5, 30.1, 40.2], "click": [0, 1, 0]})
      >>> schema, dataset = from_pandas(frame, label="click", batch_size=2)
      >>> [feature.name for feature in schema.inputs]
      ['city', 'age']
    """
    labels = [label] if isinstance(label, str) else list(label)
    given = {feature.name: feature for feature in features}
    if frame.empty:
        raise DataError(f"the frame has no rows; its columns: {list(frame.columns)}")
    beside_ids = [feature.weights for feature in given.values() if feature.weights]
    needed = (*labels, *beside_ids, *(feature.raw_name for feature in given.values()))
    lacking = [name for name in needed if name not in frame.columns]
    if lacking:
        raise DataError(f"the frame lacks the columns {lacking}; it has {list(frame.columns)}")
    guessed = [
        given.pop(name) if name in given else _guess(name, frame[name], min_count)
        for name in frame.columns
        if name not in (*labels, *beside_ids)
    ]
    masked = {name for name in labels if len(labels) > 1 and frame[name].isna().any()}
    targets = [Feature(name, "numeric", "label", required=name not in masked) for name in labels]
    directory = tempfile.TemporaryDirectory(prefix="vocabulary-")
    schema = _complete(Schema([*guessed, *given.values(), *targets]), frame, directory.name)
    preprocessor = Preprocessor(schema, directory.name)
    preprocessor.directory = directory  # deleted with its last user
    raw = {name: _raw(name, feature, frame[name]) for name, feature in raw_columns(schema).items()}
    try:
        answers, weights = labels_and_weights(schema, raw)
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"frame: {plain(error.message)}") from None
    data = (preprocessor(raw), answers) if weights is None else (preprocessor(raw), answers, weights)
    dataset = memory.batches(data, batch_size, shuffle=shuffle, epochs=epochs, seed=seed)
    dataset.preprocessor = preprocessor
    return schema, dataset


def _guess(name: str, column: pd.Series, min_count: int) -> Feature:
    options: dict[str, Any] = {"required": not column.isna().any(), "min_count": min_count}
    first = next(iter(column.dropna()), None)
    if isinstance(first, list | tuple | np.ndarray):
        whole = all(isinstance(value, int | np.integer) for row in column.dropna() for value in row)
        longest = max(len(row) for row in column.dropna())
        return Feature(name, "multi", dtype="int" if whole else "string", max_length=max(longest, 1), **options)
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        return Feature(name, "categorical", dtype="string", **options)
    if pd.api.types.is_integer_dtype(column) and column.nunique() <= MOST_IDS:
        return Feature(name, "categorical", dtype="int", **options)
    return Feature(name, "numeric", dtype="float", required=options["required"])


def _complete(schema: Schema, frame: pd.DataFrame, vocabulary_dir: str) -> Schema:
    """The schema with vocabulary sizes, boundaries, means and deviations; writes the vocabularies."""
    changes: dict[str, dict[str, Any]] = {}
    for table, sharing in _by_table(schema).items():
        values = pd.concat([_flat(feature, frame[feature.raw_name]) for feature in sharing])
        counts = values.value_counts()
        _refuse_line_breaks(table, counts.index)
        kept = sorted(counts.index[counts >= sharing[0].min_count], key=lambda value: (-counts[value], value))
        with open(vocabulary_file(vocabulary_dir, table), "w", encoding="utf-8") as stream:
            stream.writelines(f"{value}\n" for value in kept)
        changes |= {feature.name: {"num_values": len(kept)} for feature in sharing}
    for feature in schema.inputs:
        if feature.kind != "numeric":
            continue
        with _reading(feature.raw_name, feature.dtype):
            numbers = frame[feature.raw_name].astype("float64").dropna()
        numbers = numbers if len(numbers) else pd.Series([0.0])
        if feature.binning == "quantile" and feature.boundaries is None:
            inner = np.linspace(0, 1, (feature.num_bins or 1) + 1)[1:-1]
            changes[feature.name] = {"boundaries": tuple(np.unique(np.quantile(numbers, inner)).tolist())}
        elif not feature.is_ids and feature.scaling == "standard" and feature.mean is None:
            changes[feature.name] = {"mean": float(numbers.mean()), "deviation": float(numbers.std(ddof=0))}
    return schema.replace(changes)


def _by_table(schema: Schema) -> dict[str, list[Feature]]:
    tables: dict[str, list[Feature]] = {}
    for feature in schema.inputs:
        if feature.uses_vocabulary:
            tables.setdefault(feature.table_name, []).append(feature)
    return tables


def _refuse_line_breaks(table: str, values: Iterable[Any]) -> None:
    """A vocabulary file has one value a line."""
    broken = [value for value in values if isinstance(value, str) and ("\n" in value or "\r" in value)]
    if broken:
        raise DataError(f"table {table!r}: value {broken[0]!r} holds a line break, which a vocabulary cannot hold")


@contextlib.contextmanager
def _reading(column: str, dtype: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise DataError(f"frame: column {column!r} cannot be read as {dtype}: {error}") from None


def _flat(feature: Feature, column: pd.Series) -> pd.Series:
    column = column.explode() if feature.kind in ("multi", "sequence") else column
    with _reading(feature.raw_name, feature.dtype):
        values = column.dropna().astype("int64" if feature.dtype == "int" else str)
    return values[values != MISSING[feature.dtype]]


def _raw(name: str, feature: Feature, column: pd.Series) -> Any:
    """A column as the tensor that parsing a record would give."""
    with _reading(name, feature.dtype):
        if feature.kind in ("multi", "sequence"):
            return _ragged(feature, column)
        if feature.kind == "vector":
            return tf.constant(np.stack(column.to_numpy()), DTYPES[feature.dtype])
        if feature.dtype == "string":
            return tf.constant(["" if absent else str(x) for x, absent in zip(column, column.isna(), strict=True)])
        filled = column.astype("float64" if feature.dtype == "float" else "Int64").fillna(MISSING[feature.dtype])
        return tf.constant(filled.to_numpy(dtype=DTYPES[feature.dtype].as_numpy_dtype))


def _ragged(feature: Feature, column: pd.Series) -> tf.RaggedTensor:
    cast, missing = {"int": int, "float": float, "string": str}[feature.dtype], MISSING[feature.dtype]
    rows = [row if isinstance(row, list | tuple | np.ndarray) else [] for row in column]
    values = [[missing if pd.isna(value) else cast(value) for value in row] for row in rows]
    return tf.ragged.constant(values, dtype=DTYPES[feature.dtype], ragged_rank=1, row_splits_dtype=tf.int64)
