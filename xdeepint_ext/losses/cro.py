"""CROLoss: retrieval losses that optimise Recall@N, by a kernel in place of the rank's step and a weighting of N."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import functional
from xdeepint_ext.losses.lists import Few, Lists
from xdeepint_ext.losses.pairwise import AgainstNegativesLoss, Reduction, hinge, sum_of
from xdeepint_ext.utils.registry import register

KERNELS = ("softplus", "exp", "hinge", "sigmoid")
WEIGHT_KERNELS = (*KERNELS, "step")
ESTIMATORS = ("repo", "additive")
TINY = 1e-30
LARGEST_GAP = 80.0
"""Beyond it `exp` and its powers have no finite float32; the gradient passes as if nothing had been cut."""


@register
@dataclasses.dataclass(frozen=True)
class TargetN:
    """A weighting that cares about Recall@N near one N: the cdf of a logistic in the logarithm of the rank.

        W(x) = (S(x) - S(1)) / (S(num_items + 1) - S(1)),   S(x) = sigmoid((ln x - ln n) / width)

    Args:
      n: the N that matters, >= 1.
      width: in units of ln N, > 0: about two thirds of the weight lie between n / e^(1.4 width) and n e^(1.4 width).
        Default 0.5, ours.

    Raises:
      ValueError: n < 1 or width not above 0.

    Example:
      >>> weighting = TargetN(100)
      >>> round(float(weighting(tf.constant(1e6)) - weighting(tf.constant(1e3))), 2)
      0.01

    Source: ours; CROLoss (arXiv 2208.02971), equations 8-11, allow any cdf.
    """

    n: float
    width: float = 0.5

    def __post_init__(self) -> None:
        if not self.n >= 1:
            raise ValueError(f"TargetN: n must be >= 1, got {self.n}")
        if not self.width > 0:
            raise ValueError(f"TargetN: width must be > 0, got {self.width}")

    def __call__(self, rank: tf.Tensor) -> tf.Tensor:
        """S(x); `CROLoss` subtracts S(1) and divides by the range."""
        return tf.sigmoid((tf.math.log(rank) - math.log(self.n)) / self.width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TargetN:
        """Makes the weighting that `get_config` described."""
        return cls(**config)


class RankLoss(AgainstNegativesLoss):
    """What CROLoss and CROLambdaLoss share: the smooth rank, and what a rank costs.

    Args: see `CROLoss`.
    """

    def __init__(
        self,
        kernel: str = "softplus",
        weighting: float | TargetN | Callable[[tf.Tensor], tf.Tensor] = 1.0,
        num_items: int | None = None,
        scale: float = 1.0,
        margin: float = 5.0,
        estimator: str = "repo",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        _check_kernel("kernel", kernel, KERNELS)
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}")
        if isinstance(weighting, int | float):
            if not (weighting >= 0 and math.isfinite(weighting)):
                raise ValueError(f"weighting: alpha must be >= 0 and finite, got {weighting}")
        elif not callable(weighting):
            raise ValueError(f"weighting must be alpha, TargetN or a function of the rank, got {weighting!r}")
        if not scale > 0:
            raise ValueError(f"scale must be > 0, got {scale}")
        if not margin > 0:
            raise ValueError(f"margin must be > 0, got {margin}")
        if num_items is None and not (weighting == 1 and estimator == "repo"):
            raise ValueError(f"num_items is required for weighting {weighting!r} and estimator {estimator!r}")
        if num_items is not None and num_items < 1:
            raise ValueError(f"num_items must be > 0, got {num_items}")
        self.kernel = kernel
        self.weighting = weighting
        self.num_items = num_items
        self.scale = scale
        self.margin = margin
        self.estimator = estimator

    def log_ranks(self, kernel: str, few: Few, lists: Lists, side: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """`ln r` of the positives, r = 1 + the sum over the sampled negatives of the kernel of the gap."""
        logits = lists.logits
        if "sampling_probability" in side:
            drawn = tf.math.log(tf.maximum(side["sampling_probability"], TINY))
            logits = tf.where(lists.labels > 0, logits, lists.fill(logits - drawn))
        if self.scale != 1:
            logits *= self.scale
        if kernel != "exp":
            total = _kernel(kernel, self.margin)
            return tf.math.log1p(self.against_negatives(few, lists, logits, total, side))
        if "item_ids" in side:
            log_sum = self.against_negatives(few, lists, logits, _logsumexp, side)
        else:  # what the positives have in common is computed once
            log_sum = few.of_lists(lists.logsumexp(logits, lists.labels == 0)) - few.gather(logits)
        some = log_sum > log_sum.dtype.min / 2
        log_sum = tf.where(some, log_sum, tf.zeros_like(log_sum))
        # Alone ln r, of which alpha = 1 makes softmax cross-entropy, is finite for gaps of any size.
        log_rank = tf.nn.softplus(log_sum if self.weighting == 1 else _cut(log_sum))
        return tf.where(some, log_rank, tf.zeros_like(log_rank))

    def cost(self, log_rank: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
        """What the smooth rank r of a positive among M sampled negatives costs, as a function of ln r.

            alpha = 1:  ln r           alpha = 0:  r ln(N + 1) / N           a function:  its cdf on [1, N + 1], at R r
            else:  ((R r)^(1 - alpha) - 1) ln(N + 1) / ((N + 1)^(1 - alpha) - 1),   R = N / M

        With the additive estimator `1 + R (r - 1)` takes the place of `R r`, and alpha = 0, 1 are the formulas' limits.
        """
        alpha, additive = self.weighting, self.estimator == "additive"
        if alpha == 1 and not additive:
            return log_rank
        number = tf.constant(self.num_items, log_rank.dtype)
        log_number = tf.math.log(number + 1)
        if alpha == 0 and not additive:
            return tf.exp(log_rank) * log_number / number
        ratio = number / tf.maximum(negatives, 1)
        if additive:
            log_estimate = tf.math.log1p(ratio * tf.math.expm1(log_rank))
        else:
            log_estimate = tf.math.log(ratio) + log_rank
        if alpha != 1:
            log_estimate = _cut(log_estimate)
        if callable(alpha):
            first, last = alpha(tf.ones_like(number)), alpha(number + 1)
            return (alpha(tf.exp(log_estimate)) - first) / (last - first)
        if alpha == 1:
            return log_estimate
        return tf.math.expm1((1 - alpha) * log_estimate) * log_number / tf.math.expm1((1 - alpha) * log_number)

    def get_config(self) -> dict[str, Any]:
        weighting = self.weighting
        if not isinstance(weighting, int | float):
            weighting = tf.keras.saving.serialize_keras_object(weighting)
        return {
            **super().get_config(),
            "kernel": self.kernel,
            "weighting": weighting,
            "num_items": self.num_items,
            "scale": self.scale,
            "margin": self.margin,
            "estimator": self.estimator,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RankLoss:
        config = dict(config)
        if isinstance(config["weighting"], Mapping):
            config["weighting"] = tf.keras.saving.deserialize_keras_object(config["weighting"])
        return cls(**config)


@register
class CROLoss(RankLoss):
    """Customizable Recall@N: the mean over positives i of `W(1 + sum_j kernel(s_j - s_i))`, j the list's negatives.

    `W_alpha(r) = ((R r)^(1 - alpha) - 1) ln(N + 1) / ((N + 1)^(1 - alpha) - 1)`, R = N / M for M negatives of N items;
    for alpha = 1 `ln r`, with the exp kernel softmax cross-entropy; for alpha = 0 `r ln(N + 1) / N`, with the hinge
    kernel triplet, with softplus BPR. A larger alpha weighs a smaller N. This is the repository's scale, which makes
    alphas comparable.

    Args:
      kernel: `softplus` (the paper's best on Amazon Books), `exp`, `hinge` or `sigmoid`.
      weighting: alpha >= 0 (the paper's grids are 0.6 .. 1.6; default 1); a `TargetN`; or any increasing function of
        the rank, a tensor >= 1, whose range on [1, num_items + 1] is scaled to 0 .. 1.
      num_items: N, the size of the catalogue. Needed except for alpha = 1 with the `repo` estimator.
      scale: the paper's gamma (10), by which the gaps are multiplied. Default 1: the models' logits have it already.
      margin: of the hinge kernel. Default 5, the paper's.
      estimator: of the catalogue's rank: `repo`, `R (1 + sum)`, the authors' code; or `additive`, `1 + R sum`, which
        takes 1 for a positive above all, and for alpha = 0, 1 the formulas' limits.
      max_positives: the most positives of a list; see `AgainstNegativesLoss`.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: 1 = positive, 0 = negative, (B, L), below 0 where padding; each positive competes with the negatives only.
        As a dict with "label" also `item_ids` (B, L), integers: negatives that are the positive's own item are left
        out; `sampling_probability` (B, L): its logarithm is subtracted from the negatives' logits.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the positives; or (B,).

    Raises:
      ValueError: an argument is unknown or out of range, or num_items is missing where the formula needs it.

    Example:
      >>> loss = CROLoss(kernel="exp")  # with alpha = 1: softmax cross-entropy
      >>> round(float(loss([[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]])), 4)
      1.0986

    Source: CROLoss (arXiv 2208.02971), equations 12-16 and 24, and the authors' code.
    """

    def of_positives(self, few: Few, lists: Lists, side: Mapping[str, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        return self.cost(self.log_ranks(self.kernel, few, lists, side), number)


@register
def cro(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    group_ids: Any = None,
    item_ids: Any = None,
    sampling_probability: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Functional form of `CROLoss`: the scalar mean. `options` are the constructor's."""
    side = {"group_ids": group_ids, "item_ids": item_ids, "sampling_probability": sampling_probability}
    return functional(CROLoss, y_true, y_pred, sample_weight, options, **side)


@register
class CROLambdaLoss(RankLoss):
    """CROLoss-lambda: the mean over positives of `stop_gradient(W'(r_1)) r_2`, the ranks r of two kernels.

    The rank by the weight kernel says how much a positive matters, the rank by the other is what is pushed down. With
    equal kernels its gradient is `CROLoss`'s.

    Args:
      weight_kernel: `sigmoid` (the paper's best), `step`, or one of the other kernels.
      kernel: `softplus` (best on Amazon Books), `exp` (best on Taobao), `hinge` or `sigmoid`.
      weighting, num_items, scale, margin, estimator, max_positives: see `CROLoss`.
      repo_scale: True = the authors' code, whose weights are smaller by R = N / M for alpha other than 0 and 1.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments: as of `CROLoss`.

    Raises:
      ValueError: as `CROLoss`; and repo_scale with a weighting that is no alpha, or with the additive estimator.

    Example:
      >>> loss = CROLambdaLoss(weighting=1.0)
      >>> bool(loss([[1.0, 0.0]], [[2.0, 0.0]]) < loss([[1.0, 0.0]], [[0.0, 2.0]]))
      True

    Source: CROLoss (arXiv 2208.02971), equations 21-23, and the authors' code.
    """

    def __init__(
        self,
        weight_kernel: str = "sigmoid",
        kernel: str = "softplus",
        weighting: float | TargetN | Callable[[tf.Tensor], tf.Tensor] = 1.0,
        num_items: int | None = None,
        scale: float = 1.0,
        margin: float = 5.0,
        repo_scale: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(kernel, weighting, num_items, scale, margin, **options)
        _check_kernel("weight_kernel", weight_kernel, WEIGHT_KERNELS)
        if repo_scale and (callable(weighting) or self.estimator != "repo"):
            raise ValueError(
                f"repo_scale needs an alpha and estimator='repo', got {weighting!r} and {self.estimator!r}"
            )
        self.weight_kernel = weight_kernel
        self.repo_scale = repo_scale

    def of_positives(self, few: Few, lists: Lists, side: Mapping[str, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        log_rank = tf.stop_gradient(self.log_ranks(self.weight_kernel, few, lists, side))
        with tf.GradientTape() as tape:
            tape.watch(log_rank)
            cost = self.cost(log_rank, number)
        weight = tf.stop_gradient(tape.gradient(cost, log_rank) * tf.exp(-log_rank))
        if self.repo_scale and self.weighting not in (0, 1):
            weight *= tf.maximum(number, 1) / self.num_items
        return weight * tf.exp(self.log_ranks(self.kernel, few, lists, side))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight_kernel": self.weight_kernel, "repo_scale": self.repo_scale}


@register
def cro_lambda(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    group_ids: Any = None,
    item_ids: Any = None,
    sampling_probability: Any = None,
    **options: Any,
) -> tf.Tensor:
    """Functional form of `CROLambdaLoss`: the scalar mean. `options` are the constructor's."""
    side = {"group_ids": group_ids, "item_ids": item_ids, "sampling_probability": sampling_probability}
    return functional(CROLambdaLoss, y_true, y_pred, sample_weight, options, **side)


def _kernel(name: str, margin: float) -> Reduction:
    """The sum of a kernel over gaps that are clipped above 80, with the slope there."""
    summed = hinge(margin) if name == "hinge" else sum_of(_KERNELS[name])
    return lambda gap: summed(tf.minimum(gap, LARGEST_GAP))


def _softplus(gap: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    power = tf.exp(gap)  # finite, as the gap is clipped; and faster than tf.nn.softplus
    return tf.math.log1p(power), power / (1 + power)


def _sigmoid(gap: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    value = tf.sigmoid(gap)
    return value, value * (1 - value)


def _step(gap: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.cast(gap >= 0, gap.dtype), tf.zeros_like(gap)


_KERNELS = {"softplus": _softplus, "sigmoid": _sigmoid, "step": _step}


@tf.custom_gradient
def _cut(gap: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Clips above 80, with the gradient of no clipping."""
    return tf.minimum(gap, LARGEST_GAP), lambda upstream: upstream


def _logsumexp(gap: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.reduce_logsumexp(gap, axis=-1), tf.nn.softmax(gap)


def _check_kernel(argument: str, kernel: str, known: tuple[str, ...]) -> None:
    if kernel not in known:
        raise ValueError(f"{argument} must be one of {known}, got {kernel!r}")
