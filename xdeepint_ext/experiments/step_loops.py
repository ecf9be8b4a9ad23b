"""How training steps are made: on this process's devices, on those of all workers, or by a coordinator's workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from xdeepint_ext.models import RankingModel

__all__ = ["CoordinatorLoop", "LocalLoop", "Loop", "TrainingData", "explainer", "make_steps"]


class TrainingData(Protocol):
    """What a loop asks of a run's records, such as `Inputs`."""

    def train(self, start_step: int, worker: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """Training batches from a step on, of a worker his part."""


class Loop(Protocol):
    """Makes training steps."""

    def start(self, inputs: TrainingData, step: int) -> None:
        """Begins to read behind `step` steps."""

    def run(self, count: int) -> None:
        """Makes so many steps."""

    def explain(self, error: Exception) -> Exception:
        """The error to raise in the place of one that came out of `run`: of a damaged record, one that names it."""


class LocalLoop:
    """A graph of several steps on one device, or of a step on replicas; of several workers all must call it alike.

    Args:
      model: built and compiled.
      strategy: where it lives.
    """

    def __init__(self, model: RankingModel, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self._steps = make_steps(model, strategy)
        self._iterator: Any = None

    def start(self, inputs: TrainingData, step: int) -> None:
        if self._strategy.num_replicas_in_sync == 1:
            dataset = inputs.train(step)
            self.explain = explainer(dataset)
            self._iterator = iter(dataset)
            return

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            dataset = inputs.train(step, context)
            self.explain = explainer(dataset)
            # Where it could end, the workers would ask each other before every step whether it has.
            return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        self._iterator = iter(self._strategy.distribute_datasets_from_function(of_worker))

    def run(self, count: int) -> None:
        # Inside of one call a collective's shape may not change, as it does where a batch has another size.
        calls, steps = (1, count) if self._strategy.num_replicas_in_sync == 1 else (count, 1)
        for _ in range(calls):
            self._steps(self._iterator, tf.constant(steps, tf.int64))


class CoordinatorLoop:
    """A coordinator that reads, and hands each batch to the next worker of its parameter servers that is free.

    A batch whose worker is lost goes to another one; what it had added to the weights by then stays.

    Args:
      model: built and compiled.
      strategy: a `ParameterServerStrategy`, where it lives.
      coordinator: of its workers.
    """

    def __init__(
        self,
        model: RankingModel,
        strategy: tf.distribute.Strategy,
        coordinator: tf.distribute.experimental.coordinator.ClusterCoordinator,
    ) -> None:
        @tf.function(reduce_retracing=True)
        def step(batch: Any) -> None:
            strategy.run(model.train_step, args=(batch,))

        self._step, self._coordinator = step, coordinator
        self._iterator: Any = None

    def start(self, inputs: TrainingData, step: int) -> None:
        dataset = inputs.train(step)
        self.explain = explainer(dataset)
        self._iterator = iter(dataset)

    def run(self, count: int) -> None:
        for _ in range(count):
            self._coordinator.schedule(self._step, args=(next(self._iterator),))
        self._coordinator.join()


def make_steps(
    model: RankingModel, strategy: tf.distribute.Strategy, options: tf.distribute.RunOptions | None = None
) -> Callable[[Any, tf.Tensor], None]:
    """A graph of several training steps.

    Args:
      model: built and compiled.
      strategy: where it lives.
      options: of `strategy.run`.

    Returns:
      (iterator, count) -> None.
    """

    @tf.function
    def steps(iterator: Any, count: tf.Tensor) -> None:
        for _ in tf.range(count):
            strategy.run(model.train_step, args=(next(iterator),), options=options)

    return steps


def explainer(dataset: tf.data.Dataset) -> Callable[[Exception], Exception]:
    """A loop's `explain` for a dataset."""
    return getattr(dataset, "explain", lambda error: error)
