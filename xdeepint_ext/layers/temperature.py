"""A learned temperature."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32, full_precision
from xdeepint_ext.utils.registry import register

LEAST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 10.0


@register
class Temperature(tf.keras.layers.Layer):
    """`x / tau`, where tau is a positive number that is learned as its logarithm. Computes in float32 or wider.

    Args:
      start: tau at the start, in [0.01, 10], our choice of a range; it stays there.
      learnable: whether tau is trained.

    Weights:
      log_temperature: ln tau, a scalar. Optimizer group `default`: FTRL would pull it to zero.

    Call arguments:
      inputs: of any shape.

    Returns:
      What has the inputs' shape.

    Raises:
      ValueError: start is out of range.

    Example:
      >>> round(float(Temperature(0.5)(tf.constant(3.0))), 4)
      6.0

    Source: RankTower (arXiv 2407.12385), equation 1, for the learned scalar; its form is our reading.
    """

    def __init__(self, start: float = 1.0, learnable: bool = True, **kwargs: Any) -> None:
        super().__init__(**full_precision(kwargs))
        if not LEAST_TEMPERATURE <= start <= HIGHEST_TEMPERATURE:
            raise ValueError(
                f"temperature must be in [{LEAST_TEMPERATURE}, {HIGHEST_TEMPERATURE}] at the start, got {start}"
            )
        self.start = float(start)
        self.learnable = learnable

    def build(self, input_shape: Any) -> None:
        # The constraint leaves a gradient to come back with, which clipping in the call alone would not.
        self.log_temperature = self.add_weight(
            name="log_temperature",
            shape=(),
            initializer=tf.keras.initializers.Constant(math.log(self.start)),
            trainable=self.learnable,
            constraint=_clipped,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        super().build(input_shape)

    @property
    def value(self) -> tf.Tensor:
        """The present tau."""
        return tf.exp(_clipped(at_least_float32(self.log_temperature)))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return at_least_float32(inputs) / self.value

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start, "learnable": self.learnable}


def _clipped(log_temperature: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(log_temperature, math.log(LEAST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE))
