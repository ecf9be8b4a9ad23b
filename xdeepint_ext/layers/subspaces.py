"""Sub-space crossing: views of a (B, F, K) field matrix as rows that a dense product over fields can mix.

`K` columns are cut into `h` contiguous blocks of `s = K / h`, and the blocks are stacked sub-space-major along the
fields, so that row `b * F + f` of the m = F * h rows is block b of field f. Source: xDeepInt §3.2, equations 4-6.
"""

from __future__ import annotations

import tensorflow as tf


def split_subspaces(x: tf.Tensor, num_subspaces: int) -> tf.Tensor:
    """(B, F, K) -> (B, s, m): the stacked rows as the last axis, so that a product over them is one matrix product."""
    _, fields, width = x.shape
    columns = width // num_subspaces
    x = tf.reshape(x, (-1, fields, num_subspaces, columns))
    return tf.reshape(tf.transpose(x, (0, 3, 2, 1)), (-1, columns, num_subspaces * fields))


def join_subspaces(rows: tf.Tensor, num_subspaces: int) -> tf.Tensor:
    """(B, s, m) -> (B, F, K): the inverse of `split_subspaces`."""
    _, columns, stacked = rows.shape
    fields = stacked // num_subspaces
    rows = tf.reshape(rows, (-1, columns, num_subspaces, fields))
    return tf.reshape(tf.transpose(rows, (0, 3, 2, 1)), (-1, fields, num_subspaces * columns))


def check_field_matrix(shape: tf.TensorShape, num_subspaces: int, layer: str) -> tuple[int, int]:
    """The static (F, K) of a layer's (B, F, K) input.

    Raises:
      ValueError: the rank is not 3, F or K is not static, or K is not divisible by the number of sub-spaces.
    """
    shape = tf.TensorShape(shape)
    if shape.rank != 3 or shape[1] is None or shape[2] is None:
        raise ValueError(f"{layer}: inputs must have shape (batch, fields, width), the last two static; got {shape}")
    fields, width = shape[1], shape[2]
    if width % num_subspaces:
        raise ValueError(f"{layer}: num_subspaces must divide the embedding width {width}, got {num_subspaces}")
    return fields, width
