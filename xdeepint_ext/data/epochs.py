"""Epochs of batches whose order is a function of (seed, epoch), with an exact position to resume from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def steps_per_epoch(records: int, batch_size: int, drop_remainder: bool = False) -> int:
    """Batches of one epoch; the last one may be short unless `drop_remainder`."""
    return records // batch_size if drop_remainder else -(-records // batch_size)


def repeat_epochs(
    one_epoch: Callable[[tf.Tensor], tf.data.Dataset], steps: int, epochs: int | None, start_step: int
) -> tf.data.Dataset:
    """Epoch after epoch of batches, from the global step `start_step` on.

    Args:
      one_epoch: epoch number (scalar int64) -> its batches, not yet parsed, so that skipping is cheap.
      steps: batches of an epoch.
      epochs: how many in all, counted from epoch 0; None = without end.
      start_step: batches that were taken before.

    Raises:
      ValueError: start_step is negative.
    """
    if start_step < 0:
        raise ValueError(f"start_step must be >= 0, got {start_step}")
    first, skipped = divmod(start_step, max(steps, 1))
    numbers = tf.data.Dataset.counter(first) if epochs is None else tf.data.Dataset.range(first, max(epochs, first))
    return numbers.flat_map(
        lambda epoch: one_epoch(epoch).skip(tf.where(epoch == first, tf.cast(skipped, tf.int64), 0))
    )


def permutation(size: Any, *keys: Any) -> tf.Tensor:
    """A permutation of range(size) that depends on the keys (integers, the seed first) and on nothing else."""
    seed = tf.stack([tf.cast(keys[0], tf.int64), tf.constant(0, tf.int64)])
    for key in keys[1:]:
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(key, tf.int64))
    return tf.argsort(tf.random.stateless_uniform([size], seed), stable=True)


def shuffled_batches(
    blocks: tf.data.Dataset, batch_size: int, buffer: int, keys: tuple[Any, ...], drop_remainder: bool
) -> tf.data.Dataset:
    """Batches of records, shuffled inside windows of about `buffer` records (a whole number of batches).

    The keys alone fix the order. `tf.data`'s depends on the global seed too, and costs more for each record.

    Args:
      blocks: the records, any number of them in one element.
      batch_size: records of a batch.
      buffer: see above.
      keys: see `permutation`.
      drop_remainder: leave out the short batch at the end.
    """
    window = max(buffer // batch_size, 1) * batch_size

    def cut(index: tf.Tensor, taken: tf.Tensor) -> tf.data.Dataset:
        size = tf.size(taken, out_type=tf.int64)
        order = permutation(size, *keys, index)
        starts = tf.data.Dataset.range(0, size // batch_size * batch_size if drop_remainder else size, batch_size)
        # Batch by batch, so that a record is copied once.
        return starts.map(lambda start: tf.gather(taken, order[start : start + batch_size]))

    return blocks.rebatch(window).prefetch(1).enumerate().flat_map(cut)


def plain_options(dataset: tf.data.Dataset, deterministic: bool = True) -> tf.data.Dataset:
    """Turns the autotuner off: it makes the end of every iterator wait for its own, doubling, sleep."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = deterministic
    return dataset.with_options(options)
