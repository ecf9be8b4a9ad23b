"""ARF: a relaxed Recall@m@k of smooth permutation matrices, and a global term weighed by a learned scalar."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import LossLayer, Part
from xdeepint_ext.losses.checks import as_dense, like, weights_like
from xdeepint_ext.utils.dtypes import at_least_float32, full_precision
from xdeepint_ext.utils.registry import register

EPSILON = 1e-6


@register
class ARFLoss(LossLayer):
    """`L_relax + L_global / (2 w^2) + log w`, for training a model whose m best are handed on, of which k matter.

        L_relax  = -(1 / k) sum_j log( sum_{r <= m} P(s)_rj ) sum_{r <= k} P(y)_rj      lists of more than m items only
        L_global = -(1 / n) sum_rj P(y)_rj log P(s)_rj

    with NeuralSort's matrices `P(s)_r. = softmax_j(((n + 1 - 2 r) s_j - sum_k |s_j - s_k|) / temperature)`. The mean
    over lists with a label above 0. It is a layer and not a `tf.keras.losses.Loss`, as it owns w; a `RankingModel` is
    compiled with it as with a loss.

    Args:
      top_k: k >= 1, the truly best that are to be kept.
      supply_m: m >= k, how many are handed on.
      temperature: of the scores. Default 1; the authors' code has 200 for logits of any size: tune it.
      label_temperature: of the labels, default 1e-4, the authors' code.
      normalize: True = the formulas above. False = the authors' code: means over j, and over r and j, in place of sums
        over k and n, and the mean over r <= m inside the logarithm, each plus 1e-6.

    Weights:
      log_weight: log w, 0 at the start.

    Call arguments:
      logits: (B, L), dense or ragged.
      labels: grades (B, L), below 0 where padding.
      sample_weight: None, (B, L), of an item's terms, or (B,).

    Returns:
      A scalar.

    Raises:
      ValueError: an argument is out of range, shapes do not fit, or supply_m is not below a static L.

    Example:
      >>> loss = ARFLoss(top_k=1, supply_m=2)
      >>> good, bad = (float(loss([scores], [[1.0, 0.0, 0.0]])) for scores in ([2.0, 0.0, 1.0], [0.0, 2.0, 1.0]))
      >>> good < bad
      True

    Source: Wang et al., Adaptive Neural Ranking Framework (arXiv 2310.10462), and the authors' code.
    """

    def __init__(
        self,
        top_k: int,
        supply_m: int,
        temperature: float = 1.0,
        label_temperature: float = 1e-4,
        normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**full_precision(kwargs))
        if not 1 <= top_k <= supply_m:
            raise ValueError(f"ARFLoss: wants 1 <= top_k <= supply_m, got top_k={top_k}, supply_m={supply_m}")
        for argument, value in {"temperature": temperature, "label_temperature": label_temperature}.items():
            if not value > 0:
                raise ValueError(f"ARFLoss: {argument} must be > 0, got {value}")
        self.top_k = top_k
        self.supply_m = supply_m
        self.temperature = temperature
        self.label_temperature = label_temperature
        self.normalize = normalize

    def build(self, input_shape: Any) -> None:
        self.log_weight = self.add_weight(name="log_weight", shape=(), initializer="zeros")
        super().build(input_shape)

    def parts(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Part]:
        logits, side, weight = as_dense(y_pred, {"label": y_true}, sample_weight, "label")
        logits = at_least_float32(logits)
        labels = like(side["label"], logits, "labels")
        self._check(logits)
        weight = tf.ones_like(logits) if weight is None else weights_like(weight, logits)
        mask = tf.logical_not(labels < 0)
        spoilt = tf.where(mask & tf.math.is_nan(labels + logits), labels + logits, tf.zeros_like(logits))
        spoilt = tf.reduce_sum(spoilt, axis=1)
        logits, labels, weight = (tf.where(mask, x, tf.zeros_like(x)) for x in (logits, labels, weight))
        relaxed, everywhere, lists = self._terms(logits, labels, mask, weight)
        log_weight = tf.cast(self.log_weight, logits.dtype)
        losses = relaxed + everywhere * 0.5 * tf.exp(-2 * log_weight) + log_weight + spoilt
        lists = lists | tf.math.is_nan(spoilt)  # so that NaN shows
        total = tf.reduce_sum(tf.where(lists, losses, tf.zeros_like(losses)))
        return [Part(1.0, total, tf.reduce_sum(tf.cast(lists, total.dtype)))]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "top_k": self.top_k,
            "supply_m": self.supply_m,
            "temperature": self.temperature,
            "label_temperature": self.label_temperature,
            "normalize": self.normalize,
        }

    def _check(self, logits: tf.Tensor) -> None:
        if logits.shape.rank != 2:
            raise ValueError(f"{self.name}: logits must be (B, L), got {logits.shape}")
        if logits.shape[1] is not None and logits.shape[1] <= self.supply_m:
            raise ValueError(
                f"{self.name}: supply_m must be below the lists' length {logits.shape[1]}, got {self.supply_m}"
            )

    def _terms(
        self, logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(L_relax, L_global, whether it counts) of each list."""
        found = log_permutation(logits, mask, self.temperature)
        truth = tf.exp(log_permutation(labels, mask, self.label_temperature))
        dtype = logits.dtype
        # Rows of padding stand between those of items; the r-th item's row is rank r.
        ranks = tf.where(mask, tf.cumsum(tf.cast(mask, tf.int32), axis=1), logits.shape[1] or tf.shape(logits)[1] + 1)
        kept, best = (tf.cast((ranks <= n) & mask, dtype)[:, :, tf.newaxis] for n in (self.supply_m, self.top_k))
        supplied = tf.reduce_sum(kept * tf.exp(found), axis=1)
        wanted = weight * tf.reduce_sum(best * truth, axis=1)
        rows = tf.cast(mask, dtype)[:, :, tf.newaxis]
        number = tf.reduce_sum(tf.cast(mask, dtype), axis=1)
        if self.normalize:
            relaxed = -tf.reduce_sum(wanted * tf.math.log(tf.maximum(supplied, EPSILON)), axis=1) / self.top_k
            crossed = tf.where(mask[:, tf.newaxis, :], truth * found, tf.zeros_like(found))
            total = tf.reduce_sum(rows * weight[:, tf.newaxis] * crossed, axis=(1, 2))
            everywhere = -tf.math.divide_no_nan(total, number)
        else:
            logs = tf.math.log(supplied / self.supply_m + EPSILON)
            relaxed = -tf.math.divide_no_nan(tf.reduce_sum(wanted * logs, axis=1), number)
            crossed = truth * tf.math.log(tf.exp(found) + EPSILON)
            total = tf.reduce_sum(rows * weight[:, tf.newaxis] * crossed, axis=(1, 2))
            everywhere = -tf.math.divide_no_nan(total, number**2)
        relaxed = tf.where(number > self.supply_m, relaxed, tf.zeros_like(relaxed))
        return relaxed, everywhere, tf.reduce_any(mask & (labels > 0), axis=1)


def log_permutation(scores: tf.Tensor, mask: tf.Tensor, temperature: float) -> tf.Tensor:
    """Logarithms of NeuralSort's matrix (B, rank, item); the r-th item's row is rank r, padding has no share."""
    both = mask[:, :, tf.newaxis] & mask[:, tf.newaxis, :]
    distances = tf.abs(scores[:, :, tf.newaxis] - scores[:, tf.newaxis, :])
    apart = tf.reduce_sum(tf.where(both, distances, tf.zeros_like(distances)), axis=1, keepdims=True)
    ranks = tf.cumsum(tf.cast(mask, scores.dtype), axis=1)
    scale = tf.reduce_sum(tf.cast(mask, scores.dtype), axis=1, keepdims=True) + 1 - 2 * ranks
    rows = (scale[:, :, tf.newaxis] * scores[:, tf.newaxis, :] - apart) / temperature
    return tf.nn.log_softmax(tf.where(both, rows, tf.constant(rows.dtype.min, rows.dtype)), axis=2)
