"""The losses that `--loss` names: every row of RankTower's ablation tables, as dicts of losses.

The paper's tables of losses change one part each, and do not say what the others are. Our reading: a row of the loss
table puts one loss, on all items, in the place of SoftSort and Rankmax, and keeps the distillation; a row of the
distillation table keeps SoftSort and Rankmax. The table of samples is `--stages` with the loss as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from xdeepint_ext.losses import (
    AdaptiveMarginRankmaxLoss,
    ApproxNDCGLoss,
    ARFLoss,
    HybridRankTowerLoss,
    LogLoss,
    PairwiseLogisticDistillation,
    PairwiseLogisticLoss,
    RankingLoss,
    RankmaxLoss,
    SoftmaxCrossEntropyLoss,
    SoftmaxDistillationLoss,
    SoftSortLoss,
    WeightedLogLossDistillation,
)
from xdeepint_ext.losses.base import LossLayer
from xdeepint_ext.losses.hybrid import LABEL_TEMPERATURE

__all__ = ["DEFAULT", "LOSSES", "make_loss"]

DEFAULT = "default"
"""The name of the usual loss: log loss on single examples, `hybrid` on lists."""

_IMPRESSIONS, _SHOWN = ("impression",), ("impression", "candidate")


def _sorting(**options: bool) -> SoftSortLoss:
    return SoftSortLoss(label_temperature=LABEL_TEMPERATURE, **options)


def _instead_of_both(loss: RankingLoss) -> HybridRankTowerLoss:
    """One loss on all items, and the distillation."""
    return HybridRankTowerLoss(
        [(SoftmaxDistillationLoss(), (_IMPRESSIONS, 1.0, "teacher")), (loss, ("all", 1.0, "hard"))]
    )


def _distilled(loss: RankingLoss | None) -> HybridRankTowerLoss:
    """SoftSort and Rankmax, with another distillation or none."""
    rest = [(_sorting(), (_SHOWN, 1.0, "hard")), (AdaptiveMarginRankmaxLoss(), ("all", 1.0, "hard"))]
    return HybridRankTowerLoss([(loss, (_IMPRESSIONS, 1.0, "teacher")), *rest] if loss else rest)


def _sorted_more(weight: float) -> HybridRankTowerLoss:
    """The default with another weight of SoftSort."""
    return HybridRankTowerLoss(
        [
            (SoftmaxDistillationLoss(), (_IMPRESSIONS, 1.0, "teacher")),
            (_sorting(), (_SHOWN, weight, "hard")),
            (AdaptiveMarginRankmaxLoss(), ("all", 1.0, "hard")),
        ]
    )


def _literal() -> HybridRankTowerLoss:
    """As the slides print it: raw probabilities of the teacher, margin 1, sums in place of means inside a list.

    SoftSort's labels keep a temperature of their own, where the slides have one for both.
    """
    return HybridRankTowerLoss(
        [
            (SoftmaxDistillationLoss("sigmoid"), (_IMPRESSIONS, 1.0, "teacher")),
            (_sorting(normalize=False), (_SHOWN, 1.0, "hard")),
            (AdaptiveMarginRankmaxLoss("constant", normalize=False), ("all", 1.0, "hard")),
        ]
    )


def _arf(temperature: float) -> ARFLoss:
    """Of one best item, as most lists have, among ten that are handed on."""
    return ARFLoss(1, 10, temperature=temperature, normalize=False)


LOSSES: dict[str, Callable[[], RankingLoss | LossLayer]] = {
    "hybrid": HybridRankTowerLoss,
    "hybrid_literal": _literal,
    # The table of losses.
    "sorting": lambda: _instead_of_both(_sorting()),
    "am_rankmax": lambda: _instead_of_both(AdaptiveMarginRankmaxLoss()),
    "rankmax": lambda: _instead_of_both(RankmaxLoss()),
    "softmax": lambda: _instead_of_both(SoftmaxCrossEntropyLoss()),
    "approx_ndcg": lambda: _instead_of_both(ApproxNDCGLoss()),
    "ranknet": lambda: _instead_of_both(PairwiseLogisticLoss()),
    # The table of SoftSort's weight: its mean over n ranks, against the sum as printed.
    "sorting_5": lambda: _sorted_more(5.0),
    "sorting_25": lambda: _sorted_more(25.0),
    "sorting_of_shown": lambda: HybridRankTowerLoss([(_sorting(), (_SHOWN, 1.0, "hard"))]),
    # The table of distillations.
    "weighted_logloss": lambda: _distilled(WeightedLogLossDistillation()),
    "pairwise_logloss": lambda: _distilled(PairwiseLogisticDistillation()),
    "undistilled": lambda: _distilled(None),
    # Competitors: click or not, of every item of a list; and ARF in its authors' form, as the formula's own is worse
    # still where nearly all grades are tied.
    "logloss": lambda: HybridRankTowerLoss({LogLoss(): ("all", 1.0, "binary")}),
    "arf_10": lambda: _arf(10.0),
    "arf_50": lambda: _arf(50.0),
    "arf_200": lambda: _arf(200.0),
}
"""Name -> what makes the loss; all are for lists."""


def make_loss(name: str) -> RankingLoss | LossLayer:
    """A new loss.

    Args:
      name: of `LOSSES`, or `default`.

    Raises:
      ValueError: there is no such loss.

    Example:
      >>> [loss.name for loss in make_loss("rankmax").losses]
      ['softmax_distillation', 'rankmax']
    """
    if name not in (DEFAULT, *LOSSES):
        raise ValueError(f"loss must be one of {sorted(LOSSES)}, or {DEFAULT!r}; got {name!r}")
    return LOSSES["hybrid" if name == DEFAULT else name]()
