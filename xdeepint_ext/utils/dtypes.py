"""Which dtype to compute in where half precision would lose the result."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def full_precision(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Layer keywords with the policy of the variables (float32 under mixed precision) unless a dtype is given.

    For layers whose output or statistics half precision would spoil: heads, softmax, distances, moving averages.
    float64 stays float64.
    """
    return {"dtype": tf.keras.mixed_precision.global_policy().variable_dtype, **kwargs}


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """Casts half-precision floats, integers and booleans to float32; leaves float32 and float64 alone."""
    x = tf.convert_to_tensor(x)
    return x if x.dtype in (tf.float32, tf.float64) else tf.cast(x, tf.float32)
