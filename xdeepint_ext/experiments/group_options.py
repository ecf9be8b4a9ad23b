"""The options of GroupCE and of the objectives that it is compared with, all on one backbone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.options import option
from xdeepint_ext.layers.rvq import UPDATES
from xdeepint_ext.losses import (
    CombinedLoss,
    JRCLoss,
    ListCrossEntropyLoss,
    ListwiseLoss,
    LogLoss,
    PairwiseLogisticLoss,
    RankingLoss,
    SoftmaxCrossEntropyLoss,
)
from xdeepint_ext.losses.groupwise import LOSSES
from xdeepint_ext.models import GroupRanker, RankingModel, TwoLogitRanker, UserProjection, XDeepInt
from xdeepint_ext.models.baselines import DCNV2, DNN
from xdeepint_ext.models.group_ranker import AUXILIARIES
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.initializers import truncated_normal

__all__ = ["OBJECTIVES", "GroupCEOptions"]

GROUPCE, LOGLOSS, JRC = "groupce", "logloss", "jrc"
HYBRIDS: dict[str, type[ListwiseLoss]] = {
    "pairwise_logistic": PairwiseLogisticLoss,
    "softmax_ce": SoftmaxCrossEntropyLoss,
    "list_ce": ListCrossEntropyLoss,
}
"""Objective -> the loss on lists beside the log loss."""
OBJECTIVES = (GROUPCE, LOGLOSS, *HYBRIDS, JRC)
# Lin et al.'s for list cross-entropies and for JRC; that of the pairs is ours.
ALPHA = {**dict.fromkeys(HYBRIDS, 0.9), JRC: 0.4}

_DEEP = ("width", "units", "dropout", "kernel_l2")
BACKBONES: dict[str, tuple[type[RankingModel], tuple[str, ...]]] = {
    "dcnv2": (DCNV2, (*_DEEP, "num_layers")),
    "dnn": (DNN, _DEEP),
    "xdeepint": (XDeepInt, ("width", "dropout", "num_layers", "num_subspaces")),
}
"""Name -> model, and those of the options that are its own."""


@dataclasses.dataclass(frozen=True)
class GroupCEOptions:
    """An objective, a backbone, and hyper-parameters of `GroupRanker`, which objective groupce uses; see there."""

    objective: str = option(GROUPCE, "GroupCE, log loss, or log loss with a loss on lists", OBJECTIVES)
    alpha: float | None = option(
        None, "weight of the log loss beside 1 - alpha of a loss on lists; default .9, JRC .4 (Lin et al.)"
    )
    backbone: str = option("dcnv2", "which network; paper: not said", BACKBONES)
    projection: int | None = option(None, "numbers a user that a linear encoder leaves of his fields; default: none")
    user_features: tuple[str, ...] = option((), "what a user is made of; default: the features with the role user")
    width: int = option(16, "embedding width K; specification: 16 to 32")
    units: tuple[int, ...] = option((400, 400, 400), "widths of the backbone's deep part")
    dropout: float = option(0.0, "of the backbone")
    kernel_l2: float = option(0.0, "L2 penalty of the deep part's kernels")
    num_layers: int = option(3, "the backbone's cross or interaction layers; specification: 3")
    num_subspaces: int = option(4, "of backbone xdeepint")
    embedding_stddev: float | None = option(None, "deviation of the initial embeddings; default 1 / sqrt(width)")
    num_levels: int = option(3, "levels of codes; ours")
    codebook_size: int = option(8, "codes of a level; ours, for batches of about 4096")
    group_weight: float = option(1.0, "of the group losses; paper: 1; 0: without")
    group_loss: str = option("listce", "inside groups; paper: listce", tuple(LOSSES))
    require_negative: bool = option(True, "leave out groups without a negative; ours")
    include_root: bool = option(False, "the whole batch as a further level; paper: no")
    gather_groups: bool = option(False, "groups span the replicas")
    temperature: float = option(1.0, "that divides the logits in the group losses; ours: none")
    warmup_steps: int = option(0, "steps without group losses; ours")
    auxiliary: str = option("calibration", "second term; paper: calibration; VQ-VAE: reconstruction", AUXILIARIES)
    auxiliary_weight: float = option(0.1, "of that term; a public re-implementation's; 0: without")
    codebook_update: str = option("ema", "paper: ema; VQ-VAE: gradient", UPDATES)
    commitment_weight: float = option(0.0, "what draws users to their codes; paper: 0; VQ-VAE: 0.25")
    decay: float | None = option(None, "of the codebooks' averages; default: the layer's, .99")
    expire_below: float | None = option(
        None, "share of the mean count below which a code expires; default: the layer's, .05; 0: never"
    )
    start_step: int | None = option(None, "steps before the codebooks start; default: the layer's, 0")
    random_codebooks: bool = option(False, "start from random codebooks, distributed as the embeddings, not k-means")

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {self.alpha}")
        if self.alpha is not None and self.objective not in ALPHA:
            raise ValueError(f"alpha is of the objectives {sorted(ALPHA)}, got {self.alpha} for {self.objective}")

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        backbone: Callable[[Schema], RankingModel] = self._network
        if self.projection is not None:
            backbone = functools.partial(
                UserProjection, backbone=backbone, units=self.projection, user_features=self.user_features or None
            )
        if self.objective == JRC:
            return TwoLogitRanker(schema, backbone=backbone)
        if self.objective == GROUPCE:
            return GroupRanker(schema, backbone=backbone, **self._of_groups())
        return backbone(schema)

    def loss(self, grouped: bool) -> RankingLoss | None:
        """What the model is compiled with; None: the log loss.

        Args:
          grouped: whether the batch's groups are the lists, and not the batch.

        Raises:
          ValueError: the objective has no such lists.
        """
        if self.objective == JRC:
            return JRCLoss(self._alpha, grouped=grouped)
        if self.objective in HYBRIDS:
            lists = HYBRIDS[self.objective](in_batch=True, grouped=grouped)
            return CombinedLoss({LogLoss(): self._alpha, lists: 1 - self._alpha})
        if grouped:
            raise ValueError(
                f"grouping must be batch for objective {self.objective}, which "
                + ("finds groups of its own" if self.objective == GROUPCE else "has no lists")
            )
        return None

    @property
    def _alpha(self) -> float:
        return ALPHA[self.objective] if self.alpha is None else self.alpha

    def _network(self, schema: Schema) -> RankingModel:
        model, names = BACKBONES[self.backbone]
        return model(
            schema,
            embedding_initializer=truncated_normal(self.embedding_stddev),
            **{name: getattr(self, name) for name in names},
        )

    def _of_groups(self) -> Mapping[str, Any]:
        names = [
            *("num_levels", "codebook_size", "group_weight", "group_loss", "require_negative", "include_root"),
            *("gather_groups", "temperature", "warmup_steps", "auxiliary", "auxiliary_weight", "codebook_update"),
            "commitment_weight",
        ]
        quantizer = {name: getattr(self, name) for name in ("decay", "expire_below", "start_step")}
        quantizer = {name: value for name, value in quantizer.items() if value is not None}
        if self.random_codebooks:
            quantizer["init"] = tf.keras.initializers.RandomNormal(stddev=self.embedding_stddev or self.width**-0.5)
        return {
            **{name: getattr(self, name) for name in names},
            "user_features": self.user_features or None,
            "quantizer_options": quantizer,
        }
