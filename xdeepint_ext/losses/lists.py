"""Lists of items, as rows of a matrix or as segments of a batch: the sums, sorts and pairs that losses are made of."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

import tensorflow as tf

from xdeepint_ext.losses.masks import masked
from xdeepint_ext.losses.pairs import sum_pairs
from xdeepint_ext.utils.graph import in_xla


class Lists(abc.ABC):
    """Items in lists. A loss that is written with these operations works on both kinds.

    Args:
      labels: of the items.
      logits: of the items, with a further axis for losses on several logits.
      mask: which items are there.
      weights: of the items' terms; None = 1.

    Attributes:
      labels, logits, mask, weights: see there; 0 where padding.
      separate: whether items of different lists never meet in `pairs`, so that only padding is to be told apart.
    """

    separate: bool

    def __init__(self, labels: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor | None) -> None:
        self.mask = mask
        self.labels = masked(labels, mask)
        self.logits = masked(logits, mask if logits.shape.rank == mask.shape.rank else mask[..., tf.newaxis])
        self.weights = tf.ones_like(self.labels) if weights is None else masked(weights, mask)

    @abc.abstractmethod
    def spread(self, x: tf.Tensor) -> tf.Tensor:
        """A value of each list -> what broadcasts against its items."""

    @abc.abstractmethod
    def places(self) -> tf.Tensor:
        """1, 2, ... for the items of each list that are there, in the order in which they stand."""

    @abc.abstractmethod
    def sorted(self, x: tf.Tensor) -> tf.Tensor:
        """The items' values in descending order, the r-th where the list's r-th item stands; 0 where padding."""

    @abc.abstractmethod
    def total(self, x: tf.Tensor) -> tf.Tensor:
        """The sum over each list's items of values that are 0 where padding."""

    @abc.abstractmethod
    def _max(self, x: tf.Tensor) -> tf.Tensor:
        """Items -> lists; not below the lowest finite value."""

    @abc.abstractmethod
    def _keys(self) -> tf.Tensor:
        """An int32 >= 0 of each item, that is equal for the items of a list, inside a row of `_as_rows`."""

    @abc.abstractmethod
    def _as_rows(self, x: tf.Tensor) -> tf.Tensor:
        """Items -> a matrix, of whose rows each holds whole lists."""

    def fill(self, x: tf.Tensor, value: float = 0.0) -> tf.Tensor:
        """Items' values, with `value` where padding."""
        return tf.where(self.mask, x, tf.cast(value, x.dtype))

    def sum(self, x: tf.Tensor) -> tf.Tensor:
        """The sum over each list's items; 0 for a list of padding."""
        return self.total(masked(x, self.mask))

    def count(self, which: tf.Tensor) -> tf.Tensor:
        """How many items of each list a boolean chooses."""
        return self.sum(tf.cast(which, self.labels.dtype))

    def logsumexp(self, x: tf.Tensor, which: tf.Tensor | None = None) -> tf.Tensor:
        """`log sum exp` over each list's items, or those that a boolean chooses; the lowest finite value for none."""
        which = self.mask if which is None else tf.logical_and(self.mask, which)
        lowest = tf.constant(x.dtype.min, x.dtype)
        chosen = tf.where(which, x, lowest)
        highest = tf.stop_gradient(self._max(chosen))
        empty = highest <= lowest
        # The exponential of the lowest is 0, as is its gradient; in a list of nothing else no value matters.
        total = self.total(tf.exp(chosen - self.spread(highest)))
        return tf.where(empty, lowest, tf.math.log(tf.where(empty, tf.ones_like(total), total)) + highest)

    def least(self, x: tf.Tensor) -> tf.Tensor:
        """The smallest of each list's values; the highest finite value for a list of padding."""
        return -self._max(self.fill(-x, x.dtype.min))

    def pairs(
        self,
        function: Callable[..., tf.Tensor],
        own: Sequence[tf.Tensor],
        others: Sequence[tf.Tensor],
        only: tf.Tensor | None = None,
        most: int | None = None,
    ) -> tf.Tensor:
        """For each item i: a function of it and of all items j of its list. See `sum_pairs`.

        Args:
          function: (together, *own, *others) -> a reduction over the last axis; `together` is False where i or j is
            padding, or they are of different lists.
          own: item values for i.
          others: item values for j.
          only: a boolean of the items i that matter; the rest is 0, and costs nothing where few matter.
          most: how many of `only` there may be in a row: a static size for XLA, which otherwise takes all items. Where
            there are more, the result is NaN.

        Returns:
          One value an item; 0 where padding.
        """
        keys = self._keys()
        columns = self._as_rows(self.fill(keys, -1))
        chosen = self.mask if only is None else tf.logical_and(self.mask, only)
        rows = self._as_rows(tf.where(chosen, keys, tf.constant(-2, tf.int32)))
        mine, theirs = [self._as_rows(x) for x in own], [self._as_rows(x) for x in others]
        if only is None or (most is None and in_xla()):
            sums = sum_pairs(function, rows, columns, mine, theirs)
        else:
            sums = _of_few(function, rows, columns, mine, theirs, most)
        return tf.where(chosen, tf.reshape(sums, tf.shape(chosen)), tf.zeros((), sums.dtype))


class Rows(Lists):
    """A list is a row: values of the items are (N, L), of the lists (N,)."""

    separate = True

    def spread(self, x: tf.Tensor) -> tf.Tensor:
        return x[:, tf.newaxis]

    def places(self) -> tf.Tensor:
        return tf.cumsum(tf.cast(self.mask, self.labels.dtype), axis=1)

    def sorted(self, x: tf.Tensor) -> tf.Tensor:
        down = tf.sort(self.fill(x, x.dtype.min), axis=1, direction="DESCENDING")
        places = tf.maximum(tf.cumsum(tf.cast(self.mask, tf.int32), axis=1) - 1, 0)
        return self.fill(tf.gather(down, places, batch_dims=1))

    def total(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(x, axis=1)

    def _max(self, x: tf.Tensor) -> tf.Tensor:
        return tf.maximum(tf.reduce_max(x, axis=1), x.dtype.min)

    def _keys(self) -> tf.Tensor:
        return tf.zeros_like(self.mask, tf.int32)

    def _as_rows(self, x: tf.Tensor) -> tf.Tensor:
        return x


class Segments(Lists):
    """The lists are segments of a batch: values of the items are (B,), of the lists (B,), some of which stay empty.

    Args:
      segments: (B,) int32 in [0, B): the list of each item.
    """

    separate = False

    def __init__(
        self, labels: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor, weights: tf.Tensor | None, segments: tf.Tensor
    ) -> None:
        super().__init__(labels, logits, mask, weights)
        self.segments = segments
        self._size = mask.shape[0] or tf.shape(mask)[0]

    def spread(self, x: tf.Tensor) -> tf.Tensor:
        return tf.gather(x, self.segments)

    def places(self) -> tf.Tensor:
        return tf.cast(self._index() + 1, self.labels.dtype)

    def sorted(self, x: tf.Tensor) -> tf.Tensor:
        by_value = tf.argsort(self.fill(x, x.dtype.min), direction="DESCENDING", stable=True)
        by_list = tf.gather(by_value, tf.argsort(tf.gather(self._list_or_last(), by_value), stable=True))
        return self.fill(tf.gather(tf.gather(x, by_list), tf.maximum(self._starts() + self._index(), 0)))

    def total(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(x, self.segments, self._size)

    def _max(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_max(x, self.segments, self._size)

    def _keys(self) -> tf.Tensor:
        return self.segments

    def _as_rows(self, x: tf.Tensor) -> tf.Tensor:
        return x[tf.newaxis]

    def _list_or_last(self) -> tf.Tensor:
        """The list of each item; padding comes behind all lists."""
        return tf.where(self.mask, self.segments, self._size)

    def _starts(self) -> tf.Tensor:
        """Where each item's list starts once the items are sorted by list."""
        sizes = self.total(tf.cast(self.mask, tf.int32))
        return self.spread(tf.cumsum(sizes, exclusive=True))

    def _index(self) -> tf.Tensor:
        """0, 1, ... for the items of each list that are there."""
        order = tf.argsort(self._list_or_last(), stable=True)
        place = tf.scatter_nd(order[:, tf.newaxis], tf.range(self._size), [self._size])
        return self.fill(place - self._starts(), 0)


def segments_of(group_ids: tf.Tensor) -> tf.Tensor:
    """(B,) integers -> (B,) int32 in [0, B), equal where these are equal. By sorting, which XLA can do."""
    order = tf.argsort(group_ids)
    ordered = tf.gather(group_ids, order)
    starts = tf.cast(ordered[1:] != ordered[:-1], tf.int32)
    numbers = tf.concat([tf.zeros_like(ordered[:1], tf.int32), tf.cumsum(starts)], axis=0)
    return tf.scatter_nd(order[:, tf.newaxis], numbers, tf.shape(numbers))


def _of_few(
    function: Callable[..., tf.Tensor],
    rows: tf.Tensor,
    columns: tf.Tensor,
    own: list[tf.Tensor],
    others: list[tf.Tensor],
    most: int | None,
) -> tf.Tensor:
    """`sum_pairs` for the rows whose key is not below 0, put back where they stand."""
    chosen = tf.cast(rows >= 0, tf.int32)
    counts = tf.reduce_sum(chosen, axis=1)
    shape = tf.shape(rows)
    wanted = tf.reduce_max(tf.concat([counts, [1]], axis=0)) if most is None else most
    places = tf.math.top_k(chosen, tf.minimum(wanted, shape[1])).indices
    few = sum_pairs(
        function,
        tf.gather(rows, places, batch_dims=1),
        columns,
        [tf.gather(x, places, batch_dims=1) for x in own],
        others,
    )
    lists = tf.broadcast_to(tf.range(shape[0])[:, tf.newaxis], tf.shape(places))
    sums = tf.scatter_nd(tf.stack([lists, places], axis=-1), few, shape)
    if most is None:
        return sums
    nan = tf.constant(float("nan"), sums.dtype)  # what does not fit must not be left out silently
    return tf.where(counts[:, tf.newaxis] > most, nan, sums)
