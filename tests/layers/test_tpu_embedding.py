"""TpuFeatureEmbedding is FeatureEmbedding: on a CPU, and on what stands for a TPU there."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tests.fake_tpu import FakeTpuEmbedding, FakeTpuStrategy
from tests.layers.test_embedding import EVERYTHING, draw
from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.layers.tpu_embedding import TpuFeatureEmbedding
from xdeepint_ext.optimizers import LazyAdam
from xdeepint_ext.optimizers.tpu import tpu_optimizer
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.variables import optimizer_group

BATCH = 6
SINGLES = Schema([Feature("user", num_values=4), Feature("item", num_values=5)])
FROZEN = Schema([Feature("user", num_values=4, trainable=False)])
SCHEMAS = pytest.mark.parametrize("schema", [EVERYTHING, SINGLES, FROZEN], ids=["everything", "singles", "frozen"])


def features_of(schema):
    found = draw(schema, BATCH)
    return {name: tf.constant(x, tf.int64 if x.dtype.kind == "i" else tf.float32) for name, x in found.items()}


def both(schema):
    """An ordinary layer and one for a TPU, made from the same seed."""
    tf.keras.utils.set_random_seed(1)
    ordinary = FeatureEmbedding(schema, 4, name="embedding")
    ordinary.build(None)
    tf.keras.utils.set_random_seed(1)
    of_tpu = TpuFeatureEmbedding(optimizer=tpu_optimizer(LazyAdam()), batch_size=BATCH, **ordinary.get_config())
    of_tpu.build(None)
    return ordinary, of_tpu


def output_and_gradients(layer, features):
    with tf.GradientTape() as tape:
        found = layer(features)
        loss = tf.reduce_sum(tf.reshape(found, (-1, 4)) * tf.range(4.0) * found.shape[1])
    return found.numpy(), [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, layer.trainable_weights)]


@SCHEMAS
@pytest.mark.parametrize("rows_given", [False, True])
def test_on_a_cpu_it_is_the_ordinary_layer(schema, rows_given):
    ordinary, of_tpu = both(schema)
    for weight, expected in zip(of_tpu.weights, ordinary.weights, strict=True):
        assert weight.name == expected.name and weight.trainable == expected.trainable
        assert optimizer_group(weight) == optimizer_group(expected)
        np.testing.assert_array_equal(weight, expected)
    features = features_of(schema)
    given = {**features, **of_tpu.table_rows(features)} if rows_given else features
    if not ordinary.trainable_weights:
        np.testing.assert_array_equal(of_tpu(given), ordinary(features))
        return
    found, gradients = output_and_gradients(of_tpu, given)
    expected, expected_gradients = output_and_gradients(ordinary, features)
    np.testing.assert_array_equal(found, expected)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(gradient, wanted)


def test_rows_are_static_int32_and_zero_where_nothing_is():
    _, of_tpu = both(EVERYTHING)
    features = features_of(EVERYTHING)
    rows = of_tpu.table_rows(features)
    assert {name: (tuple(x.shape), x.dtype) for name, x in rows.items()} == {
        "rows_of_table": ((BATCH, 10, 1), tf.int32),
        "rows_of_table_2": ((BATCH, 4, 1), tf.int32),
    }
    ids = tf.concat([features["narrow"], features["narrow_tags"]], axis=1)
    np.testing.assert_array_equal(rows["rows_of_table_2"][..., 0] == 0, ids == 0)


def test_ids_outside_their_table_are_named_on_the_host():
    _, of_tpu = both(SINGLES)
    with pytest.raises(tf.errors.InvalidArgumentError, match="user"):
        of_tpu.table_rows({"user": tf.constant([[77]]), "item": tf.constant([[1]])})


def test_the_tables_come_by_a_checkpoint():
    _, of_tpu = both(EVERYTHING)
    for number, table in enumerate(of_tpu.table_weights):
        table.assign(tf.range(float(tf.size(table))).numpy().reshape(table.shape) + number)
    found = of_tpu.trainable_tables()
    assert list(found) == [(4, True), (2, True)]
    for key, values in found.items():
        np.testing.assert_array_equal(values, of_tpu.tables[key])


def test_lists_and_parts_of_the_features_are_refused():
    _, of_tpu = both(SINGLES)
    with pytest.raises(ValueError, match=r"called once in a step.*got only=\['user'\]"):
        of_tpu({"user": tf.constant([[1]])}, only=("user",))
    with pytest.raises(ValueError, match="got lists"):
        of_tpu({"user": tf.ones((2, 1), tf.int64), "item": tf.ones((2, 3, 1), tf.int64)})


def test_weights_of_another_type_are_refused():
    with pytest.raises(ValueError, match="tables are float32, got weights of float64"):
        TpuFeatureEmbedding(optimizer=None, batch_size=1, schema=SINGLES, dtype="float64")


def test_on_a_tpu_its_tables_are_configured_looked_up_and_sent_their_gradients(monkeypatch):
    strategy = FakeTpuStrategy(monkeypatch)
    features = features_of(EVERYTHING)
    with strategy.scope():
        ordinary, of_tpu = both(EVERYTHING)
    [engine] = FakeTpuEmbedding.made
    assert isinstance(engine.optimizer, tf.tpu.experimental.embedding.Adam)
    configs = [(f.table.name, f.table.vocabulary_size, f.table.dim, f.table.combiner) for f in engine.features]
    sizes = [ordinary.tables[key].shape[0] for key in ((4, True), (2, True))]
    assert configs == [("table", sizes[0], 4, "sum"), ("table_2", sizes[1], 2, "sum")]
    assert list(of_tpu.tables) == [(4, False)]
    [place_holder] = of_tpu.table_weights
    assert place_holder.shape == [1] and optimizer_group(place_holder) == "embedding"
    assert [w.name for w in of_tpu.trainable_weights].count(place_holder.name) == 1

    received = {}
    monkeypatch.setattr(engine, "apply_gradients", lambda gradients, name: received.update(enumerate(gradients)))

    def of_replica(inputs):
        with tf.GradientTape() as tape:
            found = of_tpu(inputs)
            loss = tf.reduce_sum(tf.reshape(found, (-1, 4)) * tf.range(4.0) * found.shape[1])
        gradients = tape.gradient(loss, of_tpu.trainable_weights)
        return found, gradients, dict(received)

    step = tf.function(lambda inputs: strategy.run(of_replica, (inputs,)))
    found, gradients, sent = step({**features, **of_tpu.table_rows(features)})
    expected, expected_gradients = output_and_gradients(ordinary, features)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    rows = list(of_tpu.table_rows(features).values())
    for number, wanted in enumerate(expected_gradients[:2]):
        summed = tf.math.unsorted_segment_sum(sent[number], rows[number][..., 0], len(wanted))
        np.testing.assert_allclose(summed, wanted, rtol=1e-5, atol=1e-6)
    by_name = {w.name: g for w, g in zip(of_tpu.trainable_weights, gradients, strict=True)}
    np.testing.assert_array_equal(by_name[place_holder.name], [0.0])
    for weight, wanted in list(zip(ordinary.trainable_weights, expected_gradients, strict=True))[2:]:
        assert isinstance(by_name[weight.name], tf.Tensor)  # of a shape that does not follow the data
        np.testing.assert_allclose(by_name[weight.name], wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="_tpu_input_identity"):  # rows that the step computes itself
        step(features)


def test_tensorflow_tells_a_tpu_of_its_tables_and_makes_their_variables():
    _, of_tpu = both(EVERYTHING)
    engine = tf.tpu.experimental.embedding.TPUEmbedding(of_tpu._feature_configs(), tpu_optimizer(LazyAdam(beta_1=0.8)))
    # As under a TPUStrategy of 8 cores, up to what needs a TPU.
    engine._strategy = types.SimpleNamespace(num_replicas_in_sync=8, extended=types.SimpleNamespace(num_hosts=1))
    engine._using_tpu, engine._hosts = True, ["/device:CPU:0"]
    engine._dynamic_learning_rates = [engine._table_config[0].optimizer.learning_rate]
    engine._get_and_update_output_shapes_from_input([tf.TensorShape([BATCH, n, 1]) for n in (10, 4)])
    message = engine._create_config_proto()
    described = [(t.name, t.vocabulary_size, t.dimension) for t in message.table_descriptor]
    assert described == [("table", *of_tpu.table.shape), ("table_2", *of_tpu.tables[(2, True)].shape)]
    assert [list(f.input_shape) for f in message.feature_descriptor] == [[BATCH, 10], [BATCH, 4]]
    for table in message.table_descriptor:
        parameters = table.optimization_parameters
        assert parameters.adam.beta1 == pytest.approx(0.8)
        assert parameters.learning_rate.WhichOneof("learning_rate") == "dynamic"
    variables = engine._create_variables_and_slots()
    assert {name: sorted(found) for name, found in variables.items()} == {
        name: ["momenta", "parameters", "velocities"] for name in ("table", "table_2")
    }
    [table] = variables["table"]["parameters"].variables
    assert table.shape == of_tpu.table.shape and table.numpy().std() > 0.1
