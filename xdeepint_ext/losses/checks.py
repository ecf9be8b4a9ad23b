"""What comes into a loss: made dense, brought to one shape, and refused where it cannot be right."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.graph import in_xla


def require(condition: tf.Tensor, x: tf.Tensor, message: str) -> tf.Tensor:
    """`x`, once it is sure that a boolean holds: at once where its value is known, else when the graph runs.

    XLA has no assertions: there nothing is checked.

    Raises:
      ValueError: it is known not to hold.
    """
    known = tf.get_static_value(condition)
    if known is not None:
        if not known:
            raise ValueError(message)
        return x
    if in_xla():
        return x
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(x)


def like(x: Any, y: tf.Tensor, argument: str, cast: bool = True) -> tf.Tensor:
    """`x` in the shape of `y`, where only a trailing axis of length 1 differs, and in its dtype.

    Raises:
      ValueError: the shapes do not fit.
    """
    x = tf.cast(x, y.dtype) if cast else tf.convert_to_tensor(x)
    if x.shape.rank == y.shape.rank - 1 and y.shape[-1] == 1:
        x = x[..., tf.newaxis]
    elif x.shape.rank == y.shape.rank + 1 and x.shape[-1] == 1:
        x = tf.squeeze(x, axis=-1)
    if not x.shape.is_compatible_with(y.shape):
        raise ValueError(f"{argument} must have the shape of y_pred, {y.shape}, got {x.shape}")
    return x


def weights_like(weight: Any, y: tf.Tensor) -> tf.Tensor:
    """Weights >= 0 of the shape of `y`, or, where that is (B, L), of (B,) or (B, 1): one for a whole row.

    Raises:
      ValueError: the shapes do not fit, or a weight is known to be below 0.
    """
    weight = tf.cast(weight, y.dtype)
    if y.shape.rank == 2 and y.shape[1] != 1:
        if weight.shape.rank == 1:
            weight = weight[:, tf.newaxis]
        if weight.shape.rank == 2 and weight.shape[1] == 1:
            weight = tf.repeat(weight, tf.shape(y)[1], axis=1)
    weight = like(weight, y, "sample_weight")
    return require(tf.logical_not(tf.reduce_any(weight < 0)), weight, "sample_weight must not be negative")


def group_ids_like(group_ids: Any, items: tf.Tensor) -> tf.Tensor:
    """Integers (B,), one for each item.

    Raises:
      ValueError: another type or length.
    """
    group_ids = tf.convert_to_tensor(group_ids)
    if not group_ids.dtype.is_integer:
        raise ValueError(f"group_ids must be integers, got {group_ids.dtype.name}: look strings up, or hash them")
    return like(group_ids, items, "group_ids", cast=False)


def as_dense(logits: Any, side: dict[str, Any], weight: Any, target: str) -> tuple[tf.Tensor, dict[str, Any], Any]:
    """Ragged lists as rows of one length: label -1 behind the end, 0 for the others; for other targets a list_mask."""
    if not any(isinstance(x, tf.RaggedTensor) for x in (logits, weight, *side.values())):
        return tf.convert_to_tensor(logits), side, weight
    ragged = logits if isinstance(logits, tf.RaggedTensor) else side[target]
    if not isinstance(ragged, tf.RaggedTensor):
        raise ValueError(f"y_pred or {target} must be ragged where another input is; got {logits!r}, {side[target]!r}")
    length = tf.shape(logits)[1] if not isinstance(logits, tf.RaggedTensor) else ragged.bounding_shape(1)

    def dense(x: Any, padding: float, name: str) -> Any:
        if not isinstance(x, tf.RaggedTensor):
            return x
        same = tf.reduce_all(x.row_lengths() == ragged.row_lengths())
        flat = require(same, x.flat_values, f"{name} must have rows of the same lengths as the other ragged inputs")
        shape = [None, length, *([None] * (len(x.shape) - 2))]
        return x.with_flat_values(flat).to_tensor(tf.cast(padding, x.dtype), shape=shape)

    padded = {name: dense(x, -1.0 if name == "label" else 0.0, name) for name, x in side.items()}
    if target != "label" and "list_mask" not in padded:
        padded["list_mask"] = tf.sequence_mask(ragged.row_lengths(), length)
    return dense(logits, 0.0, "y_pred"), padded, dense(weight, 0.0, "sample_weight")
