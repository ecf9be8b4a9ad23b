"""The properties of metrics: one test for each, over the table's lines of that kind."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.harness import assert_close
from tests.conformance.table import IDS, Line, features, lines
from tests.conformance.test_properties import BAD_LISTS
from xdeepint_ext.models import RankingModel

ROWS = 24


def fed(metric, args, parts=(slice(None),)):
    """The metric's result after the parts of its arguments."""
    for part in parts:
        metric.update_state(*(x[part] for x in args))
    return metric.result()


@lines("config_round_trip", "metric")
def test_config_round_trip(line: Line):
    first = line.make()
    second = type(first).from_config(first.get_config())
    assert second.get_config() == first.get_config()
    assert_close(fed(second, line.example(ROWS)), fed(first, line.example(ROWS)), rtol=0, atol=0)


@lines("weights_round_trip", "metric")
def test_state_round_trip(line: Line, tmp_path):
    first, second, third = line.make(), line.make(), line.make()
    expected = fed(first, line.example(ROWS))
    second.set_weights(first.get_weights())
    tf.train.Checkpoint(metric=first).write(str(tmp_path / "state"))
    tf.train.Checkpoint(metric=third).read(str(tmp_path / "state")).assert_consumed()
    for other in (second, third):
        assert_close(other.result(), expected, rtol=0, atol=0)


def compiled(line: Line):
    """A model with the metric, its inputs and its labels; lists need a plain Keras model."""
    labels = line.example(ROWS)[0]
    if labels.shape[1] == 1:
        model = RankingModel(IDS, width=4)
        model.compile(metrics=[line.make()])
        return model, {**features(IDS, ROWS), "group_ids": tf.range(ROWS, dtype=tf.int64) % 3}, labels
    x = tf.keras.Input((labels.shape[1], 2), name="x")
    model = tf.keras.Model({"x": x}, tf.keras.layers.Reshape((labels.shape[1],))(tf.keras.layers.Dense(1)(x)))
    model.compile("sgd", "mse", metrics=[line.make()])
    return model, {"x": tf.random.normal((ROWS, labels.shape[1], 2))}, labels


@lines("keras_file_round_trip", "metric", costly=True)
def test_a_saved_model_keeps_its_metrics(line: Line, tmp_path):
    model, inputs, labels = compiled(line)
    name = line.make().name
    history = model.fit(inputs, labels, batch_size=7, epochs=2, verbose=0).history
    assert np.isfinite(history[name][-1])
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    found = loaded.evaluate(inputs, labels, batch_size=5, return_dict=True, verbose=0)[name]
    np.testing.assert_allclose(found, model.evaluate(inputs, labels, return_dict=True, verbose=0)[name], rtol=1e-6)
    rows = [loaded(inputs, training=False)]
    if "group_ids" in getattr(line.make(), "side_inputs", ()):
        rows.append(inputs["group_ids"])
    np.testing.assert_allclose(found, fed(line.make(), [labels, *rows]), rtol=1e-6)


@lines("tf_function", "metric")
def test_tf_function(line: Line):
    metric, args = line.make(), line.example(ROWS)

    @tf.function
    def step(*args):
        metric.update_state(*args)
        return metric.result()

    expected = line.make()
    for part in (slice(0, 8), slice(8, ROWS)):
        assert_close(step(*(x[part] for x in args)), fed(expected, args, [part]))
    metric.reset_state()
    assert_close(step(*args), expected.result())


@lines("xla", "metric", costly=True)
def test_xla(line: Line):
    metric, args = line.make(), line.example(ROWS)

    @tf.function(jit_compile=True)
    def update(*args):
        metric.update_state(*args)

    update(*args)
    assert_close(metric.result(), fed(line.make(), args))


@lines("batched_equals_looped", "metric")
def test_batches_in_any_order_equal_all_at_once(line: Line):
    args = line.example(ROWS)
    expected = fed(line.make(), args)
    for parts in ([slice(i, i + 1) for i in reversed(range(ROWS))], [slice(9, ROWS), slice(0, 0), slice(0, 9)]):
        assert_close(fed(line.make(), args, parts), expected)


@lines("mirrored", "metric")
def test_mirrored(line: Line, two_replicas):
    """Two replicas with half of each batch are one device with all of it, in fit's way and after it."""
    args = line.example(ROWS)
    with two_replicas.scope():
        metric = line.make()

    def replica_step(*args):
        metric.update_state(*args)
        return metric.result()

    @tf.function
    def step(i):
        return two_replicas.run(replica_step, [x[i] for x in distributed])

    distributed = []
    for x in args:
        parts = [x[0::2], x[1::2]]
        distributed.append(
            [
                two_replicas.experimental_distribute_values_from_function(
                    lambda context, parts=parts, part=part: parts[context.replica_id_in_sync_group][part]
                )
                for part in (slice(0, 5), slice(5, None))
            ]
        )
    for _ in range(2):
        step(0)
        in_step = two_replicas.experimental_local_results(step(1))
        expected = fed(line.make(), args)
        assert_close(in_step[0], expected)
        assert_close(metric.result(), expected)
        metric.reset_state()


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
@pytest.mark.parametrize("case", BAD_LISTS)
@lines("finite_on_bad_lists", "metric")
def test_finite_on_bad_lists(line: Line, case: str, dtype: tf.DType):
    labels, logits = BAD_LISTS[case]
    shape = (-1, 1)
    if line.example(ROWS)[0].shape[1] > 1:
        shape, labels, logits = (1, -1), [*labels, -1.0], [*logits, 0.0]  # one more, as K = 2 wants two
    metric = line.make()
    metric.update_state(tf.reshape(labels, shape), tf.cast(tf.reshape(logits, shape), dtype))
    assert np.isfinite(metric.result().numpy())


@lines("nan_is_not_hidden", "metric")
def test_nan_is_not_hidden(line: Line):
    labels, logits, *others = line.example(ROWS)
    broken = tf.tensor_scatter_nd_update(logits, [[3, 0]], [np.nan])
    assert np.isnan(fed(line.make(), [labels, broken, *others]))
