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
        example, named = line.example(BATCH), inputs_of(line)
        inputs = {name: tf.keras.Input(x.shape[1:], dtype=x.dtype, name=name) for name, x in named.items()}
        found = line.make()(tf.nest.pack_sequence_as(example, list(inputs.values())))
        outputs = tf.nest.flatten(found if line.returns is None else found[line.returns])
        if len(outputs) > 1:
            outputs = [tf.keras.layers.concatenate([tf.keras.layers.Flatten()(y) for y in outputs])]
        return tf.keras.Model(inputs, outputs[0])
    if line.kind == "model":
        return line.make()
    if takes_lists(line):
        return _list_model(line)
    model = RankingModel(IDS, width=4)
    parts = {line.kind: line.make()}
    model.compile(**parts)
    return model


def takes_lists(line: Line) -> bool:
    """Whether it is a loss on lists."""
    return line.kind == "loss" and line.example(1)[1].shape != (1, 1)


def _list_model(line: Line) -> tf.keras.Model:
    """A plain Keras model of lists that is compiled with the loss."""
    _, logits = line.example(BATCH)
    x = tf.keras.Input((logits.shape[1], 3), name="x")
    y = tf.keras.layers.Dense(2 if logits.shape.rank == 3 else 1)(x)
    model = tf.keras.Model({"x": x}, tf.keras.layers.Reshape(logits.shape[1:])(y))
    model.compile(tf.keras.optimizers.SGD(0.01), line.make())
    return model


def inputs_of(line: Line, batch: int = BATCH) -> Any:
    """What `as_model(line)` is called with."""
    if takes_lists(line):
        shape = (batch, line.example(1)[0].shape[1], 3)
        return {"x": tf.constant(np.random.default_rng(batch).normal(size=shape), tf.float32)}
    if line.kind in ("loss", "optimizer"):
        return features(IDS, batch)
    example = line.example(batch)
    if isinstance(example, dict):
        return {name: example[name] for name in sorted(example)}  # the order of tf.nest
    return {f"x{index}": x for index, x in enumerate(tf.nest.flatten(example))}


def train(model: tf.keras.Model, inputs: Any, steps: int = 2, line: Line | None = None) -> None:
    """A few steps on one batch; models that have no loss of their own learn to give 0."""
    labels, _ = labels_and_logits(BATCH)
    if line is not None and takes_lists(line):
        labels, _ = line.example(BATCH)
    elif not isinstance(model, RankingModel):
        model.compile(tf.keras.optimizers.SGD(0.01), "mse")
        labels = tf.nest.map_structure(tf.zeros_like, model(inputs))
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


def shaped_for(line: Line, labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One list (L,) as the loss of the line wants it."""
    if not takes_lists(line):
        return labels[:, tf.newaxis], logits[:, tf.newaxis]
    if line.example(1)[1].shape.rank == 3:
        logits = tf.stack([-logits, logits], axis=-1)
    return labels[tf.newaxis], logits[tf.newaxis]
