"""Losses of relaxed sorting: ApproxNDCG's smooth ranks, NeuralSort's and SoftSort's smooth permutation matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import ListwiseLoss, Normalized, functional
from xdeepint_ext.losses.lists import Lists
from xdeepint_ext.losses.masks import masked
from xdeepint_ext.utils.registry import register


class RelaxedSortLoss(ListwiseLoss):
    """Base of these losses: a temperature, and lists without a label above 0 that do not count.

    Args:
      temperature: > 0.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.
    """

    def __init__(self, temperature: float, **options: Any) -> None:
        super().__init__(**options)
        _check_positive("temperature", temperature)
        self.temperature = temperature

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


@register
class ApproxNDCGLoss(RelaxedSortLoss):
    """`-NDCG` of smooth ranks: `rank_i = 1/2 + sum_j sigmoid((s_j - s_i) / T)`, the sum with j = i.

    Gain `2^y - 1`, discount `1 / log2(1 + rank)`; over lists with a label above 0, the mean.

    Args:
      temperature: T, default 0.1, TF-Ranking's.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: grades (B, L), below 0 where padding.
      y_pred: logits (B, L).
      sample_weight: (B, L), of an item's gain, but not in the ideal DCG; or (B,).

    Example:
      >>> round(float(ApproxNDCGLoss()([[1.0, 0.0]], [[9.0, -9.0]])), 4)
      -1.0

    Source: Qin, Liu and Li, A general approximation framework for direct optimization of information retrieval measures
      (2010); Bruch et al. (SIGIR 2019).
    """

    def __init__(self, temperature: float = 0.1, **options: Any) -> None:
        super().__init__(temperature, **options)

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        def smaller(together: tf.Tensor, s: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
            above = tf.sigmoid(others - s)
            return tf.reduce_sum(above if separate else masked(above, together), axis=-1)

        separate = lists.separate
        scaled = lists.logits / self.temperature
        # Below all others by so much, padding adds exactly 0.
        ranks = 0.5 + lists.pairs(smaller, [scaled], [lists.fill(scaled, scaled.dtype.min / 2)])
        found = lists.sum(lists.weights * _gains(lists.labels) * _discounts(ranks))
        ideal = lists.sum(_gains(lists.sorted(lists.labels)) * _discounts(lists.places()))
        return -tf.math.divide_no_nan(found, ideal), ideal > 0


@register
def approx_ndcg(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `ApproxNDCGLoss`: the scalar mean. `options` are the constructor's."""
    return functional(ApproxNDCGLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


class PermutationLoss(Normalized, RelaxedSortLoss):
    """Base of the cross-entropies of permutation matrices, of labels and of scores.

    Args:
      temperature: of the scores. Default 1.
      label_temperature: of the labels; None = the same.
      normalize, in_batch, grouped, reduction, name: see `Normalized` and `ListwiseLoss`.
    """

    def __init__(self, temperature: float = 1.0, label_temperature: float | None = None, **options: Any) -> None:
        super().__init__(temperature=temperature, **options)
        _check_positive("label_temperature", label_temperature)
        self.label_temperature = label_temperature

    def of_rows(self, lists: Lists, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The losses of the lists from the cross-entropies of their matrices' rows."""
        return self.normalized(lists.sum(rows), lists.count(lists.mask)), lists.count(lists.labels > 0) > 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_temperature": self.label_temperature}


@register
class NeuralSortLoss(PermutationLoss):
    """Cross-entropy of NeuralSort's matrices of labels and scores, `-sum_rj P(y)_rj log P(s)_rj`.

        P(s)_r. = softmax_j( ((n + 1 - 2 r) s_j - sum_k |s_j - s_k|) / temperature ),   r = 1 .. n

    Args:
      temperature: of the scores. Default 1.
      label_temperature: of the labels; None = the same.
      normalize: divide by the number of rows n, as TF-Ranking; False = the sum.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: grades (B, L), below 0 where padding.
      y_pred: logits (B, L).
      sample_weight: (B, L), of an item's terms; or (B,).

    Example:
      >>> loss = NeuralSortLoss()
      >>> bool(loss([[2.0, 1.0]], [[3.0, 0.0]]) < loss([[2.0, 1.0]], [[0.0, 3.0]]))
      True

    Source: Grover et al. (arXiv 1903.08850), equation 5.
    """

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        label_temperature = self.label_temperature or self.temperature

        def row(together: tf.Tensor, scale: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
            y, y_apart, s, s_apart, weights = values
            target = tf.nn.softmax(_only(together, (scale * y - y_apart) / label_temperature))
            return _cross_entropy(weights * target, _only(together, (scale * s - s_apart) / self.temperature))

        scale = lists.spread(lists.count(lists.mask)) + 1 - 2 * lists.places()
        apart = [lists.pairs(_distances, [x], [x]) for x in (lists.labels, lists.logits)]
        columns = [lists.labels, apart[0], lists.logits, apart[1], lists.weights]
        return self.of_rows(lists, lists.pairs(row, [scale], columns))


@register
def neural_sort(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `NeuralSortLoss`: the scalar mean. `options` are the constructor's."""
    return functional(NeuralSortLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


@register
class SoftSortLoss(PermutationLoss):
    """Cross-entropy of SoftSort's matrices of labels and scores, `-sum_rj P(y)_rj log P(s)_rj`.

        P(s)_rj = softmax_j( -|s_[r] - s_j|^power / temperature ),   s_[r] the r-th largest

    Equal labels share their rows. Its lowest value is the sum of the entropies of the rows of P(y).

    Args:
      temperature: of the scores. Default 1, our reading.
      label_temperature: of the labels, whose unit is the grade; None = the same, as printed.
      power: 1 (the authors of SoftSort) or 2.
      normalize: divide by the number of rows; False = the sum, as printed.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: grades (B, L), below 0 where padding.
      y_pred: logits (B, L).
      sample_weight: (B, L), of an item's terms; or (B,).

    Raises:
      ValueError: a temperature is not above 0, or power neither 1 nor 2.

    Example:
      >>> round(float(SoftSortLoss(normalize=False)([[1.0, 3.0, 0.0, 2.0]], [[0.2, 1.5, -0.7, 0.9]])), 4)
      4.3166

    Source: RankTower (arXiv 2407.12385), fine-grained loss; Prillo and Eisenschlos (arXiv 2006.16038), equation 4.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        label_temperature: float | None = None,
        power: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(temperature, label_temperature, **options)
        if power not in (1, 2):
            raise ValueError(f"power must be 1 or 2, got {power}")
        self.power = power

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        label_temperature = self.label_temperature or self.temperature

        def near(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            return -tf.abs(x - y) if self.power == 1 else -tf.square(x - y)

        def row(together: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
            sorted_y, sorted_s, y, s, weights = values
            target = tf.nn.softmax(_only(together, near(sorted_y, y) / label_temperature))
            return _cross_entropy(weights * target, _only(together, near(sorted_s, s) / self.temperature))

        rows = [lists.sorted(lists.labels), lists.sorted(lists.logits)]
        return self.of_rows(lists, lists.pairs(row, rows, [lists.labels, lists.logits, lists.weights]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


@register
def soft_sort(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `SoftSortLoss`: the scalar mean. `options` are the constructor's."""
    return functional(SoftSortLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


def _gains(grades: tf.Tensor) -> tf.Tensor:
    return tf.math.expm1(grades * tf.math.log(tf.constant(2, grades.dtype)))


def _discounts(ranks: tf.Tensor) -> tf.Tensor:
    """`1 / log2(1 + rank)`; padding has rank 0, whose discount nobody may see."""
    there = ranks > 0
    logs = tf.math.log1p(tf.where(there, ranks, tf.ones_like(ranks)))
    return tf.where(there, tf.math.log(tf.constant(2, ranks.dtype)) / logs, tf.zeros_like(ranks))


def _distances(together: tf.Tensor, x: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(masked(tf.abs(x - others), together), axis=-1)


def _only(together: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """`x`, so low that it has no share in a softmax where two items are not together."""
    return tf.where(together, x, tf.constant(x.dtype.min / 2, x.dtype))


def _cross_entropy(target: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """`-sum_j target_j log softmax(x)_j`; `x` is finite, so that a target of 0 takes its item out."""
    x -= tf.stop_gradient(tf.reduce_max(x, axis=-1, keepdims=True))
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(x), axis=-1))
    return tf.reduce_sum(target, axis=-1) * log_sum - tf.reduce_sum(target * x, axis=-1)


def _check_positive(argument: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{argument} must be > 0, got {value}")
