"""What a `GroupRanker` reports about its groups and its auxiliary loss while it trains."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import tensorflow as tf

from xdeepint_ext.losses.groupwise import LevelLosses

ALL_TASKS = ""
"""In the place of a task's name, for what belongs to none of them."""


class GroupMetrics:
    """Means over the steps; with several tasks each task's name stands before its metrics'.

    Args:
      tasks: all of them.
      levels: numbers of the levels, 0 being the whole batch.
      of_groups: the tasks that have group losses.
      of_auxiliary: the tasks that have auxiliary losses, or `ALL_TASKS`.

    Attributes:
      group_loss: task -> mean over the levels that have valid groups.
      group_size: task -> for each level the mean number of rows of a valid group.
      auxiliary_loss: task -> its mean.
    """

    def __init__(
        self, tasks: Sequence[str], levels: Sequence[int], of_groups: Collection[str], of_auxiliary: Collection[str]
    ) -> None:
        def mean(task: str, name: str) -> tf.keras.metrics.Metric:
            return tf.keras.metrics.Mean(f"{task}_{name}" if task and len(tasks) > 1 else name)

        self.group_loss = {task: mean(task, "group_loss") for task in of_groups}
        self.group_size = {task: [mean(task, f"group_size_{level}") for level in levels] for task in of_groups}
        self.auxiliary_loss = {task: mean(task, "auxiliary_loss") for task in of_auxiliary}

    @property
    def all(self) -> list[tf.keras.metrics.Metric]:
        """Every metric."""
        sizes = [metric for metrics in self.group_size.values() for metric in metrics]
        return [*self.auxiliary_loss.values(), *self.group_loss.values(), *sizes]

    def update_groups(self, task: str, levels: LevelLosses) -> None:
        """Adds a step's levels; one without a valid group does not count."""
        there = tf.cast(levels.groups > 0, levels.losses.dtype)
        self.group_loss[task].update_state(levels.losses, sample_weight=there)
        sizes = tf.unstack(tf.math.divide_no_nan(levels.rows, levels.groups))
        for metric, size, weight in zip(self.group_size[task], sizes, tf.unstack(there), strict=True):
            metric.update_state(size, sample_weight=weight)
