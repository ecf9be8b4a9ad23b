"""Losses of pairs of items of a list."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import ListwiseLoss, Normalized, functional
from xdeepint_ext.losses.lists import Few, Lists
from xdeepint_ext.losses.masks import masked
from xdeepint_ext.utils.registry import register

Reduction = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Gaps (..., n), the lowest where there is no pair -> (values (...), their slopes (..., n), 0 there)."""


@register
class PairwiseLogisticLoss(Normalized):
    """RankNet: the mean over pairs with `y_i > y_j` of `softplus(-(s_i - s_j))`; over lists with such a pair, the mean.

    Args:
      normalize: divide a list's sum by its number of pairs, as Lin et al.; False is the sum, as printed. (TF-Ranking
        divides the sum over all lists by the number of items.)
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: grades (B, L), below 0 where padding. Equal grades make no pair.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the higher item of a pair; or (B,).

    Example:
      >>> round(float(PairwiseLogisticLoss()([[1.0, 0.0]], [[2.0, 2.0]])), 4)
      0.6931

    Source: Burges et al., Learning to Rank using Gradient Descent (ICML 2005), equation 3; as a part of CTR objectives
      Lin et al. (arXiv 2403.14144).
    """

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        losses, number = pair_losses(lists)
        return self.normalized(losses, number), number > 0


@register
def pairwise_logistic(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `PairwiseLogisticLoss`: the scalar mean. `options` are the constructor's."""
    return functional(PairwiseLogisticLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


def pair_losses(lists: Lists) -> tuple[tf.Tensor, tf.Tensor]:
    """RankNet's sum over the pairs of every list, and their number."""
    values = [lists.labels, lists.logits]
    # Items of the lowest grade, often most of them, are above no other.
    above = lists.labels > lists.spread(lists.least(lists.labels))
    losses = lists.sum(lists.weights * lists.pairs(_logistic, values, values, above))
    number = lists.sum(lists.pairs(number_below, values[:1], values[:1], above))
    return losses, number


def _logistic(together: tf.Tensor, y: tf.Tensor, s: tf.Tensor, others_y: tf.Tensor, others_s: tf.Tensor) -> tf.Tensor:
    ordered = tf.logical_and(together, y > others_y)
    return tf.reduce_sum(masked(tf.nn.softplus(others_s - s), ordered), axis=-1)


def number_below(together: tf.Tensor, y: tf.Tensor, others_y: tf.Tensor) -> tf.Tensor:
    """How many values lie below the row's own; for `Lists.pairs`."""
    return tf.reduce_sum(tf.cast(tf.logical_and(together, y > others_y), y.dtype), axis=-1)


class AgainstNegativesLoss(ListwiseLoss):
    """Base of the losses of each positive item against the negative items of its list, with the mean over positives.

    A positive whose list has no negative does not count.

    Subclasses override:
      of_positives: the losses of the positives.

    Args:
      max_positives: the most positives of a list (with `in_batch`: of the batch). XLA, whose sizes are fixed, treats
        every item as if it were positive without it; lists of one positive take less time with it. Where there are
        more, the loss is NaN.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.
    """

    labels_are = "binary"
    units_are = "items"

    def __init__(self, max_positives: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        if max_positives is not None and max_positives < 1:
            raise ValueError(f"max_positives must be > 0, got {max_positives}")
        self.max_positives = max_positives

    @abc.abstractmethod
    def of_positives(self, few: Few, lists: Lists, side: Mapping[str, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        """The losses of the positives, without their weights.

        Args:
          few: the positives, gathered.
          lists: whose they are.
          side: side inputs.
          number: what broadcasts against the few: of the negatives of each one's list.
        """

    def against_negatives(
        self,
        few: Few,
        lists: Lists,
        logits: tf.Tensor,
        reduce: Reduction,
        side: Mapping[str, tf.Tensor],
    ) -> tf.Tensor:
        """For each positive: a reduction of the gaps s_j - s_i to its negatives.

        With the side input `item_ids`, a negative that is the positive's own item is none.
        """
        ids = [side["item_ids"]] if "item_ids" in side else []

        def over_gaps(together: tf.Tensor, s: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
            own_id, (others_s, *others_id) = values[: len(ids)], values[len(ids) :]
            if ids:
                together = tf.logical_and(together, own_id[0] != others_id[0])
            return _of_gaps(reduce, s, others_s, together)

        return few.pairs(over_gaps, [logits, *ids], [logits, *ids], lists.labels == 0)

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        few, losses, _ = self._of_few(lists, side)
        number = lists.spread(lists.count(lists.labels == 0))
        return few.put_back(losses), lists.mask & (lists.labels > 0) & (number > 0)

    def summands(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The positives alone: most items are none, and passes over all of them are what a step costs."""
        lists, side = self._lists(self.sides(y_true), y_pred, sample_weight)
        few, losses, valid = self._of_few(lists, side)
        poison = few.poison()
        return few.sure(losses) + poison, tf.logical_or(valid, tf.math.is_nan(poison))

    def _of_few(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[Few, tf.Tensor, tf.Tensor]:
        """The positives, their weighted losses, and which of them count."""
        few = Few(lists, lists.labels > 0, self.max_positives)
        number = few.of_lists(lists.count(lists.labels == 0))
        losses = self.of_positives(few, lists, side, number)
        return few, few.gather(lists.weights) * losses, tf.logical_and(few.there, number > 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_positives": self.max_positives}


def sum_of(kernel: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]) -> Reduction:
    """The sum of a kernel's values: gap -> (value, slope), both 0 where the gap is lowest."""

    def reduce(gap: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values, slopes = kernel(gap)
        return tf.reduce_sum(values, axis=-1), slopes

    return reduce


def hinge(margin: float) -> Reduction:
    """The sum of `max(0, gap + margin)`."""
    return sum_of(lambda gap: (tf.nn.relu(gap + margin), tf.cast(gap > -margin, gap.dtype)))


def _of_gaps(reduce: Reduction, s: tf.Tensor, others_s: tf.Tensor, together: tf.Tensor) -> tf.Tensor:
    """`reduce` of `others_s - s`, the lowest where not together; by the slopes a step takes fewer passes backward."""

    @tf.custom_gradient
    def reduced(s: tf.Tensor, others_s: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
        values, slopes = reduce(tf.where(together, others_s, others_s.dtype.min) - s)

        def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            gradient = upstream[..., tf.newaxis] * slopes
            return -_summed_like(s, gradient), _summed_like(others_s, gradient)

        return values, backward

    return reduced(s, others_s)


def _summed_like(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """The gradient of `x`, that was broadcast along its axes of length 1."""
    axes = [axis for axis in range(len(x.shape)) if x.shape[axis] == 1 and gradient.shape[axis] != 1]
    return tf.reduce_sum(gradient, axes, keepdims=True) if axes else gradient


@register
class BPRLoss(Normalized, AgainstNegativesLoss):
    """BPR: over positives i the mean of the negatives' mean of `softplus(-(s_i - s_j))`.

    Args:
      normalize: divide a positive's sum by the number of negatives; False is the sum, as printed.
      max_positives: see `AgainstNegativesLoss`.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: 1 or 0, (B, L), below 0 where padding; as a dict also with `item_ids` (B, L), integers, of which a
        negative that is the positive's own item is left out.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the positive; or (B,).

    Example:
      >>> round(float(BPRLoss()([[1.0, 0.0]], [[2.0, 2.0]])), 4)
      0.6931

    Source: Rendle et al. (arXiv 1205.2618); CROLoss (arXiv 2208.02971), equation 4.
    """

    def of_positives(self, few: Few, lists: Lists, side: Mapping[str, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        softplus = sum_of(lambda gap: (tf.nn.softplus(gap), tf.sigmoid(gap)))
        return self.normalized(self.against_negatives(few, lists, lists.logits, softplus, side), number)


@register
def bpr(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    group_ids: Any = None,
    item_ids: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Functional form of `BPRLoss`: the scalar mean. `options` are the constructor's."""
    return functional(BPRLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids, item_ids=item_ids)


@register
class TripletLoss(Normalized, AgainstNegativesLoss):
    """Triplet (hinge): over positives i the mean of the negatives' mean of `max(0, s_j - s_i + margin)`.

    Args:
      margin: > 0, on logits. Default 5, CROLoss's for its hinge kernel, on cosines times 10.
      normalize: divide a positive's sum by the number of negatives; False is the sum, as printed.
      max_positives: see `AgainstNegativesLoss`.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: 1 or 0, (B, L), below 0 where padding; as a dict also with `item_ids`, see `BPRLoss`.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the positive; or (B,).

    Raises:
      ValueError: margin is not above 0.

    Example:
      >>> float(TripletLoss(margin=1.0)([[1.0, 0.0]], [[2.0, 2.0]]))
      1.0

    Source: CROLoss (arXiv 2208.02971), equation 2.
    """

    def __init__(self, margin: float = 5.0, **options: Any) -> None:
        super().__init__(**options)
        if not margin > 0:
            raise ValueError(f"margin must be > 0, got {margin}")
        self.margin = margin

    def of_positives(self, few: Few, lists: Lists, side: Mapping[str, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        losses = self.against_negatives(few, lists, lists.logits, hinge(self.margin), side)
        return self.normalized(losses, number)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


@register
def triplet(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    group_ids: Any = None,
    item_ids: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Functional form of `TripletLoss`: the scalar mean. `options` are the constructor's."""
    return functional(TripletLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids, item_ids=item_ids)
