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
    ) -> tf.Tensor:
        """For each item i: a function of it and of all items j of its list. See `sum_pairs`.

        Args:
          function: (together, *own, *others) -> a reduction over the last axis; `together` is False where i or j is
            padding, or they are of different lists.
          own: item values for i.
          others: item values for j.
          only: a boolean of the items i that matter; the rest is 0, and costs nothing where few matter.

        Returns:
          One value an item; 0 where padding.
        """
        if only is not None:
            few = Few(self, only)
            return few.put_back(few.pairs(function, own, others, self.mask))
        keys = self._keys()
        rows, columns = (self._as_rows(self.fill(keys, absent)) for absent in (-2, -1))
        sums = sum_pairs(function, rows, columns, [self._as_rows(x) for x in own], [self._as_rows(x) for x in others])
        return tf.where(self.mask, tf.reshape(sums, tf.shape(self.mask)), tf.zeros((), sums.dtype))


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


class Few:
    """Some items of the lists, such as the positives, gathered: P of each row of `Lists._as_rows`.

    Args:
      lists: whose.
      only: a boolean of their items.
      most: P: a static size. None = as many as there are, under XLA, which knows no such sizes, all items. Where there
        are more, `put_back` and `sure` give NaN.

    Attributes:
      there: (N, P), which places hold an item.
    """

    def __init__(self, lists: Lists, only: tf.Tensor, most: int | None = None) -> None:
        self._lists = lists
        self._chosen = tf.logical_and(lists.mask, only)
        chosen = lists._as_rows(self._chosen)
        self._shape = tf.shape(chosen)
        self._places: tf.Tensor | None = None
        self._overfull: tf.Tensor | None = None
        if most is None and in_xla():
            self.there = chosen
            return
        numbers = tf.cast(chosen, tf.int32)
        counts = tf.reduce_sum(numbers, axis=1, keepdims=True)
        length = chosen.shape[1] or self._shape[1]
        if most is None:
            size = tf.minimum(tf.reduce_max(tf.concat([counts[:, 0], [1]], axis=0)), length)
        else:
            size = min(most, length) if isinstance(length, int) else tf.minimum(most, length)
            self._overfull = counts > most
        self._places = tf.math.top_k(numbers, size).indices
        self.there = tf.range(tf.shape(self._places)[1]) < counts

    def gather(self, x: tf.Tensor) -> tf.Tensor:
        """Items -> (N, P)."""
        rows = self._lists._as_rows(x)
        return rows if self._places is None else tf.gather(rows, self._places, batch_dims=1)

    def of_lists(self, x: tf.Tensor) -> tf.Tensor:
        """A value of each list -> what broadcasts against (N, P)."""
        spread = self._lists.spread(x)
        return spread if self._lists.separate else self.gather(spread)

    def sure(self, x: tf.Tensor) -> tf.Tensor:
        """Values in rows, NaN where a row has more of the items than `most`: none must be left out silently."""
        return x if self._overfull is None else tf.where(self._overfull, tf.constant(float("nan"), x.dtype), x)

    def poison(self) -> tf.Tensor:
        """(N, 1): NaN where a label or logit of the row is, which a comparison would pass over in silence; else 0."""
        rows = self._lists._as_rows(self._lists.labels + self._lists.logits)
        total = tf.stop_gradient(tf.reduce_sum(rows, axis=1, keepdims=True))
        return tf.where(tf.math.is_nan(total), total, tf.zeros_like(total))

    def put_back(self, x: tf.Tensor) -> tf.Tensor:
        """(N, P) -> items, 0 where none of the few stands."""
        if self._places is not None:
            rows = tf.broadcast_to(tf.range(self._shape[0])[:, tf.newaxis], tf.shape(self._places))
            x = tf.scatter_nd(tf.stack([rows, self._places], axis=-1), x, self._shape)
        x = self.sure(x)
        return tf.where(self._chosen, tf.reshape(x, tf.shape(self._chosen)), tf.zeros((), x.dtype))

    def pairs(
        self,
        function: Callable[..., tf.Tensor],
        own: Sequence[tf.Tensor],
        others: Sequence[tf.Tensor],
        among: tf.Tensor,
    ) -> tf.Tensor:
        """As `Lists.pairs` for the few i; `together` is False for items j that the boolean `among` leaves out.

        Returns:
          (N, P); where no item is, it means nothing.
        """
        lists = self._lists
        mine, theirs = [self.gather(x) for x in own], [lists._as_rows(x) for x in others]
        among = tf.logical_and(lists.mask, among)
        if lists.separate and mine[0].shape[1] == 1:  # no more pairs than items, and no list to be told apart
            together = among[:, tf.newaxis, :]
            return function(together, *(x[:, :, tf.newaxis] for x in mine), *(x[:, tf.newaxis, :] for x in theirs))
        keys = lists._keys()
        rows = tf.where(self.there, self.gather(keys), tf.constant(-2, tf.int32))
        columns = lists._as_rows(tf.where(among, keys, tf.constant(-1, tf.int32)))
        return sum_pairs(function, rows, columns, mine, theirs)


def segments_of(group_ids: tf.Tensor) -> tf.Tensor:
    """(B,) integers -> (B,) int32 in [0, B), equal where these are equal. By sorting, which XLA can do."""
    order = tf.argsort(group_ids)
    ordered = tf.gather(group_ids, order)
    starts = tf.cast(ordered[1:] != ordered[:-1], tf.int32)
    numbers = tf.concat([tf.zeros_like(ordered[:1], tf.int32), tf.cumsum(starts)], axis=0)
    return tf.scatter_nd(order[:, tf.newaxis], numbers, tf.shape(numbers))
