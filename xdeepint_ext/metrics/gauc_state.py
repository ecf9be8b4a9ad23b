"""What a streaming GAUC remembers: all rows, or a histogram of each group's scores."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from xdeepint_ext.metrics.streaming import StreamingMetric, require


class Batch(NamedTuple):
    """Rows on their way into the state, each (B,).

    Attributes:
      groups: int64.
      scores: float32.
      weights: float32, positive for a positive row, negative for a negative row, 0 for an absent one; NaN where the
        label is NaN.
    """

    groups: tf.Tensor
    scores: tf.Tensor
    weights: tf.Tensor


class Groups(NamedTuple):
    """What is known of each group, each (groups,) and float64.

    Attributes:
      positives: weight of its positive rows.
      negatives: weight of its negative rows.
      wins: weight of the pairs (positive, negative) whose positive scores higher, a tie counting one half.
      ties: weight of the pairs whose order is not known.
      undefined: scalar, whether a NaN was among the rows.
    """

    positives: tf.Tensor
    negatives: tf.Tensor
    wins: tf.Tensor
    ties: tf.Tensor
    undefined: tf.Tensor


class State:
    """Base: which replica's copy of a variable an update writes to.

    A variable that is summed over replicas when it is read offers `assign_add` of its whole size alone; an update here
    touches a batch's rows, so that it goes to the replica's own copy.

    Args:
      metric: to which the variables belong.
    """

    def __init__(self, metric: StreamingMetric) -> None:
        self.metric = metric
        self.strategy = tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync

    def replica(self) -> int:
        """Which replica is running; 0 outside of any, where the sum is right as well."""
        context = tf.distribute.get_replica_context()
        if context is None:
            return 0
        replica = int(tf.get_static_value(tf.convert_to_tensor(context.replica_id_in_sync_group)))
        if replica >= self.replicas:
            raise ValueError(
                f"{self.metric.name}: it was made for {self.replicas} replica and is updated by replica {replica}; "
                "make it under strategy.scope()"
            )
        return replica

    def own(self, variable: tf.Variable) -> tf.Variable:
        """The running replica's copy."""
        copies = self.strategy.experimental_local_results(variable)
        return copies[self.replica() % len(copies)]


class AllRows(State):
    """Every row, 16 bytes each: a block of the variables a replica, zeros elsewhere, so that their sum holds all rows.

    Args:
      metric: to which the variables belong.
      capacity: rows in all; a replica's block has `ceil(capacity / replicas)`.
    """

    def __init__(self, metric: StreamingMetric, capacity: int) -> None:
        super().__init__(metric)
        kinds = tf.distribute.experimental.ParameterServerStrategy, tf.distribute.ParameterServerStrategy
        if isinstance(self.strategy, kinds):
            raise ValueError(
                f"{metric.name}: mode='exact' cannot be updated by several workers at once, as those of a "
                "ParameterServerStrategy are; use mode='binned'"
            )
        self.capacity = capacity
        self.block = -(-capacity // self.replicas)
        # One place more than rows: absent rows are written there, which keeps shapes static.
        shape = (self.replicas, self.block + 1)
        self.groups = metric.add_sums("groups", shape, "int64")
        self.scores = metric.add_sums("scores", shape, "float32")
        self.weights = metric.add_sums("signed_weights", shape, "float32")
        self.counts = metric.add_sums("counts", (self.replicas,), "int64")

    def add(self, batch: Batch) -> None:
        """Appends the rows that are not absent."""
        replica, counts = self.replica(), self.own(self.counts)
        kept = tf.cast(tf.not_equal(batch.weights, 0), tf.int64)
        count = counts.read_value()[replica]
        new = tf.reduce_sum(kept)
        new = require(count + new <= self.block, self._full(), tf.stack([count, new]), new)
        with tf.control_dependencies([new]):
            places = tf.where(kept > 0, count + tf.cumsum(kept) - 1, tf.constant(self.block, tf.int64))
        index = tf.stack([tf.fill(tf.shape(places), tf.constant(replica, tf.int64)), places], axis=1)
        for variable, values in zip((self.groups, self.scores, self.weights), batch, strict=True):
            self.own(variable).scatter_nd_update(index, values)
        counts.scatter_nd_add([[replica]], [new])

    def rows(self) -> Batch:
        """All rows of all replicas."""
        counts = tf.convert_to_tensor(self.counts)
        used = require(tf.reduce_all(counts <= self.block), self._full(), counts, tf.reduce_max(counts))
        there = tf.range(used) < counts[:, tf.newaxis]
        return Batch(
            *(
                tf.boolean_mask(tf.convert_to_tensor(x)[:, :used], there)
                for x in (self.groups, self.scores, self.weights)
            )
        )

    def summary(self) -> Groups:
        """Sorts all rows by group and score; costs O(rows log rows)."""
        groups, scores, signed = self.rows()
        undefined = tf.reduce_any(tf.math.is_nan(scores + signed))
        _, index = tf.unique(groups, tf.int64)
        number = tf.cast(tf.reduce_max(tf.concat([index, [-1]], 0)), tf.int64) + 1
        # Group and score as one integer: the bits of a positive float ascend with it, those of a negative one descend.
        bits = tf.bitcast(scores + 0.0, tf.int32)  # + 0.0, as -0.0 equals 0.0
        bits = tf.cast(tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, 0x7FFFFFFF), bits), tf.int64)
        keys = tf.bitwise.left_shift(index, tf.constant(32, tf.int64)) + bits + 2**31
        order = tf.argsort(keys)
        keys, signed = tf.gather(keys, order), tf.cast(tf.gather(signed, order), tf.float64)
        starts = tf.concat([tf.ones_like(keys[:1]), tf.cast(keys[1:] != keys[:-1], tf.int64)], axis=0)
        tie = tf.cumsum(starts) - 1
        positives, negatives = (tf.math.segment_sum(tf.nn.relu(x), tie) for x in (signed, -signed))
        group = tf.bitwise.right_shift(tf.boolean_mask(keys, starts > 0), tf.constant(32, tf.int64))

        def by_group(values: tf.Tensor) -> tf.Tensor:
            return tf.math.unsorted_segment_sum(values, group, number)

        all_negatives = by_group(negatives)
        below = tf.cumsum(negatives, exclusive=True) - tf.gather(tf.cumsum(all_negatives, exclusive=True), group)
        wins = by_group(positives * (below + negatives / 2))
        return Groups(by_group(positives), all_negatives, wins, tf.zeros_like(wins), undefined)

    def _full(self) -> str:
        return (
            f"{self.metric.name}: more rows than capacity={self.capacity}, {self.block} on each of {self.replicas} "
            "replicas; raise it, or reset_state earlier; rows before this batch, and in it:"
        )


class Histograms(State):
    """For each group how much positive and negative weight each bin of scores holds: 16 bytes a group and bin.

    Args:
      metric: to which the variables belong.
      num_groups: groups are 0 .. num_groups - 1.
      bins: how many.
      score_range: (low, high); bins have equal width between, the outer ones hold what is beyond.
    """

    def __init__(self, metric: StreamingMetric, num_groups: int, bins: int, score_range: tuple[float, float]) -> None:
        super().__init__(metric)
        self.num_groups, self.bins, self.score_range = num_groups, bins, score_range
        self.sums = metric.add_sums("histograms", (2, num_groups, bins))
        self.nans = metric.add_sums("nans", (1,))

    def add(self, batch: Batch) -> None:
        """Adds the rows to their groups' histograms."""
        kept = tf.not_equal(batch.weights, 0)
        known = tf.logical_and(batch.groups >= 0, batch.groups < self.num_groups)
        groups = require(
            tf.logical_or(known, tf.logical_not(kept)),
            f"{self.metric.name}: with mode='binned' group_ids must be in [0, num_groups={self.num_groups}), got",
            batch.groups,
            tf.where(kept, batch.groups, tf.zeros_like(batch.groups)),
        )
        nan = tf.math.is_nan(batch.scores + batch.weights)
        scores, weights = (tf.where(nan, tf.zeros_like(x), x) for x in batch[1:])
        low, high = self.score_range
        bins = tf.clip_by_value(tf.floor((scores - low) * (self.bins / (high - low))), 0, self.bins - 1)
        negative = tf.cast(weights < 0, tf.int64)
        index = tf.stack([negative, groups, tf.cast(bins, tf.int64)], axis=1)
        self.own(self.sums).scatter_nd_add(index, tf.cast(tf.abs(weights), tf.float64))
        self.own(self.nans).scatter_nd_add([[0]], [tf.reduce_sum(tf.cast(nan, tf.float64))])

    def summary(self) -> Groups:
        """Costs O(num_groups bins)."""
        positives, negatives = tf.unstack(tf.convert_to_tensor(self.sums))
        ties = tf.reduce_sum(positives * negatives, axis=1)
        below = tf.cumsum(negatives, axis=1, exclusive=True)
        wins = tf.reduce_sum(positives * below, axis=1) + ties / 2
        positives, negatives = (tf.reduce_sum(x, axis=1) for x in (positives, negatives))
        return Groups(positives, negatives, wins, ties, tf.convert_to_tensor(self.nans)[0] > 0)
