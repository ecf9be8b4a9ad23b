"""Weights that lie in parts, as parameter servers keep large ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

__all__ = ["joined"]


def joined(parts: Iterable[np.ndarray], shapes: Iterable[tf.TensorShape]) -> Iterator[np.ndarray]:
    """The values of weights of which some lie in parts along their first axis, one after the other.

    Args:
      parts: values of the weights, or of their parts in turn.
      shapes: of the whole weights.

    Example:
      >>> parts = [np.zeros((2, 3)), np.ones((1, 3)), np.zeros(5)]
      >>> [value.shape for value in joined(parts, [tf.TensorShape([3, 3]), tf.TensorShape([5])])]
      [(3, 3), (5,)]
    """
    values = iter(parts)
    for shape in shapes:
        pieces = [next(values)]
        while shape.rank and sum(len(piece) for piece in pieces) < shape[0]:
            pieces.append(next(values))
        yield np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
