"""Where a training step's time goes: the parts of XDeepInt's step at setting (b), each in a tf.function of its own.

    python -m benchmarks.profile_step

The parts take turns within a round; medians over the rounds are printed, of wall time and of processor time (all
threads). Parts overlap in a whole step where one does not need another's result, so they add up to more than it takes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from benchmarks import clicks, report
from benchmarks.limit import Limit
from benchmarks.runner import Runner, make_model, make_optimizers
from benchmarks.settings import BATCH, OPTIMIZERS, SETTINGS, SOURCES, Setting
from benchmarks.timing import Timing, median, time_steps
from benchmarks.training_speed import RECORDS
from xdeepint_ext.data.read import SHUFFLE_BUFFER
from xdeepint_ext.optimizers.sparse_gradients import sum_duplicates

STEPS = 4  # in one timing


class Parts:
    """A compiled model on one batch, cut into the parts of its training step."""

    def __init__(self, setting: Setting, optimizers: str, batch: Any) -> None:
        self.features, self.labels = batch
        self.model = make_model(setting)
        self.model.compile(make_optimizers(optimizers))
        self.model.build_from_schema()
        self.variables = self.model.trainable_variables
        self.model.optimizer.build(self.variables)
        self.table = self.model.embedding.table
        self.matrix = self.model.embed(self.features)
        self.logits = self.model.trunk(self.matrix)
        self.gradients = tf.function(self._gradients)()

    def functions(self) -> dict[str, Callable[[], Any]]:
        """Part -> what does it once."""
        parts = {
            "ids and gather, forward": lambda: self.model.embed(self.features),
            "ids and gather, backward": self._embedding_gradient,
            "PIN, forward and backward": self._pin_gradients,
            "head and loss, forward and backward": self._head_gradients,
            "tables: adding up the rows' gradients": lambda: sum_duplicates(self._table_gradient()).values,
            "tables: that and the optimizer": lambda: self._apply([self.table]),
            "kernels: the optimizer": lambda: self._apply([v for v in self.variables if v is not self.table]),
            "whole step, the batch at hand": lambda: self.model.train_step((self.features, self.labels)),
        }
        return {name: tf.function(part) for name, part in parts.items()}

    def _gradients(self) -> list[tf.Tensor | tf.IndexedSlices]:
        with tf.GradientTape() as tape:
            logits = self.model(self.features, training=True)
            loss = self.model.compute_loss(self.features, self.labels, logits)
        return tape.gradient(loss, self.variables)

    def _embedding_gradient(self) -> tf.Tensor:
        with tf.GradientTape() as tape:
            matrix = self.model.embed(self.features)
        return tape.gradient(matrix, self.table, self.matrix).values

    def _pin_gradients(self) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(self.matrix)
            result = self.model.interaction(self.matrix, training=True)
        return tape.gradient(result, [self.matrix, *self.model.pin.kernels], self.matrix)

    def _head_gradients(self) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(self.matrix)
            loss = self.model.compute_loss(self.features, self.labels, self.model.head(self.matrix, training=True))
        weights = [w for head in self.model.heads.values() for w in head.trainable_weights]
        return tape.gradient(loss, [self.matrix, *weights])

    def _table_gradient(self) -> tf.IndexedSlices:
        gradient = self._gradient_of(self.table)
        return tf.IndexedSlices(gradient.values, gradient.indices, tf.constant(self.table.shape.as_list()))

    def _gradient_of(self, variable: tf.Variable) -> Any:
        return next(g for g, v in zip(self.gradients, self.variables, strict=True) if v is variable)

    def _apply(self, variables: list[tf.Variable]) -> tf.Tensor:
        gradients = [self._table_gradient() if v is self.table else self._gradient_of(v) for v in variables]
        return self.model.optimizer.apply_gradients(zip(gradients, variables, strict=True))


Timings = dict[str, Timing]


def measure(parts: Mapping[str, Callable[[], Any]], rounds: int, repeat: int) -> Timings:
    """Part -> median timing of one call; `repeat` calls at a time."""
    timings: dict[str, list[Timing]] = {name: [] for name in parts}
    for _ in range(1 + rounds):
        for name, part in parts.items():
            timings[name].append(time_steps(lambda part=part: [part() for _ in range(repeat)] and None, repeat))
    return {name: median(found[1:]) for name, found in timings.items()}  # the first one traces


def table(title: str, timings: Timings) -> str:
    """Markdown."""
    rows = (f"| {name} | {1e3 * t.wall:.1f} | {1e3 * t.processor:.1f} |" for name, t in timings.items())
    return "\n".join([f"| {title} | wall | processor |", "| --- | ---: | ---: |", *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", default="b", choices=SETTINGS)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    tf.config.set_visible_devices([], "GPU")
    setting = SETTINGS[arguments.setting]
    with tempfile.TemporaryDirectory(prefix="xdeepint-benchmark-") as directory:
        runner = Runner(setting, *clicks.draw(setting, RECORDS), directory)
        batch = next(runner.iterators["memory"])
        print(f"{setting}\n{report.machine()}; TensorFlow {tf.__version__}; batches of {BATCH}; ms a step\n")
        limit = Limit(setting)
        for optimizers in OPTIMIZERS:
            parts = Parts(setting, optimizers, batch)
            touched = int(tf.size(tf.unique(parts.gradients[0].indices)[0]))
            times = measure({"multiply-add limit": limit.products, **parts.functions()}, arguments.rounds, STEPS)
            print(table(f"{optimizers}; {touched:,} rows touched", times))
        inputs = {f"from {source}": lambda s=source: next(runner.iterators[s]) for source in SOURCES}
        print(table("input alone", measure(inputs, arguments.rounds // 4, SHUFFLE_BUFFER // BATCH)))


if __name__ == "__main__":
    main()
