"""Times the streaming metrics: an update with a batch of 4096, and a result, beside Keras's and TF-Ranking's.

    python -m benchmarks.metrics_speed

All run in a tf.function on the CPU and take turns within a round; the table shows medians over the rounds.
"""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext import metrics
from xdeepint_ext.utils.tf_ranking import import_tensorflow_ranking

BATCH, LENGTH, GROUPS, K = 4096, 64, 27_000, 10


class Case:
    """A metric, and the times of its updates and results."""

    def __init__(self, name: str, metric: tf.keras.metrics.Metric, args: tuple[Any, ...]) -> None:
        self.name, self.metric, self.args = name, metric, args
        self.updates: list[float] = []
        self.results: list[float] = []

        @tf.function
        def update(*args: Any) -> None:
            metric.update_state(*args)

        @tf.function
        def result() -> tf.Tensor:
            return metric.result()

        self._update, self._result = update, result
        self._update(*args)
        self._result()

    def turn(self) -> None:
        self.updates.append(milliseconds(lambda: self._update(*self.args)))
        self.results.append(milliseconds(lambda: self._result().numpy()))


def milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def cases(rows: int) -> list[Case]:
    """The metrics; the exact GAUC holds so many rows before the first turn."""
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(size=(BATCH, 1)), tf.float32)
    labels = tf.constant(rng.integers(0, 2, (BATCH, 1)), tf.float32)
    groups = tf.constant(rng.integers(0, GROUPS, BATCH))
    lists = tf.constant(rng.random((BATCH, LENGTH)) < 0.1, tf.float32), tf.random.normal((BATCH, LENGTH))
    exact = metrics.GAUC(capacity=2 * rows)
    for _ in range(rows // BATCH):
        exact.update_state(labels, tf.random.normal((BATCH, 1)), tf.random.uniform((BATCH,), 0, GROUPS, tf.int64))
    binned = metrics.GAUC(mode="binned", num_groups=GROUPS)
    ranking = import_tensorflow_ranking().keras.metrics
    keras = tf.keras.metrics
    return [
        Case("Keras AUC", keras.AUC(from_logits=True), (labels, logits)),
        Case("Keras BinaryCrossentropy", keras.BinaryCrossentropy(from_logits=True), (labels, logits)),
        Case(f"GAUC, exact, {rows:,} rows", exact, (labels, logits, groups)),
        Case(f"GAUC, binned, {GROUPS:,} groups", binned, (labels, logits, groups)),
        Case("LogLossMetric", metrics.LogLossMetric(), (labels, logits)),
        Case("NormalizedCrossEntropy", metrics.NormalizedCrossEntropy(), (labels, logits)),
        Case("ExpectedCalibrationError", metrics.ExpectedCalibrationError(), (labels, logits)),
        Case("TF-Ranking NDCGMetric, lists of 64", ranking.NDCGMetric(topn=K), lists),
        Case("NDCGAtK, lists of 64", metrics.NDCGAtK(K), lists),
        Case("NDCGAtK(legacy=True), lists of 64", metrics.NDCGAtK(K, legacy=True), lists),
        Case("RecallAtK, lists of 64", metrics.RecallAtK(K), lists),
        Case("HitRateAtK, lists of 64", metrics.HitRateAtK(K), lists),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows that the exact GAUC holds")
    arguments = parser.parse_args()
    measured = cases(arguments.rows)
    for _ in range(arguments.rounds):
        for case in measured:
            case.turn()
    print(f"{'batch of 4096':38} {'update, ms':>10} {'result, ms':>10}")
    for case in measured:
        print(f"{case.name:38} {statistics.median(case.updates):10.2f} {statistics.median(case.results):10.2f}")


if __name__ == "__main__":
    main()
