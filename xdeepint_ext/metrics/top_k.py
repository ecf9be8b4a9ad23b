"""Streaming metrics of the K best of each list: recall, hit rate, NDCG."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.metrics.ranked_lists import Lists, Tie, hits_chance, ranked, tie_at
from xdeepint_ext.metrics.streaming import StreamingMetric, integer, one_of
from xdeepint_ext.utils.registry import register

AVERAGES = ("lists", "pooled")
GAINS = ("exponential", "linear")


class TopKMetric(StreamingMetric):
    """A mean over lists. A subclass says what a batch of lists adds to the numerator and to the denominator."""

    def __init__(self, k: int, name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.k = integer(self.name, "k", k)
        self.total = self.add_sums("total")
        self.weight = self.add_sums("weight")

    def measure(self, lists: Lists) -> tuple[tf.Tensor, tf.Tensor]:
        """What each list adds to the numerator and to the denominator, (B,) and (B,)."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        lists = ranked(self.name, self.k, y_true, y_pred, sample_weight)
        total, weight = self.measure(lists)
        self.total.assign_add(tf.reduce_sum(total + lists.broken))
        self.weight.assign_add(tf.reduce_sum(weight))

    def result(self) -> tf.Tensor:
        return self.mean(self.total, self.weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}


@register
class RecallAtK(TopKMetric):
    """Share of a list's positives that are among its K best: `|top-K ∩ P| / |P|`, mean over lists with a positive.

    Ties are averaged. Without any positive it is 0. Sorting costs O(L log L) a list: in training give it candidates,
    not a catalogue.

    Args:
      k: K >= 1, at most the length of the lists (a ragged or padded list may hold fewer items).
      average: "lists": every list counts alike (the authors' evaluator of CROLoss, which averages over users);
        "pooled": every positive does (CROLoss, equation 5).
      name: of the metric; `recall_at_K` by default.
      dtype: of the result; the sums are float64.

    Call arguments:
      y_true: (B, L), an item is positive where the label is above 0, absent where it is below 0. May be ragged.
      y_pred: (B, L), logits or probabilities: only their order matters.
      sample_weight: >= 0, of lists, (B,) or (B, 1), or of items, (B, L): a positive counts with its weight, a list with
        the mean weight of its positives, and an item of weight 0 is absent.

    Raises:
      ValueError: `k` or `average` is not allowed, shapes do not fit, or the lists are shorter than K.
      tf.errors.InvalidArgumentError: a weight is negative.

    Example:
      >>> metric = RecallAtK(2)
      >>> metric.update_state([[1, 0, 1, 0]], [[0.9, 0.8, 0.1, 0.2]])
      >>> float(metric.result())
      0.5

    Source: CROLoss (arXiv 2208.02971), equation 5; RankTower (arXiv 2407.12385), Recall@K.
    """

    def __init__(self, k: int, average: str = "lists", name: str | None = None, dtype: Any = None) -> None:
        super().__init__(k, name or f"recall_at_{k}", dtype)
        self.average = one_of(self.name, "average", average, AVERAGES)

    def measure(self, lists: Lists) -> tuple[tf.Tensor, tf.Tensor]:
        positives = lists.positives
        found = tf.reduce_sum(lists.weights * positives * lists.within(self.k), axis=1)
        if self.average == "pooled":
            return found, tf.reduce_sum(lists.weights * positives, axis=1)
        return tf.math.divide_no_nan(found, tf.reduce_sum(positives, axis=1)), lists.weighted(positives)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "average": self.average}


@register
class HitRateAtK(TopKMetric):
    """Share of the lists with a positive that have one among their K best.

    Ties are averaged: the chance that a random order of the tied items brings a positive. Without any positive it is 0.
    Sorting costs O(L log L) a list.

    Args:
      k: K >= 1, at most the length of the lists (a ragged or padded list may hold fewer items).
      name: of the metric; `hit_rate_at_K` by default.
      dtype: of the result; the sums are float64.

    Call arguments:
      y_true: (B, L), an item is positive where the label is above 0, absent where it is below 0. May be ragged.
      y_pred: (B, L), logits or probabilities: only their order matters.
      sample_weight: >= 0, of lists, (B,) or (B, 1), or of items, (B, L): a list counts with the mean weight of its
        positives, and an item of weight 0 is absent.

    Raises:
      ValueError: `k` is not allowed, shapes do not fit, or the lists are shorter than K.
      tf.errors.InvalidArgumentError: a weight is negative.

    Example:
      >>> metric = HitRateAtK(1)
      >>> metric.update_state([[1, 0, 1], [0, 0, 1]], [[0.9, 0.8, 0.1], [0.3, 0.2, 0.1]])
      >>> float(metric.result())
      0.5

    Source: the authors' evaluator of CROLoss (arXiv 2208.02971).
    """

    def __init__(self, k: int, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(k, name or f"hit_rate_at_{k}", dtype)

    def measure(self, lists: Lists) -> tuple[tf.Tensor, tf.Tensor]:
        positives = lists.positives
        certain = tf.reduce_sum(positives * tf.cast(lists.upto <= self.k, tf.float64), axis=1)
        missed = hits_chance(tie_at(lists, self.k), tf.zeros_like(certain))
        weights = lists.weighted(positives)
        return weights * tf.where(certain > 0, tf.ones_like(missed), 1 - missed), weights


@register
class NDCGAtK(TopKMetric):
    """Normalised discounted cumulative gain of the K best: `DCG / ideal DCG`, mean over lists with a positive.

    `DCG = sum_{rank <= K} gain / log2(rank + 1)`; the ideal DCG is that of the best order. Ties are averaged, as
    scikit-learn does. Without any positive it is 0. Sorting costs O(L log L) a list.

    Args:
      k: K >= 1, at most the length of the lists (a ragged or padded list may hold fewer items).
      gain: of grade y: "exponential" 2^y - 1 (as TF-Ranking), or "linear" y (as scikit-learn); alike for binary labels.
        The papers do not say; the default is our choice.
      legacy: the form of the CROLoss repository, inherited from ComiRec: gains are binary (y > 0), and the ideal DCG is
        that of as many positives as are among the K best, not of as many as the list has. It is 1 whenever the K best
        begin with their hits, however few these are.
      name: of the metric; `ndcg_at_K` by default.
      dtype: of the result; the sums are float64.

    Call arguments:
      y_true: (B, L), grades; an item is absent where the grade is below 0. May be ragged.
      y_pred: (B, L), logits or probabilities: only their order matters.
      sample_weight: >= 0, of lists, (B,) or (B, 1), or of items, (B, L): as TF-Ranking, a gain is multiplied by its
        weight (not in the legacy form), and a list counts with the mean weight of its items by gain; an item of weight
        0 is absent.

    Raises:
      ValueError: `k` or `gain` is not allowed, shapes do not fit, or the lists are shorter than K.
      tf.errors.InvalidArgumentError: a weight is negative.

    Example:
      >>> metric = NDCGAtK(2)
      >>> metric.update_state([[0, 1, 0]], [[0.9, 0.8, 0.1]])
      >>> round(float(metric.result()), 4)  # 1 / log2(3)
      0.6309

    Source: Järvelin and Kekäläinen (TOIS 2002); RankTower (arXiv 2407.12385), NDCG@K; the legacy form: the authors'
    evaluator of CROLoss (arXiv 2208.02971).
    """

    def __init__(
        self,
        k: int,
        gain: str = "exponential",
        legacy: bool = False,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(k, name or f"ndcg_at_{k}", dtype)
        self.gain = one_of(self.name, "gain", gain, GAINS)
        self.legacy = legacy
        discounts = 1 / np.log2(np.arange(2, self.k + 2))
        self._discounts = discounts
        self._cumulated = np.concatenate([[0.0], np.cumsum(discounts)])

    def measure(self, lists: Lists) -> tuple[tf.Tensor, tf.Tensor]:
        if self.legacy:
            weights = lists.weighted(lists.positives)
            return weights * self._legacy(lists), weights
        # expm1 takes a fifth of the time of 2^y.
        gains = tf.math.expm1(lists.labels * math.log(2)) if self.gain == "exponential" else lists.labels
        weights, gains = lists.weighted(gains), lists.weights * gains
        best = tf.reduce_sum(tf.math.top_k(gains, self.k)[0] * self._discounts, axis=1)
        found = tf.reduce_sum(gains * self._mean_discount(lists.above, lists.upto), axis=1)
        return weights * tf.math.divide_no_nan(found, best), weights

    def _mean_discount(self, above: tf.Tensor, upto: tf.Tensor) -> tf.Tensor:
        """The mean of the discounts at ranks above + 1 .. upto, which are 0 beyond K."""
        first, last = (tf.cast(tf.minimum(x, float(self.k)), tf.int32) for x in (above, upto))
        cumulated = tf.constant(self._cumulated, tf.float64)
        return tf.math.divide_no_nan(tf.gather(cumulated, last) - tf.gather(cumulated, first), upto - above)

    def _legacy(self, lists: Lists) -> tf.Tensor:
        """(B,), where a tie crosses rank K the mean over the numbers of hits that it may bring."""
        certain = lists.positives * tf.cast(lists.upto <= self.k, tf.float64)
        found = tf.reduce_sum(certain * self._mean_discount(lists.above, lists.upto), axis=1)
        sure, tie = tf.reduce_sum(certain, axis=1), tie_at(lists, self.k)
        discount = self._mean_discount(self.k - tie.places, tf.fill(tf.shape(sure), tf.cast(self.k, tf.float64)))
        extra = tf.range(self.k + 1, dtype=tf.float64)
        hits = tf.cast(tf.minimum(sure[:, tf.newaxis] + extra, float(self.k)), tf.int32)
        best = tf.gather(tf.constant(self._cumulated, tf.float64), hits)
        values = tf.math.divide_no_nan(found[:, tf.newaxis] + extra * discount[:, tf.newaxis], best)
        chances = hits_chance(Tie(*(x[:, tf.newaxis] for x in tie)), extra)
        return tf.reduce_sum(chances * values, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gain": self.gain, "legacy": self.legacy}
