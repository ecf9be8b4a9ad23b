"""Lists in which ties are averaged.

A metric of the K best is the expected value over all orders of the items that have equal scores, so that it does not
depend on where a list happens to hold its positives. Ranks therefore are intervals: `above` items are better than an
item, and `upto` are not worse; it stands, equally likely, at each of the ranks above + 1 .. upto.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xdeepint_ext.metrics.streaming import non_negative, require, same_shape, undefined_where
from xdeepint_ext.utils.dtypes import at_least_float32


class Lists(NamedTuple):
    """Lists of one batch, each (B, L) and float64.

    Attributes:
      labels: grades; 0 where the item is absent.
      weights: of the items; 0 = absent (weight 0, or a label below 0).
      above: how many items of the list have a greater score.
      upto: how many have a score as great, itself included.
      broken: (B,), NaN for a list with a NaN score or label, else 0.
    """

    labels: tf.Tensor
    weights: tf.Tensor
    above: tf.Tensor
    upto: tf.Tensor
    broken: tf.Tensor

    @property
    def positives(self) -> tf.Tensor:
        """1.0 for an item with a label above 0, else 0.0."""
        return tf.cast(self.labels > 0, tf.float64)

    def weighted(self, gains: tf.Tensor) -> tf.Tensor:
        """(B,) weight of each list, the mean of its items' weights by gain; 0 for a list without gain."""
        return tf.math.divide_no_nan(tf.reduce_sum(self.weights * gains, 1), tf.reduce_sum(gains, 1))

    def within(self, k: int) -> tf.Tensor:
        """The chance that an item is among the k best."""
        return tf.clip_by_value((k - self.above) / (self.upto - self.above), 0.0, 1.0)


class Tie(NamedTuple):
    """The tied items of which some, but not all, are among the K best; zeros where there are none such. Each (B,).

    Attributes:
      items: how many they are.
      positives: how many of them are positive.
      places: how many of them are among the K best.
    """

    items: tf.Tensor
    positives: tf.Tensor
    places: tf.Tensor


def tie_at(lists: Lists, k: int) -> Tie:
    """The tie that crosses rank k."""
    across = tf.logical_and(lists.above < k, lists.upto > k)
    across = tf.cast(tf.logical_and(across, lists.weights > 0), tf.float64)
    items = tf.reduce_sum(across, axis=1)
    places = tf.reduce_max(across * (k - lists.above), axis=1)
    return Tie(items, tf.reduce_sum(across * lists.positives, axis=1), places)


def hits_chance(tie: Tie, hits: tf.Tensor) -> tf.Tensor:
    """The chance that the places of a tie go to exactly `hits` positives: the hypergeometric distribution."""
    return tf.exp(
        _log_choose(tie.positives, hits)
        + _log_choose(tie.items - tie.positives, tie.places - hits)
        - _log_choose(tie.items, tie.places)
    )


def _log_choose(n: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    """Logarithm of the binomial coefficient; -inf where it is 0."""
    n, k = n + tf.zeros_like(k), k + tf.zeros_like(n)
    possible = tf.logical_and(k >= 0, k <= n)
    k = tf.where(possible, k, tf.zeros_like(k))
    value = tf.math.lgamma(n + 1) - tf.math.lgamma(k + 1) - tf.math.lgamma(n - k + 1)
    return tf.where(possible, value, tf.fill(tf.shape(value), tf.constant(-np.inf, tf.float64)))


def ranked(metric: str, k: int, y_true: Any, y_pred: Any, sample_weight: Any) -> Lists:
    """The arguments of `update_state` as `Lists`.

    Args:
      metric: its name, for the messages.
      k: how long the lists must be at least.
      y_true: see `RecallAtK`.
      y_pred: see there.
      sample_weight: see there.

    Raises:
      ValueError: shapes do not fit (`InvalidArgumentError` where only the data show it).
    """
    labels = tf.cast(_dense(metric, "y_true", y_true, -1, k), tf.float64)
    scores = same_shape(metric, "y_pred", at_least_float32(_dense(metric, "y_pred", y_pred, 0, k)), labels)
    if isinstance(y_true, tf.RaggedTensor) and isinstance(y_pred, tf.RaggedTensor):
        lengths, wanted = (tf.cast(x.row_lengths(), tf.int64) for x in (y_pred, y_true))
        same = tf.equal(lengths, wanted)
        scores = require(same, f"{metric}: the lists of y_pred and y_true must be as long, got", lengths, scores)
    labels = _long_enough(metric, k, labels)
    weights = _item_weights(metric, sample_weight, labels, k)
    absent = tf.logical_or(labels < 0, tf.equal(weights, 0))
    labels, weights, scores = (tf.where(absent, tf.zeros_like(x), x) for x in (labels, weights, scores))
    nan = tf.logical_or(tf.math.is_nan(labels), tf.math.is_nan(scores))
    broken = undefined_where(tf.reduce_any(nan, axis=1), tf.zeros_like(labels[:, 0]))
    labels = tf.where(nan, tf.zeros_like(labels), labels)
    # Negated, as searchsorted wants ascending values. What is absent goes last and is cut off: -inf is a score too.
    costs = tf.where(tf.logical_or(absent, nan), tf.constant(np.inf, scores.dtype), -scores)
    ordered = tf.sort(costs, axis=1)
    present = tf.reduce_sum(tf.cast(tf.logical_not(absent), tf.float64), axis=1, keepdims=True)
    above, upto = (tf.cast(tf.searchsorted(ordered, costs, side), tf.float64) for side in ("left", "right"))
    return Lists(labels, weights, above, tf.maximum(tf.minimum(upto, present), above + 1), broken)


def _dense(metric: str, argument: str, values: Any, padding: float, k: int) -> tf.Tensor:
    """(B, L); ragged lists are padded, to k items at least."""
    if isinstance(values, tf.RaggedTensor):
        dense = values.to_tensor(padding)
        values = tf.pad(dense, [(0, 0), (0, tf.maximum(k - tf.shape(dense)[1], 0))], constant_values=padding)
    values = tf.convert_to_tensor(values)
    if values.shape.rank != 2:
        raise ValueError(f"{metric}: {argument} must have shape (B, L), got {values.shape}")
    return values


def _long_enough(metric: str, k: int, labels: tf.Tensor) -> tf.Tensor:
    length = labels.shape[1]
    if length is None:
        size = tf.shape(labels)[1]
        return require(size >= k, f"{metric}: k={k} must be at most the length of the lists, got", size, labels)
    if length < k:
        raise ValueError(f"{metric}: k={k} must be at most the length of the lists, got {length}")
    return labels


def _item_weights(metric: str, sample_weight: Any, labels: tf.Tensor, k: int) -> tf.Tensor:
    """Weights of lists, items or everything, as (B, L)."""
    if sample_weight is None:
        return tf.ones_like(labels)
    if isinstance(sample_weight, tf.RaggedTensor):
        sample_weight = _dense(metric, "sample_weight", sample_weight, 0, k)
    weights = tf.cast(sample_weight, tf.float64)
    if weights.shape.rank == 1:
        weights = weights[:, tf.newaxis]
    if weights.shape.rank == 0 or (weights.shape.rank == 2 and weights.shape[1] == 1):
        column = labels[:, :1]
        weights = weights if weights.shape.rank == 0 else same_shape(metric, "sample_weight", weights, column)
        return non_negative(metric, weights) * tf.ones_like(labels)
    if weights.shape.rank != 2:
        raise ValueError(f"{metric}: sample_weight must have shape (B,), (B, 1) or (B, L), got {weights.shape}")
    return non_negative(metric, same_shape(metric, "sample_weight", weights, labels))
