"""The retrieval models' options: towers, loss, and how training batches are drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from xdeepint_ext.data.sequences import Sampling
from xdeepint_ext.data.sequences.sample import DRAWS
from xdeepint_ext.experiments.options import option
from xdeepint_ext.losses import (
    BPRLoss,
    CROLambdaLoss,
    CROLoss,
    LogLoss,
    RankingLoss,
    SoftmaxCrossEntropyLoss,
    TargetN,
    TripletLoss,
)
from xdeepint_ext.losses.cro import ESTIMATORS, KERNELS, WEIGHT_KERNELS
from xdeepint_ext.models import MatrixFactorization, PooledHistory, RetrievalModel, SelfAttentiveHistory
from xdeepint_ext.models.retrieval import NORMALIZED
from xdeepint_ext.models.user_encoders import POOLINGS
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.initializers import truncated_normal

__all__ = ["OBJECTIVES", "MFOptions", "PooledOptions", "RetrievalOptions", "SASRecOptions"]


ONE_POSITIVE: dict[str, Any] = {"max_positives": 1}
"""Of losses against candidates: a row has one target, and with that known their sizes are static."""


def _rank(options: RetrievalOptions, num_items: int) -> dict[str, Any]:
    """What CROLoss and CROLambdaLoss have in common."""
    weighting = options.alpha if options.target_n is None else TargetN(options.target_n, options.target_width)
    same = {name: getattr(options, name) for name in ("kernel", "margin", "estimator")}
    return {"weighting": weighting, "num_items": num_items, **ONE_POSITIVE, **same}


OBJECTIVES: dict[str, Callable[[RetrievalOptions, int], RankingLoss]] = {
    "ce": lambda options, num_items: SoftmaxCrossEntropyLoss(),
    "bce": lambda options, num_items: LogLoss(pos_weight=options.pos_weight),
    "triplet": lambda options, num_items: TripletLoss(margin=options.margin, **ONE_POSITIVE),
    "bpr": lambda options, num_items: BPRLoss(**ONE_POSITIVE),
    "croloss": lambda options, num_items: CROLoss(**_rank(options, num_items)),
    "crolambda": lambda options, num_items: CROLambdaLoss(options.weight_kernel, **_rank(options, num_items)),
}
"""Name -> the loss of a target against its candidates, of options and the catalogue's size."""

_NOT_OF_THE_MODEL = (
    *("objective", "kernel", "weight_kernel", "alpha", "target_n", "target_width"),
    *("margin", "pos_weight", "estimator"),
    *("draw", "first_target", "negatives", "in_batch", "correct_popularity", "whole_catalogue", "remove_seen"),
    *("embedding_stddev", "embedding_l2"),
)


@dataclasses.dataclass(frozen=True)
class RetrievalOptions:
    """What the retrieval models share; see `RetrievalModel`, `losses.CROLoss` and `data.sequences.Sampling`."""

    model: ClassVar[type[RetrievalModel]]

    width: int = option(32, "columns of the vectors; paper: 32")
    gamma: float = option(10.0, "scale of the cosine; paper: 10")
    normalize: str = option("both", "vectors of length 1: both = cosine, the paper's", NORMALIZED)
    item_bias: bool = option(False, "a bias for each item; paper: none")
    embedding_l2: float = option(0.0, "L2 penalty of a target's embedding rows; paper: 0")
    embedding_stddev: float | None = option(None, "deviation of the initial embeddings; default 1 / sqrt(width)")
    mask_hits: bool = option(True, "leave out candidates that are the target's item; authors' code: no")
    objective: str = option("croloss", "loss of a target against its candidates", OBJECTIVES)
    kernel: str = option("softplus", "of CROLoss; paper's best: softplus on Books, exp on Taobao", KERNELS)
    weight_kernel: str = option("sigmoid", "of CROLoss-lambda's weights; paper's best: sigmoid", WEIGHT_KERNELS)
    alpha: float = option(1.0, "of CROLoss's weighting; more weighs smaller N; paper: 0.6 .. 1.6")
    target_n: float | None = option(None, "in place of alpha: the N whose recall matters; ours")
    target_width: float = option(0.5, "of target_n's weighting, in units of ln N; ours")
    margin: float = option(5.0, "of triplet and the hinge kernel; paper: 5")
    pos_weight: float = option(1.0, "of bce's target; the number of candidates: it weighs as much as all of these")
    estimator: str = option("repo", "of the rank among all items: the authors' code, or unbiased", ESTIMATORS)
    draw: str = option("pairs", "pairs: all targets in turn; users: the paper's; windows: whole histories", DRAWS)
    first_target: int = option(0, "items of a user before his first target at least; authors' code: 4")
    negatives: int = option(2560, "uniform candidates that a batch shares; paper: 10 a target, 2560 (Books) or 5120")
    in_batch: bool = option(False, "the batch's other targets are candidates, too; paper: no")
    correct_popularity: bool = option(True, "subtract ln(N q) of such candidates' logits; ours")
    whole_catalogue: bool = option(False, "add ln(N / M) to the M candidates' logits: they stand for all N; paper: no")
    remove_seen: bool = option(True, "evaluation leaves out what the user has had; ComiRec's evaluator does not")

    def make(self, schema: Schema) -> RetrievalModel:
        """The model."""
        options = {name: value for name, value in dataclasses.asdict(self).items() if name not in _NOT_OF_THE_MODEL}
        initializer = truncated_normal(self.embedding_stddev)
        return self.model(schema, embedding_initializer=initializer, l2=self.embedding_l2, **options)

    def loss(self, num_items: int) -> RankingLoss:
        """A new loss, for a catalogue of so many items."""
        return OBJECTIVES[self.objective](self, num_items)

    def sampling(self, batch_size: int, seed: int) -> Sampling:
        """How training batches are drawn."""
        names = ("draw", "first_target", "negatives", "in_batch", "whole_catalogue")
        same = {name: getattr(self, name) for name in names}
        return Sampling(batch_size, correct=self.correct_popularity, seed=seed, **same)


@dataclasses.dataclass(frozen=True)
class MFOptions(RetrievalOptions):
    """Hyper-parameters of `MatrixFactorization`; see there."""

    model = MatrixFactorization


@dataclasses.dataclass(frozen=True)
class PooledOptions(RetrievalOptions):
    """Hyper-parameters of `PooledHistory`; see there."""

    model = PooledHistory

    pooling: str = option("mean", "of the history: its mean (paper), or weighted by recency", POOLINGS)
    project: bool = option(True, "a square matrix behind the mean; authors' code: yes")
    dropout: float = option(0.0, "of the history's rows; paper: none")


@dataclasses.dataclass(frozen=True)
class SASRecOptions(RetrievalOptions):
    """Hyper-parameters of `SelfAttentiveHistory`; see there."""

    model = SelfAttentiveHistory

    num_blocks: int = option(2, "blocks of attention; SASRec: 2")
    attention_heads: int = option(2, "of a block; SASRec: 1")
    dropout: float = option(0.2, "in the blocks and of the history's rows; SASRec: 0.2 to 0.5")

    def make(self, schema: Schema) -> RetrievalModel:
        """The model."""
        options = {name: value for name, value in dataclasses.asdict(self).items() if name not in _NOT_OF_THE_MODEL}
        options["num_heads"] = options.pop("attention_heads")
        initializer = truncated_normal(self.embedding_stddev)
        return self.model(schema, embedding_initializer=initializer, l2=self.embedding_l2, **options)
