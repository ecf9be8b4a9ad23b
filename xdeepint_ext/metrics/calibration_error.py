"""Streaming expected calibration error."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.metrics.streaming import StreamingMetric, integer, rows, unit_interval
from xdeepint_ext.utils.registry import register


@register
class ExpectedCalibrationError(StreamingMetric):
    """Mean distance between predicted and observed frequency over bins of equal width: `sum_b (n_b / n) |y_b - p_b|`.

    The streaming form of `metrics.expected_calibration_error(..., binning="width")`: bins of equal mass, the default
    there, are known only when all rows are. Without any weight it is 0. The state is three sums a bin.

    Args:
      bins: how many; 15 as Guo et al. A bin holds its upper edge.
      from_logits: whether y_pred are logits, as every model here gives, or probabilities.
      name: of the metric.
      dtype: of the result; the sums are float64.

    Call arguments:
      y_true: labels in [0, 1], (B,) or (B, 1); below 0 = absent.
      y_pred: logits (or probabilities), (B,) or (B, 1).
      sample_weight: (B,) or (B, 1), >= 0.

    Raises:
      ValueError: `bins` is not positive, or shapes do not fit.
      tf.errors.InvalidArgumentError: a label, weight or probability out of its range.

    Example:
      >>> metric = ExpectedCalibrationError(from_logits=False)
      >>> metric.update_state([0, 1, 0, 1], [0.25, 0.25, 0.25, 0.25])
      >>> float(metric.result())
      0.25

    Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), equation 3.
    """

    def __init__(
        self, bins: int = 15, from_logits: bool = True, name: str = "expected_calibration_error", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.bins = integer(self.name, "bins", bins)
        self.from_logits = from_logits
        self.sums = self.add_sums("sums", (self.bins, 3))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        labels, scores, weights = rows(self.name, y_true, y_pred, sample_weight)
        labels, scores = unit_interval(self.name, "y_true", labels), tf.cast(scores, tf.float64)
        if self.from_logits:
            probabilities = tf.sigmoid(scores)
        else:
            probabilities = unit_interval(self.name, "y_pred (from_logits=False)", scores)
        inner = tf.constant(np.linspace(0, 1, self.bins + 1)[1:-1], tf.float64)
        index = tf.searchsorted(inner, probabilities, side="left")
        values = tf.stack([weights, weights * labels, weights * probabilities], axis=1)
        self.sums.assign_add(tf.math.unsorted_segment_sum(values, index, self.bins))

    def result(self) -> tf.Tensor:
        weight, observed, predicted = tf.unstack(tf.convert_to_tensor(self.sums), axis=1)
        return self.mean(tf.reduce_sum(tf.abs(observed - predicted)), tf.reduce_sum(weight))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins, "from_logits": self.from_logits}
