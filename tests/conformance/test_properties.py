"""One test for each property, over the whole table."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.harness import BATCH, arrays, as_model, assert_close, inputs_of, shaped_for, takes_lists, train
from tests.conformance.table import Line, labels_and_logits, lines
from tests.serving.c_api import run_signature

ALL = ("layer", "loss", "loss_layer", "optimizer", "model")
CALLED = ("layer", "model")


@lines("config_round_trip", *ALL)
def test_config_round_trip(line: Line):
    first = line.make()
    second = type(first).from_config(first.get_config())
    assert second.get_config() == first.get_config()


def _keras_file_round_trip(line: Line, path):
    model, inputs = as_model(line), inputs_of(line)
    train(model, inputs, line=line)
    model.save(path)
    loaded = tf.keras.models.load_model(path)
    assert_close(loaded(inputs), model(inputs), rtol=0, atol=0)
    train(model, inputs, 1, line)
    train(loaded, inputs, 1, line)
    assert_close(loaded(inputs), model(inputs))


@lines("keras_file_round_trip", "layer", "optimizer", "model", costly=True)
def test_keras_file_round_trip(line: Line, tmp_path):
    _keras_file_round_trip(line, tmp_path / "model.keras")


@lines("keras_file_round_trip", "loss", costly=True)
def test_keras_file_of_a_model_compiled_with_a_loss(line: Line, tmp_path):
    _keras_file_round_trip(line, tmp_path / "model.keras")


@lines("weights_round_trip", *CALLED, costly=True)
def test_weights_round_trip(line: Line, tmp_path):
    model, other, inputs = as_model(line), as_model(line), inputs_of(line)
    train(model, inputs)
    model.save_weights(tmp_path / "weights.weights.h5")
    other(inputs)
    other.load_weights(tmp_path / "weights.weights.h5")
    assert_close(other(inputs), model(inputs), rtol=0, atol=0)


@lines("saved_model", *CALLED, costly=True)
def test_saved_model(line: Line, tmp_path):
    model, inputs = as_model(line), inputs_of(line)
    expected = arrays(model(inputs))[0]
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    specs = {name: tf.TensorSpec((None, *x.shape[1:]), x.dtype, name) for name, x in inputs.items()}
    archive.add_endpoint("serve", lambda x: {"y": tf.nest.flatten(model(x, training=False))[0]}, [specs])
    archive.write_out(str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert_close(loaded.serve(inputs)["y"], expected, atol=1e-6)
    fed = {name: x.numpy() for name, x in inputs.items()}
    assert_close(run_signature(tmp_path / "saved", "serve", fed)["y"], expected, atol=1e-6)


@lines("tf_function", *CALLED)
def test_tf_function(line: Line):
    model, inputs = as_model(line), inputs_of(line)
    assert_close(tf.function(model)(inputs), model(inputs))


@lines("tf_function", "loss", "loss_layer")
def test_loss_in_tf_function(line: Line):
    loss = line.make()
    assert_close(tf.function(loss)(*line.example(BATCH)), loss(*line.example(BATCH)))


@lines("xla", *CALLED, costly=True)
def test_xla(line: Line):
    model, inputs = as_model(line), inputs_of(line)
    assert_close(tf.function(model, jit_compile=True)(inputs), model(inputs), rtol=1e-4)


@lines("xla", "loss", "loss_layer", costly=True)
def test_loss_xla(line: Line):
    loss = line.make()
    assert_close(tf.function(loss, jit_compile=True)(*line.example(BATCH)), loss(*line.example(BATCH)))


@pytest.mark.parametrize("policy", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])
@lines("mixed_precision", *CALLED, costly=True)
def test_mixed_precision(line: Line, policy: str):
    full, inputs = as_model(line), inputs_of(line)
    expected = full(inputs)
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        half = as_model(line)
        half(inputs)
        half.set_weights(full.get_weights())
        assert all(weight.dtype == tf.float32 for weight in half.trainable_weights)
        found = [x.astype(np.float32) for x in arrays(half(inputs))]
        assert_close(found, expected, rtol=0.1, atol=0.1)
        train(half, inputs, 1)
        assert all(np.isfinite(weight).all() for weight in half.get_weights())
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


@lines("batched_equals_looped", *CALLED)
def test_batched_equals_looped(line: Line):
    model, inputs = as_model(line), inputs_of(line)
    looped = [model({name: x[i : i + 1] for name, x in inputs.items()}) for i in range(BATCH)]
    assert_close(model(inputs), tf.nest.map_structure(lambda *rows: tf.concat(rows, axis=0), *looped))


@lines("batched_equals_looped", "loss")
def test_loss_batched_equals_looped(line: Line):
    loss, (labels, logits) = line.make(), line.example(BATCH)
    looped = [float(loss(labels[i : i + 1], logits[i : i + 1])) for i in range(BATCH)]
    assert_close(loss(labels, logits), np.mean(looped))


@lines("mirrored", "optimizer", "model", costly=True)
def test_mirrored(line: Line, two_replicas):
    """Two replicas with half of the batch each make the steps of one device with all of it."""
    inputs = inputs_of(line)
    labels, _ = labels_and_logits(BATCH)
    dataset = tf.data.Dataset.from_tensors((inputs, labels)).repeat(2)
    start, ends = None, []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = as_model(line)
            if line.kind == "model":
                model.compile(tf.keras.optimizers.SGD(0.1))
        start = model.get_weights() if start is None else start
        model.set_weights(start)
        model.fit(dataset, verbose=0)
        ends.append(model.get_weights())
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(ends[0], start, strict=True))
    assert_close(ends[1], ends[0])


BAD_LISTS = {
    "all padding": ([-1.0] * 4, [0.3, -0.2, 1.0, 2.0]),
    "one item": ([1.0], [0.3]),
    "all positive": ([1.0] * 4, [0.3, -0.2, 1.0, 2.0]),
    "all negative": ([0.0] * 4, [0.3, -0.2, 1.0, 2.0]),
    "all ties": ([1.0, 0.0, 1.0, 0.0], [0.5] * 4),
    "huge logits": ([1.0, 0.0, 1.0, 0.0], [1e4, 1e4, -1e4, -1e4]),
}


def _value_and_gradient(line: Line, labels: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    loss = line.make()
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
    return value, tape.gradient(value, logits)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
@lines("finite_on_bad_lists", "loss")
def test_finite_on_bad_lists(line: Line, dtype: tf.DType):
    for case in BAD_LISTS.values():
        labels, logits = shaped_for(line, *(tf.constant(values) for values in case))
        for found in _value_and_gradient(line, labels, tf.cast(logits, dtype)):
            assert np.isfinite(found.numpy()).all(), case


@pytest.mark.parametrize("jit", [False, True])
@lines("finite_on_bad_lists", "loss", costly=True)
def test_finite_on_bad_lists_in_graphs(line: Line, jit: bool):
    graph = tf.function(lambda *pair: _value_and_gradient(line, *pair), jit_compile=jit)
    for case in BAD_LISTS.values():
        for dtype in (tf.float32, tf.float16):
            labels, logits = shaped_for(line, *(tf.constant(values) for values in case))
            for found in graph(labels, tf.cast(logits, dtype)):
                assert np.isfinite(found.numpy()).all(), (case, dtype)


@lines("finite_on_bad_lists", "loss")
def test_nan_is_not_hidden(line: Line):
    for labels, logits in (([1.0, 0.0], [np.nan, 0.0]), ([1.0, 0.0], [0.0, np.nan]), ([np.nan, 0.0], [0.0, 1.0])):
        assert np.isnan(float(line.make()(*shaped_for(line, tf.constant(labels), tf.constant(logits)))))


@lines("padding", "loss")
def test_padding_changes_nothing(line: Line):
    labels, logits = line.example(BATCH)
    axis = int(takes_lists(line))
    more, junk = tf.split(labels, [2, -1], axis)[0], tf.split(logits, [2, -1], axis)[0] * np.inf
    junk = tf.where(junk > 0, junk, tf.constant(np.nan))  # what stands where nothing is may be anything
    everything = tf.concat([logits, junk], axis)
    there = tf.concat([tf.ones_like(labels, tf.bool), tf.zeros_like(more, tf.bool)], axis)
    padded = tf.concat([labels, -tf.ones_like(more)], axis)
    target = (
        {"teacher": tf.concat([labels, more], axis), "list_mask": there} if line.make().target != "label" else padded
    )
    value, gradient = _value_and_gradient(line, labels, logits)
    found, gradients = _value_and_gradient(line, target, everything)
    kept, dropped = tf.split(gradients, [logits.shape[axis], 2], axis)
    assert_close((found, kept), (value, gradient))
    assert not np.any(dropped)


@lines("permutation", "loss")
def test_a_permutation_permutes_the_gradient(line: Line):
    labels, logits = line.example(BATCH)
    axis = int(takes_lists(line))
    order = np.random.default_rng(1).permutation(logits.shape[axis])
    value, gradient = _value_and_gradient(line, labels, logits)
    found, moved = _value_and_gradient(line, tf.gather(labels, order, axis=axis), tf.gather(logits, order, axis=axis))
    assert_close((found, moved), (value, tf.gather(gradient, order, axis=axis)))


@lines("gradient", "layer", "loss", "loss_layer")
def test_gradient(line: Line):
    """The gradient to the input against central differences, in float64."""
    example = line.example(2)
    before, x, after = {"loss": ((example[0],), example[1], ()), "loss_layer": ((), example[0], example[1:])}.get(
        line.kind, ((), example, ())
    )
    before, x, after = tf.nest.map_structure(
        lambda value: tf.cast(value, tf.float64) if value.dtype.is_floating else value, (before, x, after)
    )
    tf.keras.mixed_precision.set_global_policy("float64")
    try:
        call = line.make()
        weights = tf.constant(np.random.default_rng(0).normal(size=np.shape(call(*before, x, *after))))
        scalar = lambda v: tf.reduce_sum(weights * call(*before, v, *after))  # noqa: E731
        theory, numeric = tf.test.compute_gradient(scalar, [x], delta=1e-5)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_allclose(theory[0], numeric[0], rtol=1e-6, atol=1e-8)


@lines("determinism", "optimizer", "model", costly=True)
def test_determinism(line: Line):
    ends = []
    for _ in range(2):
        tf.keras.utils.set_random_seed(7)
        model, inputs = as_model(line), inputs_of(line)
        train(model, inputs)
        ends.append(model.get_weights())
    assert_close(ends[0], ends[1], rtol=0, atol=0)
