"""Sums over the replicas of a strategy."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def sum_over_replicas(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Each value summed over all replicas, with a gradient; the values themselves where there is one replica.

    Args:
      values: tensors of the same shapes on every replica.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(values)
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(values)))
