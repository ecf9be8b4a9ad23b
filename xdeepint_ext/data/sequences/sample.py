"""`training_batches`: users, what they took next, what it is compared with; a function of (seed, step)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.epochs import plain_options, steps_per_epoch
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.sequences.read import Sequences
from xdeepint_ext.utils.catalogue import CANDIDATES, CORRECTIONS, NEXT_ITEMS, OWNERS

__all__ = ["DRAWS", "Sampling", "training_batches"]

DRAWS = ("pairs", "users", "windows")
_NEGATIVES, _PLACES = 1, 2  # what a draw is for: of the same seed and step they must differ


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a training batch is drawn.

    Args:
      batch_size: users of a batch, or pairs.
      draw: `pairs`: every item of every user is the target once an epoch, the items before it are the history; `users`:
        the paper's, distinct users and for each one item at random; `windows`: users in turn, and of the last items of
        each all but the first are targets, for models that give a vector at every place of the history.
      first_target: least place, from 0, of a target in its user's items; so many are known before it at least.
        CROLoss's repository: 4.
      negatives: items drawn for a batch, uniformly and with replacement; its targets share them.
      in_batch: the batch's targets are candidates for each other, too.
      correct: subtract ln(N q) of the logits of candidates, q their probability to be drawn: what is popular is a
        candidate more often. Uniform candidates have ln(N / N) = 0.
      whole_catalogue: add ln(N / M) to the logits of all M candidates, so that a sum of their exponentials estimates
        that of all N items, and softmax cross-entropy the one over the catalogue. With `correct` it is what
        TensorFlow's `sampled_softmax_loss` does.
      seed: of all draws.

    Raises:
      ValueError: an argument is out of range, or there is nothing to compare a target with.
    """

    batch_size: int
    draw: str = "pairs"
    first_target: int = 0
    negatives: int = 0
    in_batch: bool = False
    correct: bool = True
    whole_catalogue: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draw not in DRAWS:
            raise ValueError(f"draw must be one of {DRAWS}, got {self.draw!r}")
        for name, least in (("batch_size", 1), ("first_target", 0), ("negatives", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if not self.negatives and not (self.in_batch and self.batch_size > 1):
            raise ValueError(
                f"a target needs something to be compared with: negatives, or in_batch with batch_size > 1; got "
                f"negatives={self.negatives}, in_batch={self.in_batch}, batch_size={self.batch_size}"
            )
        if self.in_batch and self.draw == "windows":
            raise ValueError("in_batch needs draw pairs or users: of windows the number of targets differs")


def training_batches(sequences: Sequences, sampling: Sampling, start_step: int = 0) -> tf.data.Dataset:
    """Batches without end; that of step t depends on (seed, t) alone, so that reading can start anywhere.

    Args:
      sequences: the training part, in memory.
      sampling: how to draw.
      start_step: the first step.

    Returns:
      A dataset of `(features,)`, with the attribute `steps_per_epoch`; an epoch is as many targets as the part has (of
      windows: as many users). Features, int64 but for the corrections:

        the user's id (b, 1) and history (b, max_length), 0 behind its end, as far as the schema has them
        the item (b, 1): the target; of windows instead `next_items` (b, max_length), 0 where there is none
        `candidates` (C,): ids that all targets of the batch are compared with; `candidate_owners` (C,) int32: the row
          whose target it is, -1 for drawn ones; `candidate_corrections` (C,) float32, see `Sampling`

    Raises:
      DataError: no user has enough items, or of `users` fewer than a batch.
      ValueError: the draw needs a history that the schema lacks.

    Example:
      >>> batches = training_batches(sequences, Sampling(256, negatives=2560))  # doctest: +SKIP
    """
    table = _Table(sequences, sampling)
    make = {"pairs": _pairs, "users": _users, "windows": _windows}[sampling.draw]
    rows = make(table, sampling)
    candidates = _candidates(table, sampling)

    @tf.autograph.experimental.do_not_convert
    def batch(step: tf.Tensor) -> tuple[dict[str, tf.Tensor]]:
        features = rows(step)
        return ({**features, **candidates(step, features.get(table.item_name))},)

    dataset = plain_options(tf.data.Dataset.counter(start_step).map(batch).prefetch(4))
    units = table.users if sampling.draw == "windows" else table.targets
    dataset.steps_per_epoch = steps_per_epoch(units, sampling.batch_size)
    return dataset


class _Table:
    """The users who can be drawn, as tensors: those with enough items for a target behind `first_target` others."""

    def __init__(self, sequences: Sequences, sampling: Sampling) -> None:
        self.catalogue = sequences.catalogue
        self.first = max(sampling.first_target, 1) if sampling.draw == "windows" else sampling.first_target
        lengths = np.diff(sequences.item_splits)
        chosen = np.flatnonzero(lengths > self.first)
        if not len(chosen):
            raise DataError(
                f"no user of the training part has more than first_target={self.first} items; the longest history has "
                f"{lengths.max(initial=0)}"
            )
        numbers = lengths[chosen] - self.first
        self.users, self.targets = len(chosen), int(numbers.sum())
        self.ids = tf.constant(sequences.users[chosen])
        self.starts = tf.constant(sequences.item_splits[chosen])
        self.lengths = tf.constant(lengths[chosen])
        self.ends = tf.constant(np.cumsum(numbers))
        self.items = tf.constant(sequences.items)
        self.item_name = self.catalogue.item.name
        self._sequences, self._chosen, self._numbers = sequences, chosen, numbers

    def target_shares(self, by_user: bool) -> np.ndarray:
        """(num_ids,): how likely each item is to be a target; of `by_user` all users are equally likely."""
        splits = self._sequences.item_splits
        weights = np.zeros(len(self._sequences.items))
        each = 1.0 / self._numbers if by_user else np.ones(len(self._chosen))
        places = splits[self._chosen] + self.first
        rows = np.repeat(np.arange(len(self._chosen)), self._numbers)
        offsets = np.arange(len(rows)) - np.repeat(np.cumsum(self._numbers) - self._numbers, self._numbers)
        weights[places[rows] + offsets] = each[rows]
        return np.bincount(self._sequences.items, weights, minlength=self.catalogue.num_ids) / weights.sum()

    def user_features(self, rows: tf.Tensor, places: tf.Tensor) -> dict[str, tf.Tensor]:
        """Id and history of users (b,) before the item at a place (b,) of theirs."""
        found: dict[str, tf.Tensor] = {}
        if self.catalogue.user is not None:
            found[self.catalogue.user.name] = tf.gather(self.ids, rows)[:, tf.newaxis]
        if self.catalogue.history is not None:
            length = self.catalogue.history.length
            begin = tf.maximum(places - length, 0)
            found[self.catalogue.history.name] = self.window(rows, begin, places, length)
        return found

    def window(self, rows: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, length: int) -> tf.Tensor:
        """(b, length) int64: the items begin .. end - 1 of users, 0 behind."""
        places = begin[:, tf.newaxis] + tf.range(length, dtype=tf.int64)
        inside = places < end[:, tf.newaxis]
        flat = tf.where(inside, tf.gather(self.starts, rows)[:, tf.newaxis] + places, 0)
        return tf.where(inside, tf.cast(tf.gather(self.items, flat), tf.int64), 0)

    def target(self, rows: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """(b, 1): the items at places of users."""
        return tf.cast(tf.gather(self.items, tf.gather(self.starts, rows) + places), tf.int64)[:, tf.newaxis]


Rows = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def _pairs(table: _Table, sampling: Sampling) -> Rows:
    def rows(step: tf.Tensor) -> dict[str, tf.Tensor]:
        number = _in_turn(table.targets, sampling, step)
        user = tf.searchsorted(table.ends, number, side="right", out_type=tf.int64)
        # The user's targets end at `ends`, and his items at `lengths`.
        place = number - tf.gather(table.ends, user) + tf.gather(table.lengths, user)
        return {**table.user_features(user, place), table.item_name: table.target(user, place)}

    return rows


def _users(table: _Table, sampling: Sampling) -> Rows:
    size = sampling.batch_size
    if size > table.users:
        raise DataError(f"a batch of {size} distinct users was asked for, but only {table.users} have enough items")

    def rows(step: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.stack([tf.constant(sampling.seed, tf.int64), step])
        user = tf.random.experimental.index_shuffle(tf.range(size, dtype=tf.int64), seed, table.users - 1)
        drawn = tf.random.stateless_uniform([size], _key(sampling, step, _PLACES), dtype=tf.float64)
        length = tf.gather(table.lengths, user)
        place = table.first + tf.cast(tf.floor(drawn * tf.cast(length - table.first, tf.float64)), tf.int64)
        return {**table.user_features(user, place), table.item_name: table.target(user, place)}

    return rows


def _windows(table: _Table, sampling: Sampling) -> Rows:
    history = table.catalogue.history
    if history is None:
        raise ValueError("draw=windows needs a history in the schema")

    def rows(step: tf.Tensor) -> dict[str, tf.Tensor]:
        user = _in_turn(table.users, sampling, step)
        last = tf.gather(table.lengths, user) - 1
        begin = tf.maximum(last - history.length, 0)
        targets = table.window(user, begin + 1, last + 1, history.length)
        places = begin[:, tf.newaxis] + 1 + tf.range(history.length, dtype=tf.int64)
        return {**table.user_features(user, last), NEXT_ITEMS: tf.where(places >= table.first, targets, 0)}

    return rows


def _candidates(table: _Table, sampling: Sampling) -> Callable[[tf.Tensor, tf.Tensor | None], dict[str, tf.Tensor]]:
    catalogue, size = table.catalogue, sampling.batch_size
    owners = np.repeat(np.int32(-1), sampling.negatives)
    if sampling.in_batch:
        owners = np.concatenate([np.arange(size, dtype=np.int32), owners])
    corrections = tf.constant(_corrections(table, sampling), tf.float32)

    def candidates(step: tf.Tensor, targets: tf.Tensor | None) -> dict[str, tf.Tensor]:
        last = catalogue.first + catalogue.size
        key = _key(sampling, step, _NEGATIVES)
        ids = tf.random.stateless_uniform([sampling.negatives], key, catalogue.first, last, tf.int64)
        if sampling.in_batch:
            assert targets is not None
            ids = tf.concat([tf.reshape(targets, [-1]), ids], axis=0)
        return {CANDIDATES: ids, OWNERS: tf.constant(owners), CORRECTIONS: tf.gather(corrections, ids)}

    return candidates


def _corrections(table: _Table, sampling: Sampling) -> np.ndarray:
    """(num_ids,): what is subtracted of the logits of candidates.

    It is ln(N q), q the share that an item has of the candidates on average, and ln(M / N) for the whole catalogue.
    """
    catalogue = table.catalogue
    number = sampling.negatives + (sampling.batch_size if sampling.in_batch else 0)
    logs = np.full(catalogue.num_ids, np.log(number / catalogue.size) if sampling.whole_catalogue else 0.0)
    if sampling.in_batch and sampling.correct:
        uniform = np.zeros(catalogue.num_ids)
        uniform[catalogue.first : catalogue.first + catalogue.size] = 1 / catalogue.size
        counts = np.array([sampling.batch_size, sampling.negatives], float)
        mixed = counts @ np.stack([table.target_shares(sampling.draw == "users"), uniform]) / number
        logs += np.log(np.where(mixed > 0, catalogue.size * mixed, 1.0))
    return logs


def _in_turn(size: int, sampling: Sampling, step: tf.Tensor) -> tf.Tensor:
    """(b,): the next of 0 .. size - 1, each once an epoch, in an order that is drawn anew for each epoch."""
    index = step * sampling.batch_size + tf.range(sampling.batch_size, dtype=tf.int64)
    epoch, place = index // size, index % size
    seed = tf.fill([sampling.batch_size], tf.constant(sampling.seed, tf.int64))
    # index_shuffle is this operation for one seed alone, and a batch may reach into the next epoch.
    seeds = tf.stack([seed, epoch, tf.zeros_like(epoch)], axis=1)
    last = tf.constant(size - 1, tf.int64)
    return tf.raw_ops.RandomIndexShuffle(index=place, seed=seeds, max_index=last, rounds=4)


def _key(sampling: Sampling, step: tf.Tensor, purpose: int) -> tf.Tensor:
    seed = tf.constant([sampling.seed, purpose], tf.int64)
    return tf.random.experimental.stateless_fold_in(seed, step)
