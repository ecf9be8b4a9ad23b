"""Losses inside groups of similar users at several levels, weighed by learned uncertainties."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from xdeepint_ext.losses.checks import group_ids_like, like, require, weights_like
from xdeepint_ext.losses.lists import Segments
from xdeepint_ext.losses.listwise import TRANSFORMS
from xdeepint_ext.losses.pairwise import pair_losses
from xdeepint_ext.utils.dtypes import at_least_float32, full_precision
from xdeepint_ext.utils.registry import register

LOSSES = {"listce": "sigmoid", "softmaxce": "exp", "pairwise": ""}
"""Name -> the transform of its list cross-entropy, if it is one."""
MOST_PREFIXES_PER_ROW = 16
USUAL_BATCH = 4096
LOWEST_LOG_SIGMA = -3.0


class LevelLosses(NamedTuple):
    """The losses of the levels.

    Attributes:
      losses: (levels,), each the mean over its valid groups; 0 without one.
      groups: (levels,), how many are valid.
      rows: (levels,), how many rows these have together.
    """

    losses: tf.Tensor
    groups: tf.Tensor
    rows: tf.Tensor


@register
class GroupwiseListCrossEntropy(tf.keras.layers.Layer):
    """`sum_l L_l / (2 sigma_l^2) + log sigma_l`, L_l the mean over the groups g of level l of their list loss.

    A group of level l are the rows of the batch whose codes agree up to level l. It is valid with a positive and a
    negative row. For the list cross-entropies

        L(g) = -(1 / C) sum_{i in g} y_i log( T(s_i) / sum_{j in g} T(s_j) ),   C = sum_{i in g} y_i.

    A level without a valid group adds nothing, nor does its sigma move then. It is a layer and not a
    `tf.keras.losses.Loss`, as it owns the sigmas; a model calls it and adds what it returns.

    Args:
      num_levels: of the codes.
      loss: `listce` (T = sigmoid; the paper's), `softmaxce` (T = exp) or `pairwise` (RankNet, the mean over pairs).
      require_negative: whether groups without a negative row are left out, our reading: they would only flatten scores.
        False is the literal formula, for the list cross-entropies.
      codebook_size: K, if known: codes in [0, K). While K^levels is at most 16 rows' worth, code prefixes index the
        groups; otherwise, and for `pairwise`, the rows are sorted.
      include_root: whether the whole batch is a further, first level. The paper: no.
      gather_groups: whether groups span the replicas of a strategy: logits, labels and codes of all are gathered, and
        every replica returns the loss of the global batch. False: groups are the replica's, and smaller.

    Weights:
      log_sigmas: (levels,), 0 at the start; not below -3, our bound, as the loss would fall without one.

    Call arguments:
      logits: (B,) or (B, 1).
      labels: as logits, in [0, 1]; below 0 where missing.
      codes: (B, num_levels) integers.
      sample_weight: None or as logits, of the terms of the outer sum.
      return_levels: whether the levels' losses before they are weighed, groups and rows are returned, too.

    Returns:
      A scalar; with `return_levels` (scalar, `LevelLosses`).

    Raises:
      ValueError: shapes or types do not fit, or an argument is out of range.

    Example:
      >>> loss = GroupwiseListCrossEntropy(num_levels=1)
      >>> value = loss(tf.constant([0.0, 0.0]), tf.constant([1.0, 0.0]), tf.constant([[3], [3]]))
      >>> round(float(value), 4)  # ln(2) / 2
      0.3466

    Source: GroupCE (arXiv 2506.12756), group list loss and total objective.
    """

    def __init__(
        self,
        num_levels: int,
        loss: str = "listce",
        require_negative: bool = True,
        codebook_size: int | None = None,
        include_root: bool = False,
        gather_groups: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**full_precision(kwargs))
        if num_levels < 1:
            raise ValueError(f"num_levels must be > 0, got {num_levels}")
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {sorted(LOSSES)}, got {loss!r}")
        if codebook_size is not None and codebook_size < 1:
            raise ValueError(f"codebook_size must be > 0, got {codebook_size}")
        self.num_levels = num_levels
        self.loss = loss
        self.require_negative = require_negative
        self.codebook_size = codebook_size
        self.include_root = include_root
        self.gather_groups = gather_groups

    def build(self, input_shape: Any) -> None:
        self.log_sigmas = self.add_weight(
            name="log_sigmas",
            shape=(self.num_levels + self.include_root,),
            initializer="zeros",
            constraint=_not_too_low,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        super().build(input_shape)

    def call(
        self,
        logits: Any,
        labels: Any = None,
        codes: Any = None,
        sample_weight: Any = None,
        return_levels: bool = False,
    ) -> Any:
        found = self.level_losses(logits, labels, codes, sample_weight)
        log_sigmas = tf.cast(_not_too_low(self.log_sigmas), found.losses.dtype)
        terms = 0.5 * tf.exp(-2 * log_sigmas) * found.losses + log_sigmas
        counted = tf.logical_or(found.groups > 0, tf.math.is_nan(found.losses))
        value = tf.reduce_sum(tf.where(counted, terms, tf.zeros_like(terms)))
        return (value, found) if return_levels else value

    def level_losses(self, logits: Any, labels: Any, codes: Any, sample_weight: Any = None) -> LevelLosses:
        """The losses of the levels before they are weighed, from the first (or the root) to the deepest."""
        logits, labels, codes, weights = self._checked(logits, labels, codes, sample_weight)
        mask = tf.logical_not(labels < 0)
        spoilt = tf.where(mask & tf.math.is_nan(labels + logits), labels + logits, tf.zeros_like(labels))
        logits, labels, weights = (tf.where(mask, x, tf.zeros_like(x)) for x in (logits, labels, weights))
        if self.loss == "pairwise":
            levels = self._pairwise(logits, labels, mask, weights, codes)
        elif self.codebook_size is not None and self._indexes(self.codebook_size, labels):
            levels = self._indexed(self.codebook_size, logits, labels, mask, weights, codes)
        else:
            levels = self._sorted(logits, labels, mask, weights, codes)
        losses, groups, rows = (tf.stack(parts) for parts in zip(*levels, strict=True))
        return LevelLosses(losses + tf.reduce_sum(spoilt), groups, rows)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_levels": self.num_levels,
            "loss": self.loss,
            "require_negative": self.require_negative,
            "codebook_size": self.codebook_size,
            "include_root": self.include_root,
            "gather_groups": self.gather_groups,
        }

    def _checked(self, logits: Any, labels: Any, codes: Any, weight: Any) -> tuple[tf.Tensor, ...]:
        logits = at_least_float32(logits)
        if logits.shape.rank == 2 and logits.shape[1] == 1:
            logits = tf.squeeze(logits, axis=1)
        if logits.shape.rank != 1:
            raise ValueError(f"{self.name}: logits must be (B,) or (B, 1), got {logits.shape}")
        labels = like(labels, logits, "labels")
        codes = tf.convert_to_tensor(codes)
        if not codes.dtype.is_integer or codes.shape.rank != 2 or codes.shape[1] != self.num_levels:
            raise ValueError(
                f"{self.name}: codes must be integers (B, {self.num_levels}), got {codes.dtype.name} {codes.shape}"
            )
        group_ids_like(codes[:, 0], logits)
        weights = tf.ones_like(logits) if weight is None else weights_like(weight, logits)
        tensors = (logits, labels, codes, weights)
        if self.gather_groups and tf.distribute.get_replica_context() is not None:
            context = tf.distribute.get_replica_context()
            gathered = (context.all_gather(x, axis=0) for x in tensors)
            tensors = tuple(tf.ensure_shape(x, [None, *y.shape[1:]]) for x, y in zip(gathered, tensors, strict=True))
        return tensors

    def _indexes(self, size: int, rows: tf.Tensor) -> bool:
        return size**self.num_levels <= MOST_PREFIXES_PER_ROW * (rows.shape[0] or USUAL_BATCH)

    def _indexed(
        self, size: int, logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor, codes: tf.Tensor
    ) -> list[LevelLosses]:
        """Groups stand at the number that their codes spell; those of a level are sums over those of the next."""
        depth = self.num_levels
        prefix = tf.zeros_like(codes[:, 0], tf.int32)
        for level in range(depth):
            code = tf.cast(codes[:, level], tf.int32)
            inside = tf.reduce_all(tf.logical_and(code >= 0, code < size))
            prefix = prefix * size + require(inside, code, f"{self.name}: codes must be in [0, {size})")
        groups = _Groups.of_rows(self._log_transformed(logits), labels, mask, weights, prefix, size**depth)
        levels = [self._mean(groups)]
        for _ in range(depth - 1 + self.include_root):
            groups = groups.merged(size)
            levels.insert(0, self._mean(groups))
        return levels

    def _sorted(
        self, logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor, codes: tf.Tensor
    ) -> list[LevelLosses]:
        """Groups stand at the number of their first row in the order of their codes; one sort serves all levels."""
        score = self._log_transformed(logits)
        rows = logits.shape[0] or tf.shape(logits)[0]
        levels = []
        for segments in self._segments(codes):
            groups = _Groups.of_rows(score, labels, mask, weights, segments, rows)
            levels.append(self._mean(groups))
        return levels

    def _pairwise(
        self, logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor, codes: tf.Tensor
    ) -> list[LevelLosses]:
        levels = []
        for segments in self._segments(codes):
            groups = Segments(labels, logits, mask, weights, segments)
            found, pairs = pair_losses(groups)
            rows = groups.total(tf.cast(mask, found.dtype))
            levels.append(_mean_of_valid(tf.math.divide_no_nan(found, pairs), pairs > 0, rows))
        return levels

    def _segments(self, codes: tf.Tensor) -> list[tf.Tensor]:
        """For each level (B,) int32 in [0, B), equal where the codes agree up to it."""
        order = _order(codes, self.codebook_size)
        changes = tf.zeros_like(order[1:], tf.bool)
        segments = [tf.zeros_like(order)] if self.include_root else []
        for level in tf.unstack(codes, axis=1):  # columns on their own: slices and sums of a narrow matrix are slow
            ordered = tf.gather(level, order)
            changes = tf.logical_or(changes, ordered[1:] != ordered[:-1])
            numbers = tf.concat([tf.zeros_like(order[:1]), tf.cumsum(tf.cast(changes, tf.int32))], axis=0)
            segments.append(tf.scatter_nd(order[:, tf.newaxis], numbers, tf.shape(order)))
        return segments

    def _log_transformed(self, logits: tf.Tensor) -> tf.Tensor:
        return TRANSFORMS[LOSSES[self.loss]](logits)

    def _mean(self, groups: _Groups) -> LevelLosses:
        valid = groups.labels > 0
        if self.require_negative:
            valid = tf.logical_and(valid, groups.negatives > 0)
        share = tf.math.divide_no_nan(groups.weighted, groups.labels)
        losses = groups.log_sum * share - tf.math.divide_no_nan(groups.weighted_scores, groups.labels)
        return _mean_of_valid(losses, valid, groups.rows)


class _Groups(NamedTuple):
    """Sums over the rows of each group, (groups,).

    Attributes:
      log_sum: log sum exp of the log-transformed scores; the lowest finite value without a row.
      labels: sum of y.
      weighted: sum of w y.
      weighted_scores: sum of w y score.
      negatives: number of rows with y = 0.
      rows: number of rows.
    """

    log_sum: tf.Tensor
    labels: tf.Tensor
    weighted: tf.Tensor
    weighted_scores: tf.Tensor
    negatives: tf.Tensor
    rows: tf.Tensor

    @classmethod
    def of_rows(
        cls,
        score: tf.Tensor,
        labels: tf.Tensor,
        mask: tf.Tensor,
        weights: tf.Tensor,
        segments: tf.Tensor,
        number: Any,
    ) -> _Groups:
        lowest = tf.constant(score.dtype.min, score.dtype)
        highest = tf.math.unsorted_segment_max(tf.stop_gradient(tf.where(mask, score, lowest)), segments, number)
        here = tf.where(mask, score - tf.gather(highest, segments), tf.zeros_like(score))
        there = tf.cast(mask, score.dtype)
        weighted = weights * labels
        negatives = there * tf.cast(labels <= 0, score.dtype)
        columns = [there * tf.exp(here), labels, weighted, weighted * score, negatives, there]
        # Columns on their own: a stack of them and its gradient would be copied element by element.
        total, *others = (tf.math.unsorted_segment_sum(column, segments, number) for column in columns)
        return cls(_log(total, highest), *others)

    def merged(self, size: int) -> _Groups:
        """The groups of the level before: `size` neighbours become one."""
        log_sums = tf.reshape(self.log_sum, (-1, size))
        highest = tf.stop_gradient(tf.reduce_max(log_sums, axis=1))
        total = tf.reduce_sum(tf.exp(log_sums - highest[:, tf.newaxis]), axis=1)
        total = tf.where(highest > log_sums.dtype.min, total, tf.zeros_like(total))
        others = (tf.reduce_sum(tf.reshape(x, (-1, size)), axis=1) for x in self[1:])
        return _Groups(_log(total, highest), *others)


def _mean_of_valid(losses: tf.Tensor, valid: tf.Tensor, rows: tf.Tensor) -> LevelLosses:
    """A level of which these are the groups' losses and rows."""
    count = tf.reduce_sum(tf.cast(valid, losses.dtype))
    total, rows = (tf.reduce_sum(tf.where(valid, x, tf.zeros_like(x))) for x in (losses, rows))
    return LevelLosses(tf.math.divide_no_nan(total, count), count, rows)


def _log(total: tf.Tensor, highest: tf.Tensor) -> tf.Tensor:
    """`log(total) + highest`, the lowest finite value for an empty sum."""
    empty = total <= 0
    logs = tf.math.log(tf.where(empty, tf.ones_like(total), total)) + highest
    return tf.where(empty, tf.constant(total.dtype.min, total.dtype), logs)


def _order(codes: tf.Tensor, size: int | None) -> tf.Tensor:
    """The rows in the order of their codes, the first level first."""
    columns = tf.unstack(codes, axis=1)
    if size is not None and size ** len(columns) < 2**63:
        key = tf.zeros_like(columns[0], tf.int64)
        for column in columns:
            key = key * size + tf.cast(column, tf.int64)
        return tf.argsort(key)
    order = tf.argsort(columns.pop())
    while columns:
        order = tf.gather(order, tf.argsort(tf.gather(columns.pop(), order), stable=True))
    return order


def _not_too_low(log_sigmas: tf.Tensor) -> tf.Tensor:
    return tf.maximum(log_sigmas, LOWEST_LOG_SIGMA)
