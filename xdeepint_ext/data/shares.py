"""`BatchShare`: the parts of every global batch that are a worker's."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

__all__ = ["BatchShare"]


@dataclasses.dataclass(frozen=True)
class BatchShare:
    """Parts `first .. first + count - 1` of `total` into which every batch is cut.

    The batches are those of one worker, so that any number of workers trains on the same ones: each record of an epoch
    is in one part of one batch. Parts differ by one record at most; those of a short batch may be empty.

    Args:
      first: the worker's first part.
      count: how many, one for each of its replicas.
      total: parts of a batch, the replicas of all workers.

    Example:
      >>> batches = tf.data.Dataset.range(6).batch(4)
      >>> [part.numpy().tolist() for part in BatchShare(1, 1, 2).of(batches)]
      [[2, 3], [5]]
    """

    first: int = 0
    count: int = 1
    total: int = 1

    @classmethod
    def of_worker(cls, context: tf.distribute.InputContext | None) -> BatchShare:
        """The share of a worker of `tf.distribute`; everything without a context."""
        if context is None:
            return cls()
        replicas = context.num_replicas_in_sync // context.num_input_pipelines
        return cls(context.input_pipeline_id * replicas, replicas, context.num_replicas_in_sync)

    def of(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """The worker's parts of the batches (nests of tensors), one after the other."""
        if self.total == 1:
            return batches
        if self.count == 1:
            return batches.map(lambda *batch: self._part(_joined(batch), self.first))
        numbers = tf.data.Dataset.range(self.first, self.first + self.count)
        return batches.flat_map(lambda *batch: numbers.map(lambda number: self._part(_joined(batch), number)))

    def bounds(self, size: Any, number: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """First record of a part, and the first behind it, of a batch of `size` records."""
        size, number = tf.cast(size, tf.int64), tf.cast(number, tf.int64)
        return number * size // self.total, (number + 1) * size // self.total

    def _part(self, batch: Any, number: Any) -> Any:
        start, end = self.bounds(tf.shape(tf.nest.flatten(batch)[0])[0], number)
        return tf.nest.map_structure(lambda x: x[start:end], batch)


def _joined(batch: tuple[Any, ...]) -> Any:
    """`map` passes a tuple's items one by one."""
    return batch[0] if len(batch) == 1 else batch
