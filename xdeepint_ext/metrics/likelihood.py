"""Streaming log loss and normalised cross-entropy."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.metrics.streaming import PROBABILITY_MARGIN, StreamingMetric, rows, undefined_where, unit_interval
from xdeepint_ext.utils.registry import register


@register
class LogLossMetric(StreamingMetric):
    """Mean binary cross-entropy of all rows seen: `sum w (softplus(z) - y z) / sum w`.

    The streaming form of `metrics.log_loss`. The loss is called `losses.LogLoss`, and Keras knows one class of a name:
    hence the suffix, as TF-Ranking's metrics have it. Without any weight the mean is 0.

    Args:
      from_logits: whether y_pred are logits, as every model here gives, or probabilities, which are clipped to
        [1e-7, 1 - 1e-7].
      name: of the metric.
      dtype: of the result; the sums are float64.

    Call arguments:
      y_true: labels in [0, 1], (B,) or (B, 1); below 0 = absent.
      y_pred: logits (or probabilities), (B,) or (B, 1).
      sample_weight: (B,) or (B, 1), >= 0.

    Raises:
      ValueError: shapes that do not fit.
      tf.errors.InvalidArgumentError: a label, weight or probability out of its range.

    Example:
      >>> metric = LogLossMetric()
      >>> metric.update_state([1, 0], [0.0, 0.0])
      >>> round(float(metric.result()), 4)
      0.6931

    Source: xDeepInt (arXiv 2301.01089), equation 8.
    """

    def __init__(self, from_logits: bool = True, name: str = "log_loss", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits
        self.total = self.add_sums("total")
        self.weight = self.add_sums("weight")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.add(*rows(self.name, y_true, y_pred, sample_weight))

    def add(self, labels: tf.Tensor, scores: tf.Tensor, weights: tf.Tensor) -> None:
        """Adds rows to the sums."""
        labels, scores = unit_interval(self.name, "y_true", labels), tf.cast(scores, tf.float64)
        if self.from_logits:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=scores)
        else:
            scores = unit_interval(self.name, "y_pred (from_logits=False)", scores)
            scores = tf.clip_by_value(scores, PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
            losses = -(labels * tf.math.log(scores) + (1 - labels) * tf.math.log1p(-scores))
        self.total.assign_add(tf.reduce_sum(weights * losses))
        self.weight.assign_add(tf.reduce_sum(weights))

    def result(self) -> tf.Tensor:
        return self.mean(self.total, self.weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}


@register
class NormalizedCrossEntropy(LogLossMetric):
    """Log loss over the log loss of always predicting the labels' mean; below 1 is better than that.

    The streaming form of `metrics.normalized_cross_entropy`. As there, it is NaN where the labels (of weight > 0) are
    all equal, as that log loss is then 0.

    Args:
      from_logits: whether y_pred are logits or probabilities; see `LogLossMetric`.
      name: of the metric.
      dtype: of the result; the sums are float64.

    Call arguments:
      y_true: labels in [0, 1], (B,) or (B, 1); below 0 = absent.
      y_pred: logits (or probabilities), (B,) or (B, 1).
      sample_weight: (B,) or (B, 1), >= 0.

    Raises:
      ValueError: shapes that do not fit.
      tf.errors.InvalidArgumentError: a label, weight or probability out of its range.

    Example:
      >>> metric = NormalizedCrossEntropy(from_logits=False)
      >>> metric.update_state([1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25])
      >>> round(float(metric.result()), 4)
      1.0

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook (ADKDD 2014), equation 1.
    """

    def __init__(self, from_logits: bool = True, name: str = "normalized_cross_entropy", dtype: Any = None) -> None:
        super().__init__(from_logits, name, dtype)
        self.positives = self.add_sums("positives")

    def add(self, labels: tf.Tensor, scores: tf.Tensor, weights: tf.Tensor) -> None:
        super().add(labels, scores, weights)
        self.positives.assign_add(tf.reduce_sum(weights * labels))

    def result(self) -> tf.Tensor:
        weight = tf.convert_to_tensor(self.weight)
        mean = self.positives / weight
        entropy = -(mean * tf.math.log(mean) + (1 - mean) * tf.math.log1p(-mean))
        value = undefined_where(tf.logical_or(mean <= 0, mean >= 1), self.total / weight / entropy)
        return tf.cast(value, self.dtype)
