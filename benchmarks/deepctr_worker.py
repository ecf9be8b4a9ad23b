"""DeepCTR's models, trained on request; runs in an environment of its own, where xdeepint_ext is not installed.

    python -m benchmarks.deepctr_worker DIRECTORY DESCRIPTOR

DIRECTORY holds NAME.ids.npy and NAME.labels.npy for each setting. A request is a line of JSON on standard input,
[setting, model]; the answer is a line on the open file DESCRIPTOR, a `Timing`. But for the sizes the models are those
of DeepCTR's examples, with its own L2 penalties and Adam. Batches are cut from arrays in memory without shuffling and
go to the function that `fit` calls, without what `fit` adds for each epoch: its best case.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import deepctr
import numpy as np
import tensorflow as tf
from deepctr.feature_column import SparseFeat
from deepctr.models import DCN, xDeepFM

from benchmarks.settings import BATCH, CROSS_LAYERS, DNN_UNITS, SETTINGS, TIMED_CALLS, Setting
from benchmarks.timing import Timing, time_steps

MODELS = {
    "DCN-V2": lambda columns: DCN(
        columns, columns, cross_num=CROSS_LAYERS, cross_parameterization="matrix", dnn_hidden_units=DNN_UNITS
    ),
    "xDeepFM": lambda columns: xDeepFM(columns, columns, dnn_hidden_units=DNN_UNITS),
}


class Worker:
    """Keeps every model and data set that was asked for once."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._iterators: dict[str, Iterator[Any]] = {}
        self._train: dict[tuple[str, str], Callable[[Iterator[Any]], dict[str, tf.Tensor]]] = {}

    def run(self, name: str, model: str) -> Timing:
        """One run."""
        setting = SETTINGS[name]
        if name not in self._iterators:
            self._iterators[name] = iter(self._dataset(setting))
        if (name, model) not in self._train:
            self._train[name, model] = _train_function(setting, model)
        iterator, train = self._iterators[name], self._train[name, model]
        train(iterator)
        return time_steps(lambda: float([train(iterator) for _ in range(TIMED_CALLS)][-1]["loss"]), setting.peer_steps)

    def _dataset(self, setting: Setting) -> tf.data.Dataset:
        ids, labels = (np.load(os.path.join(self._directory, f"{setting.name}.{x}.npy")) for x in ("ids", "labels"))
        fields = {f"C{i}": tf.constant(ids[:, i]) for i in range(setting.fields)}
        labels = tf.constant(labels)
        starts = tf.data.Dataset.range(0, len(ids) // BATCH * BATCH, BATCH).repeat()
        options = tf.data.Options()
        options.autotune.enabled = False

        def cut(start: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            end = start + BATCH
            return {name: values[start:end] for name, values in fields.items()}, labels[start:end]

        return starts.map(cut).prefetch(2).with_options(options)


def _train_function(setting: Setting, model: str) -> Callable[[Iterator[Any]], dict[str, tf.Tensor]]:
    columns = [SparseFeat(f"C{i}", setting.ids_per_field, setting.width) for i in range(setting.fields)]
    network = MODELS[model](columns)
    network.compile("adam", "binary_crossentropy", steps_per_execution=setting.peer_steps // TIMED_CALLS)
    return network.make_train_function()


def main() -> None:
    answers = os.fdopen(int(sys.argv[2]), "w", buffering=1)
    tf.config.set_visible_devices([], "GPU")
    worker = Worker(sys.argv[1])
    answers.write(f"deepctr {deepctr.__version__} on TensorFlow {tf.__version__}\n")
    for line in sys.stdin:
        answers.write(f"{json.dumps(worker.run(*json.loads(line)))}\n")


if __name__ == "__main__":
    main()
