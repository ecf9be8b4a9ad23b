"""Batches from arrays in memory."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.data.epochs import permutation, plain_options, repeat_epochs, steps_per_epoch


def batches(
    arrays: Any,
    batch_size: int,
    *,
    shuffle: bool = False,
    epochs: int | None = 1,
    seed: int = 0,
    start_step: int = 0,
    drop_remainder: bool = False,
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
    end = size // batch_size * batch_size if drop_remainder else size

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = permutation(size, seed, epoch) if shuffle else tf.range(size)
        starts = tf.data.Dataset.range(0, end, batch_size)
        return starts.map(lambda start: order[start : tf.minimum(start + batch_size, size)])

    steps = steps_per_epoch(size, batch_size, drop_remainder)
    indices = repeat_epochs(one_epoch, steps, epochs, start_step)
    take = indices.map(lambda index: tf.nest.map_structure(lambda array: tf.gather(array, index), arrays))
    return plain_options(take.prefetch(2))


def collect(dataset: tf.data.Dataset) -> Any:
    """All batches of a finite dataset as one nest of tensors."""
    found = list(dataset)
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *found)
