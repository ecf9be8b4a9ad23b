"""Batches from arrays in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.epochs import permutation, plain_options, repeat_epochs, steps_per_epoch
from xdeepint_ext.data.shares import BatchShare


def batches(
    arrays: Any,
    batch_size: int,
    *,
    shuffle: bool = False,
    epochs: int | None = 1,
    seed: int = 0,
    start_step: int = 0,
    drop_remainder: bool = False,
    groups: Any = None,
    share: BatchShare | None = None,
) -> tf.data.Dataset:
    """Cuts a nest of equally long tensors into batches; the whole set is shuffled anew for each epoch.

    Args:
      arrays: nest (tuple, dict ...) of tensors with the same first dimension.
      batch_size: records of a batch; the last of an epoch may be short.
      shuffle: whether the order is drawn (from seed and epoch) or the given one.
      epochs: how many; None = without end.
      seed: of the order.
      start_step: batches to skip.
      drop_remainder: drop short batches.
      groups: None, or the number of each record's group, 0 .. groups - 1: with `shuffle` the order of the groups is
        drawn, and that inside each, and a group's records come one after another.
      share: the parts of each batch that are given; default: all.

    Returns:
      A dataset of the same nest.

    Raises:
      ValueError: no record, tensors of different lengths, or a batch_size below 1.

    Example:
      >>> [batch.numpy().tolist() for batch in batches(tf.range(5), 2)]
      [[0, 1], [2, 3], [4]]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be > 0, got {batch_size}")
    arrays = tf.nest.map_structure(tf.convert_to_tensor, arrays)
    lengths = {int(array.shape[0]) for array in tf.nest.flatten(arrays)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"arrays must be of one length > 0, got lengths {sorted(lengths)}")
    size = lengths.pop()
    if groups is not None and np.shape(groups) != (size,):
        raise ValueError(f"groups must be a number for each of {size} records, got shape {np.shape(groups)}")
    end = size // batch_size * batch_size if drop_remainder else size

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = _order(size, groups, seed, epoch) if shuffle else tf.range(size)
        starts = tf.data.Dataset.range(0, end, batch_size)
        return starts.map(lambda start: order[start : tf.minimum(start + batch_size, size)])

    steps = steps_per_epoch(size, batch_size, drop_remainder)
    indices = (share or BatchShare()).of(repeat_epochs(one_epoch, steps, epochs, start_step))
    return plain_options(indices.map(_side_by_side(arrays, size)).prefetch(2))


def _order(size: int, groups: Any, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The records of an epoch."""
    order = permutation(size, seed, epoch)
    if groups is None:
        return order
    place_of_group = permutation(int(np.max(groups)) + 1, seed, epoch, 1)
    return tf.gather(order, tf.argsort(tf.gather(place_of_group, tf.gather(groups, order)), stable=True))


def _side_by_side(arrays: Any, size: int) -> Callable[[tf.Tensor], Any]:
    """Indices -> the nest of those rows.

    All arrays of a type stand in one matrix: a record is then one piece of memory, and not one for each feature.
    """
    flat = tf.nest.flatten(arrays)
    places: dict[tf.DType, list[int]] = {}
    for place, array in enumerate(flat):
        places.setdefault(array.dtype, []).append(place)
    shapes = [array.shape[1:] for array in flat]
    widths = [shape.num_elements() for shape in shapes]
    matrices = {
        dtype: tf.concat([tf.reshape(flat[place], (size, widths[place])) for place in found], axis=1)
        for dtype, found in places.items()
    }

    def take(index: tf.Tensor) -> Any:
        taken: dict[int, tf.Tensor] = {}
        for dtype, found in places.items():
            parts = tf.split(tf.gather(matrices[dtype], index), [widths[place] for place in found], axis=1)
            for place, part in zip(found, parts, strict=True):
                taken[place] = part if shapes[place].rank == 1 else tf.reshape(part, (-1, *shapes[place]))
        return tf.nest.pack_sequence_as(arrays, [taken[place] for place in range(len(flat))])

    return take


def collect(dataset: tf.data.Dataset) -> Any:
    """All batches of a finite dataset as one nest of tensors."""
    found = list(dataset)
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *found)
