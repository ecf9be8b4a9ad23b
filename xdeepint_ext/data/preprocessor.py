"""`Preprocessor`: raw values -> ids and floats, the one place that decides what an id means."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.data.manifest import DataError, describe_tables, vocabulary_file
from xdeepint_ext.data.parsing import INT_MISSING
from xdeepint_ext.schema import LOG_SQUARE_BINS, Feature, Schema


class Preprocessor(tf.Module):
    """Looks up, hashes, bins and scales raw columns as the schema says; the same object trains and serves.

    Ids: 0 = padding or missing; then the out-of-vocabulary buckets 1 .. num_oov; then the vocabulary in the order of
      its file,
    hash buckets, identity values or bins; then, with `missing="bucket"`, the missing value. Anything callable with the
    same dicts can stand in its place.

    Args:
      schema: a complete `Schema` (as `data.prepare` leaves it).
      vocabulary_dir: directory of the vocabulary files, one value a line; None where no feature uses one.

    Call arguments:
      raw: raw column -> tensor; one value (B,) or (B, 1), several values ragged or (B, n) padded with the column's
        missing value ("", the lowest int64, NaN), vectors (B, n). Columns of side inputs may be absent.

    Returns:
      The model's inputs, `input_signature(schema)`, plus `group_ids`, `item_ids`, `stages` (int64, (B,)) and `teacher`
      (float32, (B,)) where the schema has such a role and the column is there. Strings of side inputs become 63-bit
      fingerprints.

    Raises:
      DataError: a vocabulary file is missing or has another length than the schema says.
      ValueError: a raw column is missing.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> schema = Schema([Feature("age", "numeric", binning="boundaries", boundaries=(18.0, 65.0))])
      >>> Preprocessor(schema, None)({"age": tf.constant([17.0, 18.0, float("nan")])})["age"].numpy().tolist()
      [[1], [2], [0]]
    """

    def __init__(self, schema: Schema, vocabulary_dir: str | os.PathLike[str] | None) -> None:
        super().__init__()
        self.schema = schema
        self.vocabulary_dir = vocabulary_dir
        self._tables: dict[str, Any] = {}
        for feature in schema.inputs:
            if feature.uses_vocabulary and feature.table_name not in self._tables and feature.num_values:
                self._tables[feature.table_name] = _load_table(feature, vocabulary_dir)

    def fingerprint(self) -> str:
        """Equal for two preprocessors if and only if they give equal ids and floats."""
        tables = describe_tables(self.schema, self.vocabulary_dir or "")
        return hashlib.sha256(f"{self.schema.fingerprint()}{tables}".encode()).hexdigest()[:16]

    def __call__(self, raw: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        outputs: dict[str, tf.Tensor] = {}
        for feature in self.schema.inputs:
            values = self._column(raw, feature.raw_name, feature.name)
            outputs[feature.name] = self._input(feature, values)
            if feature.weights_name and feature.weights:
                weights = _dense(feature, self._column(raw, feature.weights, feature.name), float("nan"))
                outputs[feature.weights_name] = tf.where(tf.math.is_nan(weights), 0.0, weights)
        for keyword, feature in self.schema.side_inputs.items():
            if feature.raw_name in raw:
                outputs[keyword] = _side_input(raw[feature.raw_name])
        return outputs

    @staticmethod
    def _column(raw: Mapping[str, Any], column: str, feature: str) -> Any:
        if column not in raw:
            raise ValueError(f"Preprocessor: column {column!r} of feature {feature!r} is missing; got {sorted(raw)}")
        return raw[column]

    def _input(self, feature: Feature, values: Any) -> tf.Tensor:
        if feature.kind in ("multi", "sequence"):
            return self._ids(feature, _dense(feature, values, INT_MISSING if feature.dtype == "int" else ""))
        values = tf.reshape(values, (-1, feature.length))
        if feature.kind == "categorical":
            return self._ids(feature, values)
        if feature.kind == "vector":
            return tf.where(tf.math.is_finite(values), tf.cast(values, tf.float32), 0.0)
        missing = values == INT_MISSING if values.dtype == tf.int64 else tf.math.is_nan(values)
        return _bin(feature, values, missing) if feature.is_ids else _scale(feature, values, missing)

    def _ids(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        """Categorical values -> ids, any shape."""
        text = values.dtype == tf.string
        missing = values == "" if text else values == INT_MISSING
        if feature.lookup == "hash":
            ids = 1 + tf.strings.to_hash_bucket_fast(
                values if text else tf.strings.as_string(values), feature.num_values
            )
        elif feature.lookup == "identity":
            inside = tf.logical_and(values >= 0, values < feature.num_values)
            ids = tf.where(inside, values + 1, 0)
        else:
            ids = self._look_up(feature, values)
        return tf.where(missing, _missing_id(feature), ids)

    def _look_up(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        if feature.table_name in self._tables:
            found = self._tables[feature.table_name].lookup(values)
        else:
            found = tf.fill(tf.shape(values), tf.constant(-1, tf.int64))
        if feature.num_oov <= 1:
            unseen = tf.constant(feature.num_oov, tf.int64)
        else:
            text = values if values.dtype == tf.string else tf.strings.as_string(values)
            unseen = 1 + tf.strings.to_hash_bucket_fast(text, feature.num_oov)
        return tf.where(found < 0, unseen, found + 1 + feature.num_oov)


def _load_table(feature: Feature, vocabulary_dir: str | os.PathLike[str] | None) -> tf.lookup.StaticHashTable:
    if vocabulary_dir is None:
        raise DataError(f"feature {feature.name!r} needs a vocabulary, but vocabulary_dir is None")
    file = vocabulary_file(vocabulary_dir, feature.table_name)
    if not os.path.exists(file):
        raise DataError(f"feature {feature.name!r}: no vocabulary file {file}")
    initializer = tf.lookup.TextFileInitializer(
        file,
        key_dtype=tf.int64 if feature.dtype == "int" else tf.string,
        key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
        value_dtype=tf.int64,
        value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    try:
        table = tf.lookup.StaticHashTable(initializer, default_value=-1)
    except (tf.errors.OpError, ValueError) as error:
        raise DataError(f"vocabulary file {file} of feature {feature.name!r} cannot be loaded: {error}") from None
    size = int(table.size())
    if size != feature.num_values:
        raise DataError(f"vocabulary file {file} has {size} values, but the schema says {feature.num_values}")
    return table


def _dense(feature: Feature, values: Any, padding: Any) -> tf.Tensor:
    """(B, any) -> (B, max_length): the first values of a multi, the last of a sequence, padded behind."""
    if not isinstance(values, tf.RaggedTensor):
        values = tf.convert_to_tensor(values)
        empty = tf.math.is_nan(values) if values.dtype.is_floating else values == padding
        values = tf.ragged.boolean_mask(values, tf.logical_not(empty))
    values = values[:, -feature.length :] if feature.kind == "sequence" else values[:, : feature.length]
    return values.to_tensor(tf.constant(padding, values.dtype), shape=(None, feature.length))


def _bin(feature: Feature, values: tf.Tensor, missing: tf.Tensor) -> tf.Tensor:
    values = tf.where(missing, tf.zeros_like(values), values)
    if feature.binning == "log_square":
        square = tf.math.log1p(tf.square(tf.cast(values, tf.float64)))
        bins = tf.cast(tf.minimum(tf.floor(square), LOG_SQUARE_BINS - 1), tf.int64)
    else:
        bins = tf.cast(tf.raw_ops.Bucketize(input=values, boundaries=list(feature.boundaries or ())), tf.int64)
    return tf.where(missing, _missing_id(feature), 1 + bins)


def _missing_id(feature: Feature) -> tf.Tensor:
    return tf.constant(feature.num_ids - 1 if feature.missing == "bucket" else 0, tf.int64)


def _scale(feature: Feature, values: tf.Tensor, missing: tf.Tensor) -> tf.Tensor:
    values = tf.cast(tf.where(missing, tf.zeros_like(values), values), tf.float32)
    if feature.scaling == "log":
        values = tf.sign(values) * tf.math.log1p(tf.abs(values))
    elif feature.scaling == "standard":
        if feature.mean is None or feature.deviation is None:
            raise DataError(
                f"feature {feature.name!r}: scaling 'standard' needs mean and deviation; data.prepare finds them"
            )
        values = (values - feature.mean) / (feature.deviation or 1.0)
    return tf.where(missing, 0.0, values)


def _side_input(values: Any) -> tf.Tensor:
    values = tf.reshape(values, [-1])
    if values.dtype == tf.string:
        return tf.strings.to_hash_bucket_fast(values, 2**63 - 1)
    return values
