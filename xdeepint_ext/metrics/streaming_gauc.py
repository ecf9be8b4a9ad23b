"""GAUC over the rows of many batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from xdeepint_ext.metrics.evaluation import GROUP_WEIGHTS
from xdeepint_ext.metrics.gauc_state import AllRows, Batch, Groups, Histograms
from xdeepint_ext.metrics.streaming import StreamingMetric, column, integer, one_of, require, rows, undefined_where
from xdeepint_ext.utils.registry import register

MODES = ("exact", "binned")


@register
class GAUC(StreamingMetric):
    """Mean of the AUC inside each group, such as a user: `sum_u w_u AUC_u / sum_u w_u` over groups with both classes.

    The streaming form of `metrics.gauc`. A group in which no positive or no negative has been seen has no AUC: it is
    left out, and where no group is left the result is NaN, as there.

    `mode="exact"` keeps every row in float32 (ties are those of float32), up to `capacity`: 16 bytes each in variables
    of fixed size. More rows are an error, never dropped. Under a strategy of R replicas each fills a block of
    ceil(capacity / R) rows in its copy of the variables, and the copies are summed; make the metric in the strategy's
    scope. `result` sorts the rows seen.

    `mode="binned"` keeps a histogram of each group's positive and negative weight over `bins` bins of scores: 16 bytes
    a group and bin. Groups index it directly, so that none collide: ids must be in [0, num_groups), anything else is an
    error. Two scores in one bin count as a tie, so that a group's AUC is off by at most half of its share of
    (positive, negative) pairs in a common bin. `error_bound()` is this bound's mean over the groups, computed from the
    state: the exact value is certainly within result() ± error_bound(), whatever the scores and their range.
    `result` costs O(num_groups bins).

    Keras asks for results in each step of `fit` and `evaluate`, not only at their end. A `RankingModel` computes this
    one at the end alone, and shows NaN until then; another model wants `metrics.gauc` on its predictions.

    Args:
      weight: of a group in the mean: its `rows` (DIN; with sample weights their sum), its `positives`, or `uniform`.
        The GroupCE paper does not say which; the default is our choice.
      mode: "exact" or "binned".
      capacity: of "exact", rows between two resets. Our choice: a million, 16 MB.
      num_groups: of "binned", which needs it.
      bins: of "binned". Our choice.
      score_range: of "binned": bins have equal width between low and high, and the outer ones hold what is beyond. Our
        choice of (-8, 8) suits logits; for probabilities give (0, 1).
      name: of the metric.
      dtype: of the result.

    Call arguments:
      y_true: 0 or 1, (B,) or (B, 1); below 0 = absent.
      y_pred: logits or probabilities, (B,) or (B, 1): only their order matters. A NaN makes the result NaN.
      group_ids: integers, (B,) or (B, 1). `RankingModel` passes the schema's column of the role `group`.
      sample_weight: (B,) or (B, 1), >= 0; a row of weight 0 is absent.

    Raises:
      ValueError: an argument is not allowed, group_ids are missing or no integers, or shapes do not fit.
      tf.errors.InvalidArgumentError: more rows than capacity, a label that is neither 0 nor 1, a negative weight, or a
        group beyond num_groups.

    Example:
      >>> metric = GAUC()
      >>> metric.update_state([1, 0, 0], [0.9, 0.8, 0.1], group_ids=[7, 7, 7])
      >>> metric.update_state([1, 0, 1], [0.2, 0.4, 0.3], group_ids=[8, 8, 9])
      >>> round(float(metric.result()), 4)  # (3 * 1 + 2 * 0) / 5
      0.6

    Source: Zhou et al., Deep Interest Network (arXiv 1706.06978), section 6.2, there by impressions.
    """

    side_inputs = ("group_ids",)

    costly_result = True
    """Not to be asked for in every step; see `RankingModel.compute_metrics`."""

    def __init__(
        self,
        weight: str = "rows",
        mode: str = "exact",
        capacity: int = 1_000_000,
        num_groups: int | None = None,
        bins: int = 128,
        score_range: tuple[float, float] = (-8.0, 8.0),
        name: str = "gauc",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.weight = one_of(name, "weight", weight, GROUP_WEIGHTS)
        self.mode = one_of(name, "mode", mode, MODES)
        self.capacity = integer(name, "capacity", capacity)
        self.bins = integer(name, "bins", bins)
        self.score_range = _range(name, score_range)
        if mode == "exact" and num_groups is not None:
            raise ValueError(
                f"{name}: num_groups belongs to mode='binned'; mode='exact' takes any integers as group_ids"
            )
        self.num_groups = None if mode == "exact" else integer(name, "num_groups (of mode='binned')", num_groups)
        self._state: AllRows | Histograms
        if self.num_groups is None:
            self._state = AllRows(self, self.capacity)
        else:
            self._state = Histograms(self, self.num_groups, self.bins, self.score_range)

    def update_state(self, y_true: Any, y_pred: Any, group_ids: Any = None, sample_weight: Any = None) -> None:
        labels, scores, weights = rows(self.name, y_true, y_pred, sample_weight)
        undefined = tf.math.is_nan(labels)
        binary = tf.logical_or(tf.logical_or(tf.equal(labels, 0), tf.equal(labels, 1)), undefined)
        labels = require(binary, f"{self.name}: y_true must be 0, 1 or below 0 (absent), got", labels, labels)
        signed = tf.where(undefined, labels, tf.where(labels > 0, weights, -weights))
        groups = self._group_column(group_ids, labels)
        self._state.add(Batch(groups, tf.cast(scores, tf.float32), tf.cast(signed, tf.float32)))

    def result(self) -> tf.Tensor:
        groups = self._state.summary()
        value = self._mean(groups, groups.wins)
        return tf.cast(undefined_where(groups.undefined, value), self.dtype)

    def error_bound(self) -> tf.Tensor:
        """How far `result` is at most from the exact value; 0 in the mode "exact"; NaN where `result` is.

        Returns:
          A scalar of the metric's dtype.

        Example:
          >>> metric = GAUC(mode="binned", num_groups=1, bins=16)
          >>> metric.update_state([1, 0, 0], [0.6, 0.5, -1.0], group_ids=[0, 0, 0])
          >>> float(metric.result()), float(metric.error_bound())  # one of two pairs is in one bin
          (0.75, 0.25)
        """
        groups = self._state.summary()
        value = self._mean(groups, groups.ties / 2)
        return tf.cast(undefined_where(groups.undefined, value), self.dtype)

    def merge_state(self, metrics: Iterable[GAUC]) -> None:
        """Adds what others of the same arguments have seen.

        Args:
          metrics: other GAUCs, such as of other workers.

        Raises:
          ValueError: their arguments differ.
        """
        for other in metrics:
            for key in ("mode", "num_groups", "bins", "score_range"):
                if getattr(self, key) != getattr(other, key):
                    raise ValueError(
                        f"{self.name}: cannot merge {key}={getattr(other, key)!r} into {key}={getattr(self, key)!r}"
                    )
            if isinstance(other._state, AllRows):
                self._state.add(other._state.rows())
            else:
                super().merge_state([other])

    def get_config(self) -> dict[str, Any]:
        names = ("weight", "mode", "capacity", "num_groups", "bins", "score_range")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _group_column(self, group_ids: Any, labels: tf.Tensor) -> tf.Tensor:
        if group_ids is None:
            raise ValueError(
                f"{self.name}: update_state needs group_ids; RankingModel passes the schema's column of the role group"
            )
        groups = tf.convert_to_tensor(group_ids)
        if not groups.dtype.is_integer:
            raise ValueError(f"{self.name}: group_ids must be integers, got {groups.dtype.name}; hash strings first")
        return tf.cast(column(self.name, "group_ids", groups, labels), tf.int64)

    def _mean(self, groups: Groups, pairs: tf.Tensor) -> tf.Tensor:
        """The groups' mean of `pairs` over all pairs of the group."""
        both = tf.logical_and(groups.positives > 0, groups.negatives > 0)
        weights = {
            "rows": groups.positives + groups.negatives,
            "positives": groups.positives,
            "uniform": tf.ones_like(groups.positives),
        }[self.weight]
        weights = tf.where(both, weights, tf.zeros_like(weights))
        shares = tf.math.divide_no_nan(pairs, groups.positives * groups.negatives)
        return tf.reduce_sum(weights * shares) / tf.reduce_sum(weights)


def _range(name: str, score_range: Any) -> tuple[float, float]:
    low, high = (float(x) for x in score_range)
    if not low < high:
        raise ValueError(f"{name}: score_range must be (low, high) with low < high, got {score_range!r}")
    return low, high
