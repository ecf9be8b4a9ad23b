"""Every loss on lists with its options, its reference, and what labels it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.losses import reference
from xdeepint_ext import losses


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss, the reference of one list, the options of both, and the labels it takes."""

    loss: type
    reference: Callable[..., tuple[float, int]]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    labels: str = "grades"

    def __str__(self) -> str:
        return f"{self.loss.__name__}({', '.join(f'{k}={v}' for k, v in self.options.items())})"


def _cases(loss: type, of_list: Callable, *options: Mapping[str, Any], labels: str = "grades") -> list[Case]:
    return [Case(loss, of_list, given, labels) for given in options]


CRO_OPTIONS = [
    {"kernel": kernel, "weighting": weighting, "num_items": 50, "estimator": estimator}
    for kernel in ("softplus", "exp", "hinge", "sigmoid")
    for weighting, estimator in (
        (0, "repo"),
        (0.7, "repo"),
        (1, "repo"),
        (1.3, "additive"),
        (0, "additive"),
        (1, "additive"),
    )
]

CASES = [
    *_cases(losses.PairwiseLogisticLoss, reference.pairwise_logistic, {}, {"normalize": False}),
    *_cases(losses.BPRLoss, reference.bpr, {}, {"normalize": False}, labels="binary"),
    *_cases(losses.TripletLoss, reference.triplet, {}, {"margin": 0.5, "normalize": False}, labels="binary"),
    *_cases(losses.SoftmaxCrossEntropyLoss, reference.softmax_cross_entropy, {}, {"normalize": False}),
    *_cases(
        losses.ListCrossEntropyLoss,
        reference.list_cross_entropy,
        {},
        {"transform": "exp"},
        {"transform": "sigmoid", "normalize": False},
    ),
    *_cases(losses.ApproxNDCGLoss, reference.approx_ndcg, {}, {"temperature": 0.7}),
    *_cases(
        losses.NeuralSortLoss,
        reference.neural_sort,
        {},
        {"temperature": 2.0, "label_temperature": 0.5, "normalize": False},
    ),
    *_cases(
        losses.SoftSortLoss,
        reference.soft_sort,
        {},
        {"power": 2, "normalize": False},
        {"temperature": 0.5, "label_temperature": 2.0},
    ),
    *_cases(losses.RankmaxLoss, reference.rankmax, {}, {"normalize": False}),
    *_cases(
        losses.AdaptiveMarginRankmaxLoss,
        reference.adaptive_margin_rankmax,
        {},
        {"delta": 0.3, "normalize": False},
        {"margin": "constant", "delta": 2.0},
    ),
    *_cases(losses.CROLoss, reference.cro, *CRO_OPTIONS, labels="binary"),
    *_cases(
        losses.SoftmaxDistillationLoss,
        reference.softmax_distillation,
        {},
        {"temperature": 3.0},
        labels="teacher",
    ),
    *_cases(
        losses.WeightedLogLossDistillation,
        reference.weighted_log_loss_distillation,
        {},
        {"weight": "prob", "temperature": 2.0},
        {"weight": None},
        labels="teacher",
    ),
    *_cases(
        losses.PairwiseLogisticDistillation,
        reference.pairwise_logistic_distillation,
        {},
        {"normalize": False, "temperature": 2.0},
        labels="teacher",
    ),
]


def draw(case: Case, seed: int, lists: int, length: int) -> tuple[np.ndarray, ...]:
    """(labels, logits, mask, weights), each (lists, length)."""
    random = np.random.default_rng(seed)
    shape = (lists, length)
    labels = {
        "grades": lambda: random.integers(0, 4, shape).astype(float),
        "binary": lambda: random.integers(0, 2, shape).astype(float),
        "teacher": lambda: random.normal(size=shape),
    }[case.labels]()
    # A quarter of the lists is drawn without padding, some are nothing but padding.
    mask = random.random(shape) < random.choice([0.0, 0.6, 0.8, 1.0], (lists, 1), p=[0.1, 0.4, 0.25, 0.25])
    return labels, 2 * random.normal(size=shape), mask, random.uniform(0.2, 3.0, shape)


def expected(case: Case, labels: np.ndarray, logits: np.ndarray, mask: np.ndarray, weights: np.ndarray) -> float:
    """The reference's mean."""
    rows = [(y[m], s[m], w[m]) for y, s, m, w in zip(labels, logits, mask, weights, strict=True)]
    return reference.mean_over_lists(case.reference, rows, **case.options)


def target(case: Case, labels: np.ndarray, mask: np.ndarray) -> Any:
    """`y_true` with its padding."""
    if case.labels == "teacher":
        return {"teacher": labels, "list_mask": mask}
    return np.where(mask, labels, -1.0)
