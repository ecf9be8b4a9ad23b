"""Sums the duplicates of a sparse gradient, once and in batch order, for the row-wise optimizers."""

import sys
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from xdeepint_ext.utils.graph import in_xla

Gradient: TypeAlias = "tf.Tensor | tf.IndexedSlices"

# Below this width TensorFlow's sparse-times-dense product adds in a plain loop, without Eigen's set-up for every row.
_NARROW = 32


class RowWise(tf.keras.optimizers.Optimizer):
    """A base of optimizers whose step on a `tf.IndexedSlices` gradient touches only the rows in it.

    `update_step` sees every row at most once. Where another optimizer is extended, this class goes first. Clipping
    comes after the summing, so that a sparse gradient has the norm of the dense gradient that it stands for; Keras
    clips before.
    """

    def _clip_gradients(self, grads: Sequence[Gradient]) -> Sequence[Gradient]:
        summed = [sum_duplicates(g) if isinstance(g, tf.IndexedSlices) else g for g in grads]
        return super()._clip_gradients(summed)

    def _deduplicate_sparse_grad(self, grads: Sequence[Gradient]) -> Sequence[Gradient]:
        return grads  # _clip_gradients, which Keras calls just before, has done it.


def refuse_weight_decay(owner: str, weight_decay: float | None) -> None:
    """Raises a ValueError unless `weight_decay` is None, as decay moves every row of a table at every step."""
    if weight_decay is not None:
        raise ValueError(
            f"weight_decay of {owner} must be None, got {weight_decay!r}: it would move the rows that are not in the "
            "batch too. Use a regularizer on the looked-up rows, or the optimizer's own penalties"
        )


def sum_duplicates(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Adds up the values of equal indices, in the order in which they stand in the gradient.

    On a CPU the sums have the bits of a loop over the batch; on other devices the order of addition is the device's.

    Args:
      gradient: Indices of shape (M,) and values of shape (M, ...).

    Returns:
      A gradient with the U distinct indices, in order of first appearance, and values of shape (U, ...).

    >>> total = sum_duplicates(tf.IndexedSlices(tf.constant([[1.0], [2.0], [4.0]]), tf.constant([7, 3, 7])))
    >>> total.indices.numpy().tolist(), total.values.numpy().tolist()
    ([7, 3], [[5.0], [2.0]])
    """
    values = tf.convert_to_tensor(gradient.values)
    rows, positions = tf.unique(_narrow_indices(gradient), out_idx=tf.int64)
    if _loops_on_cpu(values):
        sums = _sum_by_product(values, positions, tf.size(rows, out_type=tf.int64))
    else:
        sums = tf.math.unsorted_segment_sum(values, positions, tf.size(rows))
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


def _narrow_indices(gradient: tf.IndexedSlices) -> tf.Tensor:
    """The indices as int32 where all rows can be named so: hashing them takes less time."""
    shape = None if gradient.dense_shape is None else tf.get_static_value(gradient.dense_shape)
    if shape is not None and shape[0] <= tf.int32.max:
        return tf.cast(gradient.indices, tf.int32)
    return gradient.indices


def _loops_on_cpu(values: tf.Tensor) -> bool:
    """Whether `_sum_by_product` may run: its kernel exists neither in XLA nor, deterministically, on a GPU.

    It accumulates half precision in float32, so those types are left to the segment sum, too.
    """
    width = values.shape[1:].num_elements()
    return (
        width is not None
        and 0 < width < _NARROW
        and values.dtype in (tf.float32, tf.float64)
        and sys.byteorder == "little"
        and all(device.device_type == "CPU" for device in tf.config.list_logical_devices())
        and not in_xla()
    )


def _sum_by_product(values: tf.Tensor, positions: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    """The segment sum as a product with a sparse 0/1 matrix of one entry a column.

    The same additions in the same order as `tf.math.unsorted_segment_sum`, several times faster at usual widths.
    """
    count = tf.size(positions, out_type=tf.int64)
    # The matrix's entries are at (positions[i], i). One int64 holds both as int32, the low word first.
    coordinates = tf.bitcast(positions + tf.bitwise.left_shift(tf.range(count), tf.constant(32, tf.int64)), tf.int32)
    sums = tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=coordinates,
        a_values=tf.ones([count], values.dtype),
        a_shape=tf.stack([num_rows, count]),
        b=tf.reshape(values, [count, values.shape[1:].num_elements()]),
    )
    return tf.reshape(sums, tf.concat([num_rows[tf.newaxis], values.shape[1:]], 0))
