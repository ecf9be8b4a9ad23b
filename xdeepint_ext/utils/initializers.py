"""Initializers for several weights, and for weights of more than two axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def fresh(initializer: Any) -> Any:
    """A copy of an initializer: one instance gives the same values at every call."""
    return (
        initializer.__class__.from_config(initializer.get_config())
        if hasattr(initializer, "get_config")
        else initializer
    )


def as_dense(initializer: Any) -> Callable[..., tf.Tensor]:
    """Initializer of a kernel (outputs, ...), drawn as the dense kernel (inputs, outputs) that it stands for.

    Keras takes the first of three axes for a convolution's place and finds other fans.
    """

    def draw(shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        outputs, *inputs = shape
        dense = fresh(initializer)((math.prod(inputs), outputs), dtype, **kwargs)
        return tf.reshape(tf.transpose(dense), shape)

    return draw


def stacked(initializer: Any) -> Callable[..., tf.Tensor]:
    """Initializer of kernels that are stacked along the first axis, each drawn on its own."""

    def draw(shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        number, *kernel = shape
        return tf.stack([fresh(initializer)(kernel, dtype, **kwargs) for _ in range(number)])

    return draw


def truncated_normal(stddev: float | None) -> Any:
    """A truncated normal initializer of a deviation; None for None, a layer's default."""
    return None if stddev is None else tf.keras.initializers.TruncatedNormal(stddev=stddev)
