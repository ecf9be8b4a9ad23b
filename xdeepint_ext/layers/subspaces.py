"""Sub-space crossing: views of a (B, F, K) field matrix as rows that a dense product over fields can mix.

`K` columns are cut into `h` contiguous blocks of `s = K / h`, and the blocks are stacked sub-space-major along the
fields, so that row `b * F + f` of the m = F * h rows is block b of field f. Source: xDeepInt §3.2, equations 4-6.
"""

from __future__ import annotations

import tensorflow as tf


def split_subspaces(x: tf.Tensor, num_subspaces: int, columns_first: bool = False) -> tf.Tensor:
    """(B, F, K) -> (B, s, m): the stacked rows as the last axis, so that a product over them is one matrix product.

    With columns_first (s, B, m): what differs by row and example alone, (B, m), is then repeated along the first axis,
    the one broadcast that is as fast as none.
    """
    _, fields, width = x.shape
    columns, stacked = width // num_subspaces, num_subspaces * fields
    x = tf.reshape(x, (-1, fields, num_subspaces, columns))
    if columns_first:
        return tf.reshape(tf.transpose(x, (3, 0, 2, 1)), (columns, -1, stacked))
    return tf.reshape(tf.transpose(x, (0, 3, 2, 1)), (-1, columns, stacked))


def join_subspaces(rows: tf.Tensor, num_subspaces: int, columns_first: bool = False) -> tf.Tensor:
    """(B, s, m) -> (B, F, K): the inverse of `split_subspaces`."""
    columns, stacked = rows.shape[0] if columns_first else rows.shape[1], rows.shape[2]
    fields = stacked // num_subspaces
    if columns_first:
        x = tf.transpose(tf.reshape(rows, (columns, -1, num_subspaces, fields)), (1, 3, 2, 0))
    else:
        x = tf.transpose(tf.reshape(rows, (-1, columns, num_subspaces, fields)), (0, 3, 2, 1))
    return tf.reshape(x, (-1, fields, num_subspaces * columns))


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
