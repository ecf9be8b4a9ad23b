"""Runs of training steps: XDeepInt as its users train it, fed from memory and from records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import clicks
from benchmarks.settings import BATCH, NUM_LAYERS, OPTIMIZERS, SOURCES, TIMED_CALLS, Setting
from benchmarks.timing import Timing, time_steps
from xdeepint_ext.data import read
from xdeepint_ext.data.materialize import materialize
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.optimizers import paper_optimizers


class Runner:
    """One setting: its data in a directory, a model for each optimizer, one endless iterator for each source.

    Args:
      setting: the sizes.
      ranks, labels: of `clicks.draw`.
      directory: where the records go.
    """

    def __init__(self, setting: Setting, ranks: np.ndarray, labels: np.ndarray, directory: str) -> None:
        self.setting = setting
        self.raw, self.packed = os.path.join(directory, "raw"), os.path.join(directory, "materialised")
        os.makedirs(self.raw)
        clicks.write_raw(setting, ranks, labels, self.raw)
        materialize(self.raw, self.packed)
        self.iterators = {source: iter(self.dataset(source)) for source in SOURCES}
        self._train = {optimizers: self._train_function(optimizers) for optimizers in OPTIMIZERS}

    def dataset(self, source: str) -> tf.data.Dataset:
        """Endless shuffled batches from memory, from materialised or from raw records."""
        directory = self.raw if source == "raw" else self.packed
        return read(directory, "train", BATCH, shuffle=True, epochs=None, cache=source == "memory")

    def run(self, optimizers: str, source: str) -> Timing:
        """One run."""
        train, iterator = self._train[optimizers], self.iterators[source]
        train(iterator)
        return time_steps(lambda: [train(iterator) for _ in range(TIMED_CALLS)][-1]["loss"].numpy(), self.setting.steps)

    def _train_function(self, optimizers: str) -> Callable[[Iterator[Any]], dict[str, tf.Tensor]]:
        """What `fit` calls: a tf.function that takes the next batches off an iterator and makes a step with each."""
        model = make_model(self.setting)
        steps_per_execution = self.setting.steps // TIMED_CALLS
        model.compile(make_optimizers(optimizers), steps_per_execution=steps_per_execution)
        return model.make_train_function()


def make_model(setting: Setting) -> XDeepInt:
    """The setting's XDeepInt, not compiled."""
    return XDeepInt(
        clicks.make_schema(setting), width=setting.width, num_layers=NUM_LAYERS, num_subspaces=setting.num_subspaces
    )


def make_optimizers(optimizers: str) -> Any:
    """The argument of `compile` for one of `OPTIMIZERS`; None is the models' default."""
    return paper_optimizers(BATCH) if optimizers == OPTIMIZERS[0] else None
