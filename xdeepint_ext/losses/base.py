"""The bases of the losses: the one place that owns dict labels, masks, weights, lists and the mean's denominator."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from xdeepint_ext.losses.checks import as_dense, group_ids_like, like, require, weights_like
from xdeepint_ext.losses.lists import Lists, Rows, Segments, segments_of
from xdeepint_ext.losses.masks import masked, masked_sum
from xdeepint_ext.utils.dtypes import at_least_float32

MEAN_REDUCTIONS = ("auto", "sum_over_batch_size")


class Part(NamedTuple):
    """A term of an objective: `weight * total / count`, where the count is that of the global batch.

    Attributes:
      weight: a number.
      total: sum of the valid units' losses.
      count: how many these are.
    """

    weight: float
    total: tf.Tensor
    count: tf.Tensor


class RankingLoss(tf.keras.losses.Loss):
    """Base of the losses: a subclass gives the loss of every unit (an example, or a list) and which units are valid.

    `y_true` may be a dict {"label": ..., side input: ...}. A label below 0 is padding or missing: it adds nothing to
    the sum or to the mean's denominator. The mean divides by the number of valid units, not by the sum of the weights,
    as Keras does; with no valid unit it is 0. Half-precision input is computed in float32.

    Args:
      reduction: a `tf.keras.losses.Reduction`; "none" returns the units' losses, 0 where invalid.
      name: of the loss; by default the class's in snake case, without `Loss`.

    Subclasses override:
      side_inputs: names of the side inputs that the loss needs, which `RankingModel` takes from the features.
      weighted_units: (y_true, y_pred, sample_weight) -> (losses, valid), of one shape; or, for losses of one example at
        a time, `units`: (labels, logits, side inputs) -> (losses, valid), of the shape of y_pred.
    """

    side_inputs: tuple[str, ...] = ()
    target = "label"
    """The key of `y_true` that stands for it where it is no dict."""

    def __init__(self, reduction: str = "auto", name: str | None = None) -> None:
        super().__init__(reduction=reduction, name=name or _snake_case(type(self).__name__.removesuffix("Loss")))

    def units(self, labels: tf.Tensor, logits: tf.Tensor, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of every example and whether it is valid."""
        raise NotImplementedError

    def weighted_units(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The weighted loss of every unit and whether it is valid."""
        side = self.sides(y_true)
        logits = at_least_float32(y_pred)
        losses, valid = self.units(like(side.pop("label"), logits, "y_true"), logits, side)
        if sample_weight is not None:
            losses *= weights_like(sample_weight, losses)
        return losses, valid

    def parts(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Part]:
        """The loss as terms whose sums and counts may be added over replicas before they are divided."""
        losses, valid = self.summands(y_true, y_pred, sample_weight)
        return [Part(1.0, masked_sum(losses, valid), tf.reduce_sum(tf.cast(valid, losses.dtype)))]

    def summands(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """What the mean is over: the units, or, in any shape, those that can be valid."""
        return self.weighted_units(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """The losses of the units, 0 where invalid."""
        losses, valid = self.weighted_units(y_true, y_pred, None)
        return masked(losses, valid)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        with tf.name_scope(self.name or "loss"):
            if self.reduction == "none":
                losses, valid = self.weighted_units(y_true, y_pred, sample_weight)
                return masked(losses, valid)
            parts = self.parts(y_true, y_pred, sample_weight)
            if self.reduction == "sum":
                return tf.add_n([part.weight * part.total for part in parts])
            return tf.add_n([part.weight * tf.math.divide_no_nan(part.total, part.count) for part in parts])

    def sides(self, y_true: Any) -> dict[str, Any]:
        """`y_true` as a dict, once it is sure that nothing is lacking."""
        side = dict(y_true) if isinstance(y_true, Mapping) else {self.target: y_true}
        missing = [name for name in dict.fromkeys((self.target, *self.side_inputs)) if name not in side]
        if missing:
            raise ValueError(f"{self.name}: y_true lacks {missing}; got {sorted(side)}")
        return side


class LossLayer(tf.keras.layers.Layer, abc.ABC):
    """Base of the losses that own learned scalars, which Keras trains and saves in a layer, not in a `Loss`.

    `RankingModel.compile` takes one as it takes a loss; the scalars are then weights of the model.

    Args:
      **kwargs: of a Keras layer.

    Call arguments:
      logits, labels, sample_weight: see the subclass.

    Returns:
      A scalar.

    Subclasses override:
      side_inputs: see `RankingLoss`.
      parts: the loss of (y_true, y_pred, sample_weight) as terms, see `RankingLoss.parts`.
      build: makes the scalars, whatever the input's shape.
    """

    side_inputs: tuple[str, ...] = ()

    @abc.abstractmethod
    def parts(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Part]:
        """Terms whose sums and counts may be added over replicas before they are divided."""

    def call(self, logits: Any, labels: Any, sample_weight: Any = None) -> tf.Tensor:
        parts = self.parts(labels, logits, sample_weight)
        return tf.add_n([part.weight * tf.math.divide_no_nan(part.total, part.count) for part in parts])


class ListwiseLoss(RankingLoss, abc.ABC):
    """Base of the losses on lists: rows of (B, L), or with `in_batch` the whole batch, or its groups.

    A weight multiplies an item's term in the list's sum; the terms of others, with which the item competes, stay as
    they are. A weight of shape (B,) on rows is that of all items of a row.

    Args:
      in_batch: y_true and y_pred are (B,) or (B, 1), and the batch is one list; with the side input `group_ids`, (B,)
        integers, every group is a list.
      grouped: as `in_batch`, and `group_ids` must be there: `RankingModel` passes the schema's feature of role `group`.
      reduction: a `tf.keras.losses.Reduction`; "none" returns the lists' losses.
      name: of the loss.

    Call arguments:
      y_true: labels (B, L), below 0 where padding; or a dict with them as "label", and side inputs. Dense or ragged.
      y_pred: logits (B, L).
      sample_weight: (B, L) or (B,), >= 0.

    Subclasses override:
      list_losses: `Lists` and side inputs -> (losses, valid), of the lists or of the items.
      num_logits: how many logits an item has; 2 adds an axis to y_pred.
      labels_are: "binary" where other labels are an error.
      units_are: "items" where `list_losses` gives a loss for each of them, and the mean is over items.
    """

    num_logits = 1
    labels_are = "grades"
    units_are = "lists"

    def __init__(self, in_batch: bool = False, grouped: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.in_batch = in_batch or grouped
        self.grouped = grouped
        if grouped:
            self.side_inputs = (*self.side_inputs, "group_ids")

    @abc.abstractmethod
    def list_losses(self, lists: Lists, side: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The weighted losses of the lists, or of the items, and which of them count."""

    def weighted_units(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[tf.Tensor, tf.Tensor]:
        lists, side = self._lists(self.sides(y_true), y_pred, sample_weight)
        losses, valid = self.list_losses(lists, side)
        of_items = self.units_are == "items"
        if losses.shape.rank not in (lists.mask.shape.rank if of_items else 1, None):
            raise ValueError(f"{self.name}: units_are is {self.units_are!r}, but list_losses gave shape {losses.shape}")
        # A comparison with NaN is false: a loss on pairs would pass over it in silence.
        scores = lists.logits if self.num_logits == 1 else tf.reduce_sum(lists.logits, axis=-1)
        poison = tf.stop_gradient(lists.labels + scores)
        poison = poison if of_items else lists.total(poison)
        poison = tf.where(tf.math.is_nan(poison), poison, tf.zeros_like(poison))
        return losses + poison, tf.logical_or(valid, tf.math.is_nan(poison))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "in_batch": self.in_batch, "grouped": self.grouped}

    def padding(self, side: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        """(target, mask) of the items, of the shape of the logits."""
        labels = side[self.target]
        return labels, tf.logical_not(labels < 0)

    def _lists(self, side: dict[str, Any], y_pred: Any, weight: Any) -> tuple[Lists, dict[str, tf.Tensor]]:
        groups = side.pop("group_ids", None)
        if groups is not None and not self.in_batch:
            raise ValueError(f"{self.name}: group_ids need in_batch=True or grouped=True")
        logits, side, weight = as_dense(y_pred, side, weight, self.target)
        logits = self._shaped(at_least_float32(logits))
        items = logits if self.num_logits == 1 else logits[..., 0]
        side = {name: like(x, items, name, cast=not _is_integer(x) or name == self.target) for name, x in side.items()}
        labels, mask = self.padding(side)
        if self.labels_are == "binary":
            ok = tf.logical_not(tf.reduce_any(tf.logical_and(labels > 0, labels != 1)))
            labels = require(ok, labels, f"{self.name}: labels must be 0 or 1, or below 0 where padding")
        weight = None if weight is None else weights_like(weight, items)
        if groups is not None:
            segments = segments_of(group_ids_like(groups, items))
            return Segments(labels, logits, mask, weight, segments), side
        if self.in_batch:
            labels, logits, mask = labels[tf.newaxis], logits[tf.newaxis], mask[tf.newaxis]
            weight = None if weight is None else weight[tf.newaxis]
            side = {name: x[tf.newaxis] for name, x in side.items()}
        return Rows(labels, logits, mask, weight), side

    def _shaped(self, logits: tf.Tensor) -> tf.Tensor:
        """The logits as (B,) or (B, L), with a further axis where an item has several."""
        several = self.num_logits > 1
        if several and logits.shape.rank and logits.shape[-1] != self.num_logits:
            raise ValueError(
                f"{self.name}: y_pred must have {self.num_logits} logits an item, got shape {logits.shape}"
            )
        rank = logits.shape.rank - several
        if self.in_batch:
            if rank == 2 and logits.shape[1] == 1:
                return tf.squeeze(logits, axis=1)
            if rank != 1:
                raise ValueError(f"{self.name}: with in_batch y_pred must be (B,) or (B, 1), got {logits.shape}")
        elif rank != 2:
            raise ValueError(
                f"{self.name}: y_pred must be (B, L), a list a row, got {logits.shape}; "
                "in_batch=True makes a batch (B,) one list"
            )
        return logits


class Normalized(ListwiseLoss):
    """A part of losses that divide a list's (or an item's) sum by how many terms it has.

    Args:
      normalize: whether they do.
      *args, **options: of the other bases.
    """

    def __init__(self, normalize: bool = True, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.normalize = normalize

    def normalized(self, losses: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """The losses over the number, or as they are."""
        return tf.math.divide_no_nan(losses, number) if self.normalize else losses

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "normalize": self.normalize}


def functional(
    loss: type[RankingLoss], y_true: Any, y_pred: Any, sample_weight: Any, options: Mapping[str, Any], **side: Any
) -> tf.Tensor:
    """The scalar of a loss made from options, with the side inputs that are not None.

    `group_ids` make the batch's groups the lists, as there is nothing else that they could mean.
    """
    given = {name: x for name, x in side.items() if x is not None}
    if "group_ids" in given and issubclass(loss, ListwiseLoss):
        options = {"in_batch": True, **options}
    made = loss(**options)
    target = dict(y_true) if isinstance(y_true, Mapping) else {made.target: y_true}
    return made({**target, **given}, y_pred, sample_weight)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip("_")).lower()


def _is_integer(x: Any) -> bool:
    return tf.convert_to_tensor(x).dtype.is_integer
