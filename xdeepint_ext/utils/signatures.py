"""The shapes and dtypes of a schema's model inputs, in one place."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import tensorflow as tf

from xdeepint_ext.schema import Schema


def input_signature(
    schema: Schema, batch_size: int | None = None, only: Collection[str] | None = None
) -> dict[str, tf.TensorSpec]:
    """What a model of the schema is called with: ids int64 (B, length), floats float32 (B, length).

    Args:
      schema: the schema.
      batch_size: static batch size, None = any.
      only: names of the features wanted, None = all.

    Returns:
      Input name -> spec, in field order; a feature's weights (`NAME_weights`) follow its ids.

    Example:
      >>> from xdeepint_ext.schema import Feature
      >>> input_signature(Schema([Feature("age", "numeric")]))
      {'age': TensorSpec(shape=(None, 1), dtype=tf.float32, name='age')}
    """
    specs: dict[str, tf.TensorSpec] = {}
    for feature in schema.inputs:
        if only is not None and feature.name not in only:
            continue
        shape = (batch_size, feature.length)
        specs[feature.name] = tf.TensorSpec(shape, tf.int64 if feature.is_ids else tf.float32, feature.name)
        if feature.weights_name:
            specs[feature.weights_name] = tf.TensorSpec(shape, tf.float32, feature.weights_name)
    return specs


def check_inputs(
    schema: Schema, features: Mapping[str, tf.Tensor], where: str, only: Collection[str] | None = None
) -> None:
    """Checks names and lengths of model inputs: (batch, length), or (lists, items, length).

    Args:
      schema: the schema.
      features: the inputs.
      where: begins the message.
      only: the features that count, None = all.

    Raises:
      ValueError: an input is missing, or has another length or an unfit dtype than the schema says.
    """
    specs = input_signature(schema, only=only)
    missing = [name for name in specs if name not in features]
    if missing:
        raise ValueError(f"{where}: features lack {missing}; got {sorted(features)}")
    for name, spec in specs.items():
        value = features[name]
        shape = tf.TensorShape(value.shape)
        flat = shape.rank == 1 and spec.shape[1] == 1
        of_lists = shape.rank == 3 and shape[1:].is_compatible_with([None, spec.shape[1]])
        if not flat and not of_lists and not shape.is_compatible_with(spec.shape):
            raise ValueError(
                f"{where}: feature {name!r} must have shape (batch, {spec.shape[1]}), or (lists, items, "
                f"{spec.shape[1]}), got {shape}"
            )
        dtype = tf.as_dtype(value.dtype)
        if dtype.is_integer != spec.dtype.is_integer or not (dtype.is_integer or dtype.is_floating):
            kind = "ids (int)" if spec.dtype.is_integer else "floats"
            raise ValueError(f"{where}: feature {name!r} must be {kind}, got {dtype.name}")


def items_a_list(
    schema: Schema, features: Mapping[str, tf.Tensor], only: Collection[str] | None = None
) -> int | tf.Tensor | None:
    """n, where inputs are lists (U, n, length); None where all are rows (B, length).

    Args:
      schema: the schema.
      features: the inputs.
      only: the features that count, None = all.

    Raises:
      ValueError: lists are known to differ in n.
    """
    of_lists = {name: features[name] for name in input_signature(schema, only=only) if len(features[name].shape) == 3}
    if not of_lists:
        return None
    lengths = {name: value.shape[1] for name, value in of_lists.items() if value.shape[1] is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"features of lists must have as many items, got {lengths}")
    return next(iter(lengths.values()), None) or tf.shape(next(iter(of_lists.values())))[1]
