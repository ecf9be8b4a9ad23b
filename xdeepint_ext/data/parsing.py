"""tf.Example records -> raw tensors: one parse of a whole batch, by the schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.schema import Feature, Schema, SchemaError

# What stands for a missing value in a raw tensor. An empty string is missing too.
INT_MISSING = tf.int64.min
MISSING: dict[str, Any] = {"string": "", "int": INT_MISSING, "float": float("nan")}
DTYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}

RawTensors = Mapping[str, Any]


def raw_columns(schema: Schema, training: bool = True) -> dict[str, Feature]:
    """Raw column -> a feature made of it (several features of one column agree on its type).

    Args:
      schema: the schema.
      training: False leaves out what only training needs: labels, weights and side inputs.
    """
    columns: dict[str, Feature] = {}
    for feature in schema:
        if not (training or feature.is_input):
            continue
        known = columns.setdefault(feature.raw_name, feature)
        for key in ("dtype", "required"):
            if getattr(known, key) != getattr(feature, key):
                raise SchemaError(
                    f"features {known.name!r} and {feature.name!r} are made of column {feature.raw_name!r} but differ "
                    f"in {key}: {getattr(known, key)!r} and {getattr(feature, key)!r}"
                )
        if feature.weights:
            columns[feature.weights] = Feature(
                feature.weights, "multi", dtype="float", max_length=feature.max_length, role="weight"
            )
    return columns


def raw_feature_spec(schema: Schema, training: bool = True) -> dict[str, Any]:
    """What `tf.io.parse_example` is to look for; see `raw_columns`. Columns of several values come out ragged."""
    spec: dict[str, Any] = {}
    for name, feature in raw_columns(schema, training).items():
        dtype, missing = DTYPES[feature.dtype], MISSING[feature.dtype]
        if feature.kind in ("multi", "sequence"):
            spec[name] = tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
        else:
            shape = [feature.length] if feature.kind == "vector" else []
            default = None if feature.required else tf.fill(shape, tf.constant(missing, dtype)).numpy()
            spec[name] = tf.io.FixedLenFeature(shape, dtype, default)
    return spec


def raw_signature(schema: Schema) -> dict[str, tf.TensorSpec]:
    """Names, shapes and types of the raw tensors that serving takes.

    One value is (B,), several are (B, None), a vector is (B, n). Rows of several values are padded with the column's
    missing value: "", the lowest int64, NaN.
    """
    specs = {}
    for name, feature in raw_columns(schema, training=False).items():
        shape = {"multi": (None, None), "sequence": (None, None), "vector": (None, feature.length)}
        specs[name] = tf.TensorSpec(shape.get(feature.kind, (None,)), DTYPES[feature.dtype], name)
    return specs


def labels_and_weights(schema: Schema, raw: RawTensors) -> tuple[Any, tf.Tensor | None]:
    """The labels, (B, 1) or a dict of it by task with -1 where missing, and the weights (B,) or None.

    Raises:
      tf.errors.InvalidArgumentError: a label that is not missing is neither 0 nor 1, or a weight is negative or NaN.
    """
    labels = {feature.name: _label(feature, raw[feature.raw_name]) for feature in schema.labels}
    weight = None
    if schema.weight is not None:
        weight = tf.reshape(tf.cast(raw[schema.weight.raw_name], tf.float32), [-1])
        _demand(weight >= 0.0, schema.weight.name, weight, "weights must be >= 0")
    return (labels if len(labels) > 1 else next(iter(labels.values()), None)), weight


def _label(feature: Feature, raw: tf.Tensor) -> tf.Tensor:
    label = tf.reshape(tf.cast(raw, tf.float32), [-1, 1])
    if not feature.required:
        missing = tf.math.is_nan(label) if feature.dtype == "float" else tf.reshape(raw, [-1, 1]) == INT_MISSING
        label = tf.where(missing, -1.0, label)
    fine = tf.logical_or(label == 0.0, label == 1.0)
    _demand(
        fine if feature.required else tf.logical_or(fine, label == -1.0), feature.name, label, "labels must be 0 or 1"
    )
    return label


def _demand(condition: tf.Tensor, name: str, values: tf.Tensor, message: str) -> None:
    bad = tf.boolean_mask(values, tf.logical_not(condition))
    tf.debugging.Assert(tf.reduce_all(condition), [f"feature {name!r}: {message}, got", bad])
