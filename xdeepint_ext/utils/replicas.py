"""Sums and rows over the replicas of a strategy."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from xdeepint_ext.utils.graph import in_xla


def num_replicas() -> int:
    """How many replicas compute at once; 1 outside of a replica, as when a strategy builds a model."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def sum_over_replicas(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Each value summed over all replicas, with a gradient; the values themselves where there is one replica.

    Args:
      values: tensors of the same shapes on every replica.
    """
    if num_replicas() == 1:
        return list(values)
    return list(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(values)))


def rows_of_replicas(x: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, (N, ...), where the boolean holds; where it does not, a few of them.

    A collective may not stand in a branch of the graph: what is wanted once is gathered at every step, but at all
    others it is one row of each replica, as shapes may follow the data. Under XLA they may not.

    Args:
      x: (B, ...), B may differ between replicas.
      wanted: a scalar, the same on all replicas.
    """
    if num_replicas() == 1:
        return x
    if not in_xla():
        x = x[: tf.where(wanted, tf.shape(x)[0], tf.minimum(tf.shape(x)[0], 1))]
    gathered = tf.distribute.get_replica_context().all_gather(x, axis=0)
    return tf.ensure_shape(gathered, (None, *x.shape[1:]))


class GlobalRows:
    """Where this replica's rows stand in the global batch, which is the replicas' batches one after the other.

    Args:
      rows: how many this replica has, a scalar.

    Attributes:
      total: how many all replicas have.
    """

    def __init__(self, rows: tf.Tensor) -> None:
        self._rows, self._first, self.total = rows, tf.zeros_like(rows), rows
        replicas = num_replicas()
        if replicas > 1:
            mine = tf.distribute.get_replica_context().replica_id_in_sync_group
            [sizes] = sum_over_replicas([rows * tf.one_hot(mine, replicas, dtype=rows.dtype)])
            self._first = tf.gather(tf.cumsum(sizes, exclusive=True), mine)
            self.total = tf.reduce_sum(sizes)

    def at(self, places: Sequence[tf.Tensor], sources: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The rows at places of the global batch, the same on every replica.

        Args:
          places: of each source, (n,) int32 in [0, total).
          sources: (B, ...), this replica's rows.

        Returns:
          For each source (n, ...); zeros where total is 0.
        """
        return sum_over_replicas([self._here(*pair) for pair in zip(places, sources, strict=True)])

    def _here(self, places: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """The rows that this replica has, zeros for the others."""
        local = places - self._first
        mine = tf.logical_and(local >= 0, local < self._rows)
        shape = (places.shape[0], *x.shape[1:])

        def taken() -> tf.Tensor:
            rows = tf.gather(x, tf.clip_by_value(local, 0, self._rows - 1))
            return tf.where(tf.reshape(mine, (-1, *[1] * (len(shape) - 1))), rows, tf.zeros_like(rows))

        if num_replicas() == 1 and x.shape[0]:
            return tf.gather(x, places)
        return tf.cond(self._rows > 0, taken, lambda: tf.zeros(shape, x.dtype))
