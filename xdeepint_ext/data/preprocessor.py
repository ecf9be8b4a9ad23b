"""`Preprocessor`: raw values -> ids and floats, the one place that decides what an id means."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.data.manifest import DataError, describe_tables, sha256, vocabulary_file
from xdeepint_ext.data.parsing import DTYPES, INT_MISSING, MISSING
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
        missing value ("", the lowest int64, NaN), vectors (B, n). Columns of side inputs may be absent. Missing values
        inside a list are left out, with their weights.

    Returns:
      The model's inputs, `input_signature(schema)`, plus `group_ids`, `session_ids`, `item_ids`, `stages` (int64, (B,))
      and `teacher` (float32, (B,)) where the schema has such a role and the column is there. Strings of side inputs
      become 63-bit fingerprints.

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
        return self.part(raw, self.schema)

    def part(self, raw: Mapping[str, Any], schema: Schema) -> dict[str, tf.Tensor]:
        """The same for some of the features, where users' and items' columns are apart.

        Args:
          raw: the columns of these features.
          schema: some of this object's features.
        """
        outputs: dict[str, tf.Tensor] = {}
        for feature in schema.inputs:
            values = _column(raw, feature.raw_name, feature, feature.dtype)
            if feature.kind in ("multi", "sequence"):
                outputs |= self._lists(feature, values, raw)
            else:
                outputs[feature.name] = self._one(feature, tf.reshape(values, (-1, feature.length)))
        for keyword, feature in schema.side_inputs.items():
            if feature.raw_name in raw:
                outputs[keyword] = _side_input(raw[feature.raw_name])
        return outputs

    def _one(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        if feature.kind == "categorical":
            return self._ids(feature, values)
        if feature.kind == "vector":
            values = tf.cast(values, tf.float32)
            return tf.where(tf.math.is_finite(values), values, 0.0)
        missing = values == INT_MISSING if values.dtype == tf.int64 else tf.math.is_nan(values)
        return _bin(feature, values, missing) if feature.is_ids else _scale(feature, values, missing)

    def _lists(self, feature: Feature, values: Any, raw: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Ids (B, max_length), and their weights where it has such. A missing value takes no place."""
        padding = MISSING[feature.dtype]
        values = values if isinstance(values, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(values)
        here = tf.math.not_equal(values, padding)
        chosen = _dense(feature, tf.ragged.boolean_mask(values, here), padding)
        empty = tf.logical_and(chosen[:, :1] == padding, feature.missing == "bucket")
        ids = tf.where(chosen == padding, tf.constant(0, tf.int64), self._ids(feature, chosen))
        found = {feature.name: tf.concat([tf.where(empty, _missing_id(feature), ids[:, :1]), ids[:, 1:]], axis=1)}
        if feature.weights and feature.weights_name:
            weights = _column(raw, feature.weights, feature, "float")
            weights = weights if isinstance(weights, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(weights)
            weights = _dense(feature, tf.ragged.boolean_mask(_as_long(feature, weights, values), here), 0.0)
            weights = tf.where(tf.math.is_nan(weights), 0.0, weights)
            found[feature.weights_name] = tf.concat([tf.where(empty, 1.0, weights[:, :1]), weights[:, 1:]], axis=1)
        return found

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


class _VocabularyFile(tf.lookup.TextFileInitializer):
    """A vocabulary file by its content: TensorFlow would share one table among all files that ever had this path."""

    @property
    def _shared_name(self) -> str:
        return f"{super()._shared_name}_{sha256(self._filename_arg)}"


def _load_table(feature: Feature, vocabulary_dir: str | os.PathLike[str] | None) -> tf.lookup.StaticHashTable:
    if vocabulary_dir is None:
        raise DataError(f"feature {feature.name!r} needs a vocabulary, but vocabulary_dir is None")
    file = vocabulary_file(vocabulary_dir, feature.table_name)
    if not os.path.exists(file):
        raise DataError(f"feature {feature.name!r}: no vocabulary file {file}")
    initializer = _VocabularyFile(
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


def _column(raw: Mapping[str, Any], column: str, feature: Feature, dtype: str) -> Any:
    """The raw column, in the type that parsing gives it."""
    if column not in raw:
        raise ValueError(f"Preprocessor: column {column!r} of feature {feature.name!r} is missing; got {sorted(raw)}")
    values = raw[column] if isinstance(raw[column], tf.RaggedTensor) else tf.convert_to_tensor(raw[column])
    fits = {
        "string": values.dtype == tf.string,
        "int": values.dtype.is_integer,
        "float": values.dtype.is_floating or values.dtype.is_integer,
    }
    if not fits[dtype]:
        raise ValueError(
            f"Preprocessor: column {column!r} of feature {feature.name!r} must be {dtype}, got {values.dtype.name}"
        )
    return values if values.dtype == DTYPES[dtype] else tf.cast(values, DTYPES[dtype])


def _as_long(feature: Feature, weights: tf.RaggedTensor, values: tf.RaggedTensor) -> tf.RaggedTensor:
    """The weights, once it is sure that each row has as many as the values."""
    lengths, wanted = weights.row_lengths(), values.row_lengths()
    message = [f"feature {feature.name!r}: column {feature.weights!r} must have one weight a value; values, weights:"]
    same = tf.debugging.Assert(tf.reduce_all(lengths == wanted), [*message, wanted, lengths])
    with tf.control_dependencies([same] if same is not None else []):
        return weights.with_flat_values(tf.identity(weights.flat_values))


def _dense(feature: Feature, values: tf.RaggedTensor, padding: Any) -> tf.Tensor:
    """Ragged -> (B, max_length): the first values of a multi, the last of a sequence, padded behind."""
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
