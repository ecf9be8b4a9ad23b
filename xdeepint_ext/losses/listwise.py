"""Cross-entropies over a list: softmax, regression-compatible, and joint with calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses.base import ListwiseLoss, Normalized, functional
from xdeepint_ext.losses.lists import Lists
from xdeepint_ext.utils.registry import register

TRANSFORMS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "sigmoid": tf.math.log_sigmoid,
    "exp": tf.identity,
}
"""Name of T -> log T."""


@register
class ListCrossEntropyLoss(Normalized):
    """ListCE: `-(1/C) sum_i y_i log(T(s_i) / sum_j T(s_j))`, C = sum y; over lists with C > 0, the mean.

    With T = sigmoid the scores that minimise it may also be the logits of probabilities, which softmax's are not.

    Args:
      transform: T, `sigmoid` (Bai et al.'s) or `exp`, which is `SoftmaxCrossEntropyLoss`.
      normalize: divide by C, as printed; False = the sum.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: labels or grades (B, L), also soft ones; below 0 where padding.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the terms of the outer sum; or (B,).

    Raises:
      ValueError: `transform` is unknown.

    Example:
      >>> round(float(ListCrossEntropyLoss()([[1.0, 0.0]], [[0.0, 0.0]])), 4)
      0.6931

    Source: Bai et al., Regression Compatible Listwise Objectives (arXiv 2211.01494), equation 12.
    """

    def __init__(self, transform: str = "sigmoid", **options: Any) -> None:
        super().__init__(**options)
        if transform not in TRANSFORMS:
            raise ValueError(f"transform must be one of {sorted(TRANSFORMS)}, got {transform!r}")
        self.transform = transform

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        losses, total = cross_entropy(lists, lists.labels, TRANSFORMS[self.transform](lists.logits))
        return self.normalized(losses, total), total > 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "transform": self.transform}


@register
def list_cross_entropy(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `ListCrossEntropyLoss`: the scalar mean. `options` are the constructor's."""
    return functional(ListCrossEntropyLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


@register
class SoftmaxCrossEntropyLoss(Normalized):
    """SoftmaxCE (ListNet's with graded labels): `-(1/C) sum_i y_i log softmax(s)_i`, C = sum y; over lists with C > 0.

    Args:
      normalize: divide by C, as printed; False = the sum, which is TF-Ranking's `SoftmaxLoss`.
      in_batch, grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: labels or grades (B, L), also soft ones; below 0 where padding.
      y_pred: logits (B, L).
      sample_weight: (B, L), of the terms of the outer sum; or (B,).

    Example:
      >>> round(float(SoftmaxCrossEntropyLoss()([[1.0, 0.0]], [[0.0, 0.0]])), 4)
      0.6931

    Source: Bai et al. (arXiv 2211.01494), equation 3.
    """

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        losses, total = cross_entropy(lists, lists.labels, lists.logits)
        return self.normalized(losses, total), total > 0


@register
def softmax_cross_entropy(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any
) -> tf.Tensor:
    """Functional form of `SoftmaxCrossEntropyLoss`: the scalar mean. `options` are the constructor's."""
    return functional(SoftmaxCrossEntropyLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)


def cross_entropy(lists: Lists, target: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`sum_i w_i t_i (logsumexp(s) - s_i)` and `sum t` of every list.

    Targets are >= 0, and 0 where padding.
    """
    total = lists.total(target)
    losses = lists.total(lists.weights * target * (lists.spread(lists.logsumexp(scores)) - scores))
    return losses, total


@register
class JRCLoss(ListwiseLoss):
    """Joint ranking and calibration of two logits f: `alpha L_calib + (1 - alpha) L_rank`, the mean over items.

        L_calib = -log softmax(f_b)[y_b]        L_rank = -log( exp f_b[y_b] / sum_{b' in context of b} exp f_b'[y_b] )

    The probability of a click is `sigmoid(f[1] - f[0])`.

    Args:
      alpha: in [0, 1]; 1 is log loss. Default 0.5, ours; Lin et al. use 0.4 on Criteo.
      in_batch: as of `ListwiseLoss`, but True by default: the context is the batch, or its group with `group_ids`.
      grouped, reduction, name: see `ListwiseLoss`.

    Call arguments:
      y_true: 0 or 1, (B,), below 0 where padding; in rows (B, L).
      y_pred: logits (B, 2); in rows (B, L, 2).
      sample_weight: of the items.

    Raises:
      ValueError: alpha is outside [0, 1], a label is neither 0 nor 1, or y_pred has not two logits.

    Example:
      >>> round(float(JRCLoss(alpha=1.0)([1.0, 0.0], [[0.0, 0.0], [0.0, 0.0]])), 4)
      0.6931

    Source: Sheng et al., Joint Optimization of Ranking and Calibration (arXiv 2208.06164).
    """

    num_logits = 2
    labels_are = "binary"
    units_are = "items"

    def __init__(self, alpha: float = 0.5, in_batch: bool = True, **options: Any) -> None:
        super().__init__(in_batch, **options)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        self.alpha = alpha

    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        negative, positive = tf.unstack(lists.logits, axis=-1)
        clicked = lists.labels > 0
        own = tf.where(clicked, positive, negative)
        others = tf.where(clicked, lists.spread(lists.logsumexp(positive)), lists.spread(lists.logsumexp(negative)))
        calibration = tf.nn.sigmoid_cross_entropy_with_logits(lists.labels, positive - negative)
        losses = self.alpha * calibration + (1 - self.alpha) * (others - own)
        return lists.weights * losses, lists.mask

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


@register
def jrc(y_true: Any, y_pred: Any, *, sample_weight: Any = None, group_ids: Any = None, **options: Any) -> tf.Tensor:
    """Functional form of `JRCLoss`: the scalar mean. `options` are the constructor's."""
    return functional(JRCLoss, y_true, y_pred, sample_weight, options, group_ids=group_ids)
