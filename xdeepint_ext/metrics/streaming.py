"""What the metrics that are updated batch by batch share: their sums, and checks that name what is wrong."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32

PROBABILITY_MARGIN = 1e-7
"""Probabilities are clipped to [margin, 1 - margin] before their logarithm is taken."""


class StreamingMetric(tf.keras.metrics.Metric):
    """A metric whose state is sums over the rows seen, so that the order of batches and replicas does not matter.

    The sums are float64: float32 would stop to count at 2^24. The result has the metric's dtype, float32 by default.
    """

    def add_sums(self, name: str, shape: tuple[int, ...] = (), dtype: str = "float64") -> tf.Variable:
        """A variable that starts at 0 and is summed over replicas when it is read."""
        return self.add_weight(name=name, shape=shape, dtype=dtype, initializer="zeros")

    def reset_state(self) -> None:
        for variable in self.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def mean(self, total: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """`total / weight` in the metric's dtype. Over no weight it is 0, unless a NaN has entered the total."""
        total, weight = tf.convert_to_tensor(total), tf.convert_to_tensor(weight)
        nothing = tf.equal(weight, 0)
        return tf.cast(tf.where(nothing, total, total / tf.where(nothing, tf.ones_like(weight), weight)), self.dtype)


class Rows(NamedTuple):
    """Rows of one batch, each of shape (B,).

    Attributes:
      labels: as given; 0 where the row is absent.
      scores: as given, float32 or float64; 0 where the row is absent.
      weights: float64 >= 0; 0 = absent (weight 0, or a label below 0).
    """

    labels: tf.Tensor
    scores: tf.Tensor
    weights: tf.Tensor


def rows(metric: str, y_true: Any, y_pred: Any, sample_weight: Any) -> Rows:
    """The arguments of `update_state` as columns of one length.

    Args:
      metric: its name, for the messages.
      y_true: labels, (B,) or (B, 1).
      y_pred: (B,) or (B, 1).
      sample_weight: (B,) or (B, 1), or a scalar; None = 1.

    Raises:
      ValueError: a rank or length does not fit (`InvalidArgumentError` where only the data show it).
    """
    labels = tf.cast(column(metric, "y_true", y_true), tf.float64)
    scores = column(metric, "y_pred", at_least_float32(y_pred), labels)
    if sample_weight is None:
        weights = tf.ones_like(labels)
    else:
        weights = tf.cast(sample_weight, tf.float64)
        weights = tf.fill(tf.shape(labels), weights) if weights.shape.rank == 0 else weights
        weights = non_negative(metric, column(metric, "sample_weight", weights, labels))
    absent = tf.logical_or(labels < 0, tf.equal(weights, 0))
    return Rows(*(tf.where(absent, tf.zeros_like(x), x) for x in (labels, scores, weights)))


def column(metric: str, argument: str, values: Any, like: tf.Tensor | None = None) -> tf.Tensor:
    """(B,) or (B, 1) -> (B,), as long as `like`."""
    values = tf.convert_to_tensor(values)
    shape = values.shape
    if shape.rank not in (1, 2) or (shape.rank == 2 and shape[1] != 1):
        raise ValueError(f"{metric}: {argument} must have shape (B,) or (B, 1), got {shape}")
    values = values if shape.rank == 1 else tf.squeeze(values, axis=1)
    return values if like is None else same_shape(metric, argument, values, like)


def same_shape(metric: str, argument: str, values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """`values`, once it is sure that their shape is that of `like`, which comes from y_true."""
    if not values.shape.is_compatible_with(like.shape):
        raise ValueError(f"{metric}: {argument} must have the shape of y_true, {like.shape}, got {values.shape}")
    if values.shape.is_fully_defined() and like.shape.is_fully_defined():
        return values
    same = tf.reduce_all(tf.equal(tf.shape(values), tf.shape(like)))
    return require(same, f"{metric}: {argument} must have the shape of y_true; got", tf.shape(values), values)


def non_negative(metric: str, weights: tf.Tensor) -> tf.Tensor:
    """The weights, once it is sure that they are finite and not negative."""
    good = tf.logical_and(weights >= 0, tf.math.is_finite(weights))
    return require(good, f"{metric}: sample_weight must be numbers >= 0, got", weights, weights)


def unit_interval(metric: str, argument: str, values: tf.Tensor) -> tf.Tensor:
    """The values, once it is sure that they are in [0, 1] or NaN."""
    good = tf.logical_not(tf.logical_or(values < 0, values > 1))
    return require(good, f"{metric}: {argument} must be in [0, 1], got", values, values)


def require(condition: tf.Tensor, message: str, shown: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """`value`, which no one can read before all of `condition` has been found true.

    Raises:
      tf.errors.InvalidArgumentError: when it runs; the text is `message` and the first entries of `shown`, of
        those where the condition fails if it is no scalar. Code compiled by XLA does not check.
    """
    if condition.shape.rank != 0:
        shown = tf.boolean_mask(shown, tf.logical_not(condition))
    check = tf.debugging.Assert(tf.reduce_all(condition), [message, shown], summarize=8)
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(value)


def undefined_where(condition: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The values, NaN where the condition holds."""
    return tf.where(condition, tf.constant(math.nan, values.dtype), values)


def integer(owner: str, argument: str, value: Any, least: int = 1) -> int:
    """`value` as an int, once it is sure that it is one >= `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{owner}: {argument} must be an integer >= {least}, got {value!r}")
    return value


def one_of(owner: str, argument: str, value: Any, allowed: tuple[str, ...]) -> Any:
    """`value`, once it is sure that it is one of the allowed."""
    if value not in allowed:
        raise ValueError(f"{owner}: {argument} must be one of {allowed}, got {value!r}")
    return value
