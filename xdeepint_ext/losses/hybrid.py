"""Sums of losses: plain, and with a part of the list and a target for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import MEAN_REDUCTIONS, Part, RankingLoss, functional
from xdeepint_ext.losses.checks import as_dense, require
from xdeepint_ext.losses.distillation import SoftmaxDistillationLoss, TeacherLoss
from xdeepint_ext.losses.rankmax import AdaptiveMarginRankmaxLoss
from xdeepint_ext.losses.sorting import SoftSortLoss
from xdeepint_ext.utils.registry import register

STAGES = {"impression": 0, "candidate": 1, "random": 2}
"""The side input `stages` of an item, by name."""
TARGETS = {"hard": "label", "binary": "label", "soft": "soft_label", "teacher": "teacher"}
"""Name of a target -> where `y_true` has it."""
LABEL_TEMPERATURE = 0.1
"""Of SoftSort's labels: a grade that is 1 above 59 others holds 1 / (1 + 59 e^-10) = 99.7 % of its row."""


class SumOfLosses(RankingLoss):
    """Base of the sums: `sum_l weight_l loss_l`, each the mean over its own valid units.

    Args:
      losses: dict loss -> term: its weight, and what else the subclass wants; or pairs of them.
      name: of the sum.

    Raises:
      ValueError: there is none, one is no `RankingLoss`, or is not a mean.
    """

    def __init__(
        self, losses: Mapping[RankingLoss, Any] | Iterable[tuple[RankingLoss, Any]], name: str | None = None
    ) -> None:
        super().__init__(name=name)
        pairs: list[tuple[RankingLoss, Any]] = list(losses.items() if isinstance(losses, Mapping) else losses)
        self.losses = [loss for loss, _ in pairs]
        self.terms = [term for _, term in pairs]
        if not self.losses:
            raise ValueError(f"{self.name}: losses must not be empty")
        for loss in self.losses:
            if not isinstance(loss, RankingLoss) or loss.reduction not in MEAN_REDUCTIONS:
                raise ValueError(f"{self.name}: losses must be RankingLosses reduced to a mean, got {loss!r}")

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        losses = [tf.keras.saving.serialize_keras_object(loss) for loss in self.losses]
        pairs = [[loss, _as_lists(term)] for loss, term in zip(losses, self.terms, strict=True)]
        return {"losses": pairs, "name": self.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SumOfLosses:
        losses = [(tf.keras.saving.deserialize_keras_object(loss), term) for loss, term in config["losses"]]
        return cls(losses, config["name"])


@register
class CombinedLoss(SumOfLosses):
    """`sum_l weight_l loss_l`, such as `alpha LogLoss + (1 - alpha) ListCE`.

    Args:
      losses: dict loss -> weight; or pairs of them.
      name: of the loss.

    Call arguments:
      y_true, y_pred, sample_weight: what all the losses take; side inputs are the union of theirs.

    Raises:
      ValueError: see `SumOfLosses`.

    Example:
      >>> from xdeepint_ext.losses import ListCrossEntropyLoss, LogLoss
      >>> loss = CombinedLoss({LogLoss(): 0.9, ListCrossEntropyLoss(in_batch=True): 0.1})
      >>> round(float(loss([1.0, 0.0], [0.0, 0.0])), 4)
      0.6931

    Source: the hybrid objectives of Bai et al. (arXiv 2211.01494), Lin et al. (arXiv 2403.14144) and GroupCE (arXiv
      2506.12756).
    """

    def __init__(
        self, losses: Mapping[RankingLoss, float] | Iterable[tuple[RankingLoss, float]], name: str | None = None
    ) -> None:
        super().__init__(losses, name)
        self.terms = [float(weight) for weight in self.terms]
        self.side_inputs = tuple(dict.fromkeys(name for loss in self.losses for name in loss.side_inputs))

    def parts(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Part]:
        return [
            part._replace(weight=weight * part.weight)
            for loss, weight in zip(self.losses, self.terms, strict=True)
            for part in loss.parts(y_true, y_pred, sample_weight)
        ]


@register
def combined(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `CombinedLoss`: the scalar. `options` are the constructor's."""
    return functional(CombinedLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


@register
class HybridRankTowerLoss(SumOfLosses):
    """`sum_l weight_l loss_l`, each on the items of its stages and with its own target: rows of RankTower's ablations.

    Args:
      losses: dict loss -> (stages, weight, target), or pairs of them. Stages: "all", or some of `impression`,
        `candidate`, `random` (0, 1, 2 in the side input `stages`). Target: `hard` = "label", `soft` = "soft_label",
        `teacher` = "teacher" in `y_true`; `binary` = 1 where "label" is above 0, for losses on probabilities. Default,
        our reading: softmax distillation on impressions, SoftSort on impressions and candidates, adaptive-margin
        Rankmax on all, weights 1; SoftSort's labels at temperature 0.1, so that the best grades hold nearly all the
        mass of their rows in lists of 60.
      name: of the loss.

    Call arguments:
      y_true: dict of (B, L): `label` (grades, below 0 where padding), `stages` unless every loss is on all, and
        `soft_label`, `teacher` where they are targets.
      y_pred: logits (B, L).
      sample_weight: (B, L) or (B,).

    Raises:
      ValueError: see `SumOfLosses`; a stage or target is unknown, a loss on a teacher has another target, or a loss on
        labels a target below 0 where an item is (not checked under XLA).

    Example:
      >>> loss = HybridRankTowerLoss({AdaptiveMarginRankmaxLoss(): ("all", 1.0, "hard")})
      >>> round(float(loss({"label": [[1.0, 0.0, 0.0, 0.0]]}, [[2.0, 0.5, 1.8, -1.0]])), 4)
      0.5878

    Source: RankTower (arXiv 2407.12385); which loss sees which stage is our reading.
    """

    def __init__(
        self,
        losses: Mapping[RankingLoss, tuple[Any, float, str]] | Iterable[tuple[RankingLoss, Any]] | None = None,
        name: str | None = None,
    ) -> None:
        if losses is None:
            losses = {
                SoftmaxDistillationLoss(): (("impression",), 1.0, "teacher"),
                SoftSortLoss(label_temperature=LABEL_TEMPERATURE): (("impression", "candidate"), 1.0, "hard"),
                AdaptiveMarginRankmaxLoss(): ("all", 1.0, "hard"),
            }
        super().__init__(losses, name)
        self.terms = [(_stages(stages), float(weight), target) for stages, weight, target in self.terms]
        for loss, (_, _, target) in zip(self.losses, self.terms, strict=True):
            if target not in TARGETS:
                raise ValueError(f"{self.name}: target must be one of {sorted(TARGETS)}, got {target!r}")
            if isinstance(loss, TeacherLoss) and target != "teacher":
                raise ValueError(f"{self.name}: the target of {loss.name} must be 'teacher', got {target!r}")
        wanted = [*(TARGETS[target] for _, _, target in self.terms if TARGETS[target] != "label")]
        wanted += ["stages" for stages, _, _ in self.terms if stages != "all"]
        self.side_inputs = tuple(dict.fromkeys(wanted))

    def parts(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Part]:
        logits, side, sample_weight = as_dense(y_pred, self.sides(y_true), sample_weight, "label")
        found = []
        for loss, (stages, weight, target) in zip(self.losses, self.terms, strict=True):
            given = self._restricted(side, loss, stages, target)
            found += [p._replace(weight=weight * p.weight) for p in loss.parts(given, logits, sample_weight)]
        return found

    def _restricted(
        self, side: Mapping[str, Any], loss: RankingLoss, stages: tuple[str, ...] | str, target: str
    ) -> dict[str, tf.Tensor]:
        """What one loss gets: its target, and padding in place of the items of other stages."""
        labels = tf.convert_to_tensor(side["label"])
        here = tf.logical_not(labels < 0)
        if stages != "all":
            stage = tf.cast(side["stages"], tf.int32)
            wanted = [stage == STAGES[name] for name in stages]
            here = tf.logical_and(here, tf.reduce_any(tf.stack(wanted), axis=0))
        if isinstance(loss, TeacherLoss):
            return {"teacher": side["teacher"], "list_mask": here}
        values = tf.convert_to_tensor(side[TARGETS[target]])
        values = tf.minimum(values, tf.ones_like(values)) if target == "binary" else values
        if TARGETS[target] != "label":
            below = tf.reduce_any(tf.logical_and(here, values < 0))
            message = f"{self.name}: target {target!r} of {loss.name} must be >= 0 where an item is: below 0 is padding"
            values = require(tf.logical_not(below), values, message)
        return {"label": tf.where(here, values, -tf.ones_like(values))}


@register
def hybrid_rank_tower(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    stages: Any = None,
    teacher: Any = None,
    soft_label: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Functional form of `HybridRankTowerLoss`: the scalar. `options` are the constructor's."""
    side = {"stages": stages, "teacher": teacher, "soft_label": soft_label}
    return functional(HybridRankTowerLoss, y_true, y_pred, sample_weight, options, **side)


def _as_lists(term: Any) -> Any:
    """A term as JSON has it."""
    return [_as_lists(part) for part in term] if isinstance(term, tuple) else term


def _stages(stages: Any) -> tuple[str, ...] | str:
    """Names of stages, or "all", as is None."""
    if stages in (None, "all"):
        return "all"
    names = (stages,) if isinstance(stages, str) else tuple(stages)
    unknown = sorted(set(names) - set(STAGES))
    if unknown or not names:
        raise ValueError(f"stages must be 'all' or some of {sorted(STAGES)}, got {unknown or stages}")
    return names
