"""Shapes of batches of lists: features of users (U, length), of items (U, n, length), side inputs (U,) and (U, n)."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

__all__ = ["batch_signature", "trimmed"]

# Side inputs that have a value for each item; those of lists, (U,), are not among them.
_OF_ITEMS = ("stages", "teacher", "soft_label", "item_ids", "list_mask")


def trimmed(features: Mapping[str, tf.Tensor], labels: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """A batch without the places behind the end of its longest list.

    Args:
      features: as `read_lists` gives them.
      labels: (U, n), below 0 where padding.
    """
    sizes = tf.reduce_sum(tf.cast(labels >= 0, tf.int32), axis=1)
    longest = tf.reduce_max(tf.concat([sizes, [1]], axis=0))  # a replica's part of a batch may hold no list
    narrow = {name: x[:, :longest] if _is_of_items(name, x) else x for name, x in features.items()}
    return narrow, labels[:, :longest]


def batch_signature(
    features: Mapping[str, tf.Tensor], labels: tf.Tensor
) -> tuple[dict[str, tf.TensorSpec], tf.TensorSpec]:
    """The signature of batches of any number of lists of any length."""
    specs = {
        name: tf.TensorSpec((None, None, *x.shape[2:]) if _is_of_items(name, x) else (None, *x.shape[1:]), x.dtype)
        for name, x in features.items()
    }
    return specs, tf.TensorSpec((None, None), labels.dtype)


def _is_of_items(name: str, x: tf.Tensor) -> bool:
    return x.shape.rank == 3 or name in _OF_ITEMS
