"""Losses against a teacher's scores in place of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import ListwiseLoss, Normalized, functional
from xdeepint_ext.losses.lists import Lists
from xdeepint_ext.losses.listwise import cross_entropy
from xdeepint_ext.losses.masks import masked
from xdeepint_ext.losses.pairwise import number_below
from xdeepint_ext.utils.registry import register

TEACHERS = ("logit", "prob", "sigmoid")
CONFIDENCES = ("confidence", "prob", None)


class TeacherLoss(ListwiseLoss):
    """Base of the losses on a teacher: `y_true` is its scores, or a dict with them as "teacher".

    As scores of any sign mean something, padding is where the side input `list_mask` is False; without one, where a
    "label" is below 0; without both there is none.

    Args:
      teacher: what its scores are, `logit` or `prob`; `sigmoid`: logits whose sigmoid is taken as `prob`.
      temperature: > 0, by which logits are divided.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.
    """

    target = "teacher"
    side_inputs = ("teacher",)

    def __init__(self, teacher: str = "logit", temperature: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        if teacher not in TEACHERS:
            raise ValueError(f"teacher must be one of {TEACHERS}, got {teacher!r}")
        if not temperature > 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.teacher = teacher
        self.temperature = temperature

    def padding(self, side: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        scores = side["teacher"]
        if "list_mask" in side:
            return scores, side["list_mask"] > 0
        if "label" in side:
            return scores, tf.logical_not(side["label"] < 0)
        return scores, tf.ones_like(scores, tf.bool)

    def probabilities(self, lists: Lists) -> tf.Tensor:
        """The teacher's, of each item on its own."""
        return lists.labels if self.teacher == "prob" else lists.fill(tf.sigmoid(lists.labels / self.temperature))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "teacher": self.teacher, "temperature": self.temperature}


@register
class SoftmaxDistillationLoss(TeacherLoss):
    """`-sum_i p_i log softmax(z)_i`, p the teacher's distribution over the list; over lists, the mean.

    Args:
      teacher: `logit`: p = softmax(teacher / temperature), our reading: the lowest loss is the entropy of p; or
        `prob`: p as it comes, also where it does not add up to 1; or `sigmoid`: p = sigmoid(teacher / temperature).
      temperature: > 0, of the teacher's logits. Default 1.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: the teacher's scores (B, L), or a dict with them as "teacher"; padding: see `TeacherLoss`.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the terms of the outer sum; or (B,).

    Example:
      >>> round(float(SoftmaxDistillationLoss("prob")([[0.5, 0.3, 0.2]], [[1.0, 0.0, -1.0]])), 4)
      1.1076

    Source: RankTower (arXiv 2407.12385), distillation loss.
    """

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        target = lists.labels
        if self.teacher == "logit":
            scores = target / self.temperature
            target = lists.fill(tf.exp(scores - lists.spread(lists.logsumexp(scores))))
        elif self.teacher == "sigmoid":
            target = self.probabilities(lists)
        losses, _ = cross_entropy(lists, target, lists.logits)
        return losses, lists.count(lists.mask) > 0


@register
def softmax_distillation(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    group_ids: Any = None,
    list_mask: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Functional form of `SoftmaxDistillationLoss`: the scalar mean. `options` are the constructor's."""
    side = {"group_ids": group_ids, "list_mask": list_mask}
    return functional(SoftmaxDistillationLoss, y_true, y_pred, sample_weight, options, **side)


@register
class WeightedLogLossDistillation(TeacherLoss):
    """`w_i BCE(p_i, sigmoid(z_i))`, p the teacher's probabilities; over items, the mean.

    Args:
      weight: `confidence`, w = |p - 1/2|, our reading of "weighted"; `prob`, w = p; or None, w = 1.
      teacher: `logit`: p = sigmoid(teacher / temperature); or `prob`.
      temperature: > 0, of the teacher's logits. Default 1.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: the teacher's scores (B, L), or a dict with them as "teacher"; padding: see `TeacherLoss`.
      y_pred: logits (B, L).
      sample_weight: (B, L) or (B,).

    Example:
      >>> round(float(WeightedLogLossDistillation(None, teacher="prob")([[0.5]], [[0.0]])), 4)
      0.6931

    Source: RankTower (arXiv 2407.12385), ablation of the distillation loss, which names it; the formula is our reading.
    """

    units_are = "items"

    def __init__(self, weight: str | None = "confidence", **options: Any) -> None:
        super().__init__(**options)
        if weight not in CONFIDENCES:
            raise ValueError(f"weight must be one of {CONFIDENCES}, got {weight!r}")
        self.weight = weight

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        p = self.probabilities(lists)
        weight = {"confidence": tf.abs(p - 0.5), "prob": p, None: tf.ones_like(p)}[self.weight]
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=p, logits=lists.logits)
        return lists.weights * weight * losses, lists.mask

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight}


@register
def weighted_log_loss_distillation(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    group_ids: Any = None,
    list_mask: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Functional form of `WeightedLogLossDistillation`: the scalar mean. `options` are the constructor's."""
    side = {"group_ids": group_ids, "list_mask": list_mask}
    return functional(WeightedLogLossDistillation, y_true, y_pred, sample_weight, options, **side)


@register
class PairwiseLogisticDistillation(Normalized, TeacherLoss):
    """`(p_i - p_j) softplus(-(z_i - z_j))` over pairs with `p_i > p_j`; over lists with such a pair, the mean.

    Args:
      normalize: divide a list's sum by its number of pairs; False is the sum, our reading.
      teacher: `logit`: p = sigmoid(teacher / temperature); or `prob`.
      temperature: > 0, of the teacher's logits. Default 1.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: the teacher's scores (B, L), or a dict with them as "teacher"; padding: see `TeacherLoss`.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the higher item of a pair; or (B,).

    Example:
      >>> round(float(PairwiseLogisticDistillation(teacher="prob")([[1.0, 0.0]], [[0.0, 0.0]])), 4)
      0.6931

    Source: RankTower (arXiv 2407.12385), ablation of the distillation loss, which names it; the formula is our reading.
    """

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        values = [self.probabilities(lists), lists.logits]
        losses = lists.sum(lists.weights * lists.pairs(_weighted_logistic, values, values))
        number = lists.sum(lists.pairs(number_below, values[:1], values[:1]))
        return self.normalized(losses, number), number > 0


@register
def pairwise_logistic_distillation(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    group_ids: Any = None,
    list_mask: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Functional form of `PairwiseLogisticDistillation`: the scalar mean. `options` are the constructor's."""
    side = {"group_ids": group_ids, "list_mask": list_mask}
    return functional(PairwiseLogisticDistillation, y_true, y_pred, sample_weight, options, **side)


def _weighted_logistic(
    together: tf.Tensor, p: tf.Tensor, z: tf.Tensor, others_p: tf.Tensor, others_z: tf.Tensor
) -> tf.Tensor:
    ordered = tf.logical_and(together, p > others_p)
    return tf.reduce_sum(masked((p - others_p) * tf.nn.softplus(others_z - z), ordered), axis=-1)
