"""Records of any kind as raw tensors: a prepared directory, TFRecords of tf.Examples, TF Serving's logged requests."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import FILE_NAME, DataError, Manifest
from xdeepint_ext.data.parsing import DTYPES, MISSING

__all__ = ["Raw", "files_of", "present", "raw_batches"]

BATCH = 4096
EXAMPLES, RAW, RANK = "serving_default", "predict_raw", "rank"

Raw = dict[str, np.ndarray]
"""Raw column -> (n,) or (n, most), padded with the missing value."""
Specs = Mapping[str, tf.TensorSpec]


def files_of(paths: Sequence[str], splits: Sequence[str] = ()) -> list[str]:
    """The TFRecord files that paths stand for.

    Args:
      paths: files, patterns of files, folders of files with `.tfrecord` in their names, and prepared directories.
      splits: of a prepared directory; empty = all.

    Raises:
      DataError: nothing is there, or a directory's records are no raw examples.
    """
    found: list[str] = []
    for path in paths:
        if os.path.exists(os.path.join(path, FILE_NAME)) and os.path.isdir(path):
            found += _of_directory(path, splits)
            continue
        here = glob.glob(os.path.join(path, "*.tfrecord*")) if os.path.isdir(path) else glob.glob(path)
        if not here:
            raise DataError(f"sample: no file {path}")
        found += sorted(here)
    return found


def _of_directory(path: str, splits: Sequence[str]) -> list[str]:
    manifest = Manifest.load(path)
    if manifest.packed is not None or manifest.lists is not None:
        kind = "lists" if manifest.lists is not None else "materialised records"
        raise DataError(f"{path} holds {kind}; raw tf.Examples are needed")
    unknown = sorted(set(splits) - set(manifest.splits))
    if unknown:
        raise DataError(f"{path} has no split {unknown[0]!r}; it has {sorted(manifest.splits)}")
    shards = [shard for split in splits or manifest.splits for shard in manifest.splits[split] if shard.records]
    return [os.path.join(path, shard.file) for shard in shards]


def raw_batches(
    files: Sequence[str], columns: Specs, skipped: dict[str, int], most: int | None = None
) -> Iterator[Raw]:
    """The records of files, some thousands at a time.

    A column that a record lacks is missing there. Logged requests (`PredictionLog`) to `predict_raw`, `rank` and
    `serving_default` count as the rows that they asked to score.

    Args:
      files: TFRecords, gzip by the ending `.gz`.
      columns: raw column -> spec.
      skipped: gets signature -> number of logged requests to other signatures, which have not all columns.
      most: about so many records at most, evenly over the files: every n-th; None = all.

    Raises:
      DataError: a record is damaged, or a column of it does not fit; names file and record.
    """
    step = 1
    if most is not None:
        step = max(1, -(-sum(1 for _ in _records(files)) // most))
    waiting: list[Raw] = []
    examples: list[bytes] = []
    place = ""
    for number, (place, record) in enumerate(_records(files)):
        if number % step:
            continue
        requested = _request(record, place, columns, skipped)
        if requested is None:
            examples.append(record)
        elif isinstance(requested, list):
            examples += requested
        else:
            waiting.append(requested)
        if len(examples) >= BATCH:
            yield _parsed(examples, columns, place)
            examples = []
        if sum(_rows(raw) for raw in waiting) >= BATCH:
            yield _joined(waiting, columns)
            waiting = []
    if examples:
        yield _parsed(examples, columns, place)
    if waiting:
        yield _joined(waiting, columns)


def present(values: np.ndarray) -> np.ndarray:
    """Which entries of a raw column are no missing values."""
    if values.dtype.kind == "f":
        return ~np.isnan(values)
    return values != (MISSING["int"] if values.dtype.kind == "i" else b"")


def _records(files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        dataset = tf.data.TFRecordDataset(file, compression_type="GZIP" if file.endswith(".gz") else "")
        number = -1
        try:
            for number, record in enumerate(dataset.as_numpy_iterator()):
                yield f"{file}, record {number}", record
        except tf.errors.DataLossError as error:
            raise DataError(f"{file}, record {number + 1}: truncated or corrupted: {error.message}") from None


def _request(record: bytes, place: str, columns: Specs, skipped: dict[str, int]) -> Raw | list[bytes] | None:
    """What a logged request asked to score: raw tensors or tf.Examples; None where the record is no log."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        return None
    kind = log.WhichOneof("log_type")
    if kind is None:
        return None
    request = log.predict_log.request
    signature = request.model_spec.signature_name or EXAMPLES
    if kind != "predict_log" or signature not in (EXAMPLES, RAW, RANK):
        name = signature if kind == "predict_log" else kind
        skipped[name] = skipped.get(name, 0) + 1
        return []
    inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
    if signature == EXAMPLES and "examples" in inputs:
        return list(inputs["examples"].ravel())
    rows = max((len(value) for value in inputs.values() if value.ndim), default=0)
    return {name: _column(inputs.get(name), spec, rows, f"{place}, column {name!r}") for name, spec in columns.items()}


def _column(values: np.ndarray | None, spec: tf.TensorSpec, rows: int, place: str) -> np.ndarray:
    """A column of a request, one row repeated where the request has more."""
    dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
    if values is None:
        return np.full((rows, *(size or 0 for size in spec.shape[1:])), _missing(spec), dtype)
    kinds = {tf.string: "OSU", tf.int64: "iu", tf.float32: "fiu"}[spec.dtype]
    if values.dtype.kind not in kinds or values.ndim != len(spec.shape) or len(values) not in (1, rows):
        raise DataError(
            f"{place}: expected {spec.dtype.name} of shape {tuple(spec.shape)} for {rows} rows, got {values.dtype} of "
            f"shape {values.shape}"
        )
    return np.repeat(values.astype(dtype), rows, axis=0) if len(values) != rows else values.astype(dtype)


def _parsed(examples: list[bytes], columns: Specs, place: str) -> Raw:
    spec: dict[str, Any] = {}
    for name, column in columns.items():
        if column.shape.rank == 2 and column.shape[1] is None:
            spec[name] = tf.io.RaggedFeature(column.dtype, row_splits_dtype=tf.int64)
        else:
            shape = column.shape[1:].as_list()
            default = tf.fill(shape, tf.constant(_missing(column), column.dtype)).numpy()
            spec[name] = tf.io.FixedLenFeature(shape, column.dtype, default)
    try:
        found = tf.io.parse_example(tf.constant(examples), spec)
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"{place}, or one of the {len(examples) - 1} records before it: {error.message}") from None
    return {
        name: (value.to_tensor(_missing(columns[name])) if isinstance(value, tf.RaggedTensor) else value).numpy()
        for name, value in found.items()
    }


def _joined(parts: list[Raw], columns: Specs) -> Raw:
    """Requests one behind the other; lists are padded to the longest."""
    found = {}
    for name, spec in columns.items():
        arrays = [raw[name] for raw in parts]
        if spec.shape.rank == 2 and spec.shape[1] is None:
            longest = max(array.shape[1] for array in arrays)
            arrays = [
                np.pad(array, ((0, 0), (0, longest - array.shape[1])), constant_values=_missing(spec))
                for array in arrays
            ]
        found[name] = np.concatenate(arrays)
    return found


def _rows(raw: Raw) -> int:
    return len(next(iter(raw.values())))


def _missing(spec: tf.TensorSpec) -> Any:
    value = next(MISSING[kind] for kind, dtype in DTYPES.items() if dtype == spec.dtype)
    return b"" if value == "" else value
