"""What the properties share: a line's object inside a Keras model, and a step of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tests.conformance.table import IDS, Line, features, labels_and_logits
from xdeepint_ext.models import RankingModel

BATCH = 6


def as_model(line: Line) -> tf.keras.Model:
    """A Keras model of the line's object: a model itself, a layer with inputs, or a small model that trains with it."""
    if line.kind == "layer":
        example = line.example(BATCH)
        named = dict(example) if isinstance(example, dict) else {"x": example}
        inputs = {name: tf.keras.Input(x.shape[1:], dtype=x.dtype, name=name) for name, x in named.items()}
        return tf.keras.Model(inputs, line.make()(inputs if isinstance(example, dict) else inputs["x"]))
    if line.kind == "model":
        return line.make()
    model = RankingModel(IDS, width=4)
    parts = {line.kind: line.make()}
    model.compile(**parts)
    return model


def inputs_of(line: Line, batch: int = BATCH) -> Any:
    """What `as_model(line)` is called with."""
    if line.kind in ("loss", "optimizer"):
        return features(IDS, batch)
    example = line.example(batch)
    return example if isinstance(example, dict) else {"x": example}


def train(model: tf.keras.Model, inputs: Any, steps: int = 2) -> None:
    """A few steps on one batch; models that have no loss of their own learn to give 0."""
    labels, _ = labels_and_logits(BATCH)
    if not isinstance(model, RankingModel):
        model.compile(tf.keras.optimizers.SGD(0.01), "mse")
        labels = tf.zeros_like(model(inputs))
    elif model.optimizer is None:
        model.compile()
    for _ in range(steps):
        model.train_on_batch(inputs, labels)


def arrays(values: Any) -> list[np.ndarray]:
    """The leaves of a nest as NumPy arrays."""
    return [np.asarray(value) for value in tf.nest.flatten(values)]


def assert_close(actual: Any, expected: Any, **tolerance: float) -> None:
    """All leaves of two nests agree."""
    for a, b in zip(arrays(actual), arrays(expected), strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})
