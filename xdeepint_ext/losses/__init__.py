"""Losses on logits."""

from xdeepint_ext.losses.arf import ARFLoss
from xdeepint_ext.losses.base import ListwiseLoss, RankingLoss
from xdeepint_ext.losses.cro import CROLambdaLoss, CROLoss, TargetN, cro, cro_lambda
from xdeepint_ext.losses.distillation import (
    PairwiseLogisticDistillation,
    SoftmaxDistillationLoss,
    WeightedLogLossDistillation,
    pairwise_logistic_distillation,
    softmax_distillation,
    weighted_log_loss_distillation,
)
from xdeepint_ext.losses.groupwise import GroupwiseListCrossEntropy
from xdeepint_ext.losses.hybrid import CombinedLoss, HybridRankTowerLoss, combined, hybrid_rank_tower
from xdeepint_ext.losses.listwise import (
    JRCLoss,
    ListCrossEntropyLoss,
    SoftmaxCrossEntropyLoss,
    jrc,
    list_cross_entropy,
    softmax_cross_entropy,
)
from xdeepint_ext.losses.pairwise import BPRLoss, PairwiseLogisticLoss, TripletLoss, bpr, pairwise_logistic, triplet
from xdeepint_ext.losses.pointwise import LogLoss, log_loss
from xdeepint_ext.losses.rankmax import AdaptiveMarginRankmaxLoss, RankmaxLoss, adaptive_margin_rankmax, rankmax
from xdeepint_ext.losses.sorting import (
    ApproxNDCGLoss,
    NeuralSortLoss,
    SoftSortLoss,
    approx_ndcg,
    neural_sort,
    soft_sort,
)

__all__ = [
    "ARFLoss",
    "AdaptiveMarginRankmaxLoss",
    "ApproxNDCGLoss",
    "BPRLoss",
    "CROLambdaLoss",
    "CROLoss",
    "CombinedLoss",
    "GroupwiseListCrossEntropy",
    "HybridRankTowerLoss",
    "JRCLoss",
    "ListCrossEntropyLoss",
    "ListwiseLoss",
    "LogLoss",
    "NeuralSortLoss",
    "PairwiseLogisticDistillation",
    "PairwiseLogisticLoss",
    "RankingLoss",
    "RankmaxLoss",
    "SoftSortLoss",
    "SoftmaxCrossEntropyLoss",
    "SoftmaxDistillationLoss",
    "TargetN",
    "TripletLoss",
    "WeightedLogLossDistillation",
    "adaptive_margin_rankmax",
    "approx_ndcg",
    "bpr",
    "combined",
    "cro",
    "cro_lambda",
    "hybrid_rank_tower",
    "jrc",
    "list_cross_entropy",
    "log_loss",
    "neural_sort",
    "pairwise_logistic",
    "pairwise_logistic_distillation",
    "rankmax",
    "soft_sort",
    "softmax_cross_entropy",
    "softmax_distillation",
    "triplet",
    "weighted_log_loss_distillation",
]
