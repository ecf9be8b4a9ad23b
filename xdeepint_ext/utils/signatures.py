"""The shapes and dtypes of a schema's model inputs, in one place."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from xdeepint_ext.schema import Schema


def input_signature(schema: Schema, batch_size: int | None = None) -> dict[str, tf.TensorSpec]:
    """What a model of the schema is called with: ids int64 (B, length), floats float32 (B, length).

    Args:
      schema: the schema.
      batch_size: static batch size, None = any.

    Returns:
      Input name -> spec, in field order; a feature's weights (`NAME_weights`) follow its ids.

    Example:
      >>> from xdeepint_ext.schema import Feature
      >>> input_signature(Schema([Feature("age", "numeric")]))
      {'age': TensorSpec(shape=(None, 1), dtype=tf.float32, name='age')}
    """
    specs: dict[str, tf.TensorSpec] = {}
    for feature in schema.inputs:
        shape = (batch_size, feature.length)
        specs[feature.name] = tf.TensorSpec(shape, tf.int64 if feature.is_ids else tf.float32, feature.name)
        if feature.weights_name:
            specs[feature.weights_name] = tf.TensorSpec(shape, tf.float32, feature.weights_name)
    return specs


def check_inputs(schema: Schema, features: Mapping[str, tf.Tensor], where: str) -> None:
    """Checks names and lengths of model inputs.

    Raises:
      ValueError: an input is missing, or has another length or an unfit dtype than the schema says.
    """
    specs = input_signature(schema)
    missing = [name for name in specs if name not in features]
    if missing:
        raise ValueError(f"{where}: features lack {missing}; got {sorted(features)}")
    for name, spec in specs.items():
        value = features[name]
        shape = tf.TensorShape(value.shape)
        flat = shape.rank == 1 and spec.shape[1] == 1
        if not flat and not shape.is_compatible_with(spec.shape):
            raise ValueError(f"{where}: feature {name!r} must have shape (batch, {spec.shape[1]}), got {shape}")
        dtype = tf.as_dtype(value.dtype)
        if dtype.is_integer != spec.dtype.is_integer or not (dtype.is_integer or dtype.is_floating):
            kind = "ids (int)" if spec.dtype.is_integer else "floats"
            raise ValueError(f"{where}: feature {name!r} must be {kind}, got {dtype.name}")
