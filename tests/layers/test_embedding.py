"""FeatureEmbedding against loops over tables, for every kind of feature."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tests.layers import reference
from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.variables import optimizer_group

COMBINERS = ("mean", "sum", "sqrtn", "max", "concat")

EVERYTHING = Schema(
    [
        Feature("user", num_values=4),
        Feature("label", "numeric", "label"),
        Feature("age", "numeric"),
        Feature("binned", "numeric", binning="boundaries", boundaries=(0.0, 1.0)),
        Feature("item", num_values=5, table="video", oov="zero"),
        Feature("history", "sequence", table="video", oov="zero", num_values=5, max_length=3),
        Feature("tags", "multi", num_values=3, max_length=2, weights="scores", combiner="sum", missing="bucket"),
        Feature("narrow", num_values=6, width=2),
        Feature("narrow_tags", "multi", num_values=3, max_length=3, width=2, combiner="sqrtn"),
        Feature("frozen", num_values=3, trainable=False),
        Feature("price", "numeric"),
        Feature("image", "vector", dimension=3),
        Feature("last", "sequence", num_values=4, max_length=2, combiner="concat"),
    ]
)


def layer_with_random_weights(schema, width, seed=0, **options):
    layer = FeatureEmbedding(schema, width, dtype="float64", **options)
    layer.build(None)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer


def parts(layer):
    """The layer's variables as `reference.field_matrix` wants them: a matrix a table, a vector a number."""
    schema, tables = layer.schema, {}
    for name, table in schema.tables.items():
        variable = layer.tables[(table.width or layer.width, table.trainable)].numpy()
        tables[name] = np.stack([variable[table.offset + i if i else 0] for i in range(table.rows)])
    numbers = [f.name for f in schema.inputs if not f.is_ids and f.kind == "numeric"]
    kernels = {weight.name.split("/")[-1].split(":")[0]: weight.numpy() for weight in layer.weights}
    numeric = dict(zip(numbers, kernels.get("numeric_kernel", []), strict=True))
    projections = {f.name: kernels[f"projection_{f.name}"] for f in schema.inputs if f.kind == "vector"}
    projections |= {t.width: kernels[f"projection_table_{t.width}"] for t in schema.tables.values() if t.width}
    return {"tables": tables, "width": layer.width, "numeric": numeric, "projections": projections}


def draw(schema, batch, seed=0):
    """Ids inside the tables, a third of them 0, and normal floats."""
    rng = np.random.default_rng(seed)
    features = {}
    for f in schema.inputs:
        shape = (batch, f.length)
        if f.is_ids:
            features[f.name] = rng.integers(0, f.num_ids, shape) * (rng.random(shape) > 0.3)
        else:
            features[f.name] = rng.normal(size=shape)
        if f.weights_name:
            features[f.weights_name] = rng.uniform(0.1, 3.0, shape)
    return features


def check(schema, features, width, **options):
    layer = layer_with_random_weights(schema, width, **options)
    found = layer({name: tf.constant(value) for name, value in features.items()})
    expected = reference.field_matrix(schema, features, **parts(layer))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.shape == (len(expected), schema.num_fields, width)


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 5), width=st.sampled_from([1, 3, 4]))
def test_every_kind_together(seed, batch, width):
    check(EVERYTHING, draw(EVERYTHING, batch, seed), width, seed=seed)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    combiner=st.sampled_from(COMBINERS),
    weighted=st.booleans(),
    max_length=st.integers(1, 3),
    kind=st.sampled_from(["multi", "sequence"]),
)
def test_combiners_pool_what_is_valid(seed, combiner, weighted, max_length, kind):
    feature = Feature(
        "tags",
        kind,
        num_values=3,
        max_length=max_length,
        combiner=combiner,
        weights="scores" if weighted else None,
    )
    schema = Schema([feature, Feature("other", num_values=2)])
    check(schema, draw(schema, 4, seed), 2, seed=seed)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_nothing_valid_is_the_zero_row(combiner):
    schema = Schema([Feature("tags", "multi", num_values=3, max_length=2, combiner=combiner)])
    layer = layer_with_random_weights(schema, 3)
    with tf.GradientTape() as tape:
        found = layer({"tags": tf.zeros((2, 2), tf.int64)})
    assert not found.numpy().any()
    assert not tf.convert_to_tensor(tape.gradient(found, layer.table)).numpy().any()


def test_weights_of_zero_give_the_zero_row():
    schema = Schema([Feature("tags", "multi", num_values=3, max_length=2, weights="scores")])
    features = {"tags": tf.constant([[1, 2]]), "tags_weights": tf.zeros((1, 2))}
    assert not layer_with_random_weights(schema, 3)(features).numpy().any()


def test_singles_only_are_one_gather():
    schema = Schema([Feature("user", num_values=4), Feature("item", num_values=5, missing="bucket")])
    check(schema, draw(schema, 6), 3)
    layer = layer_with_random_weights(schema, 3)
    inputs = [tf.TensorSpec((None, 1), tf.int64)] * 2
    graph = tf.function(lambda user, item: layer({"user": user, "item": item})).get_concrete_function(*inputs).graph
    assert [op.type for op in graph.get_operations()].count("ResourceGather") == 1


def test_one_variable_a_width_whose_places_the_schema_states():
    layer = FeatureEmbedding(EVERYTHING, 4)
    layer.build(None)
    own = [table for table in EVERYTHING.tables.values() if table.width is None and table.trainable]
    assert layer.table.shape == (1 + sum(table.rows - 1 for table in own), 4)
    assert set(layer.tables) == {(4, True), (2, True), (4, False)}
    assert [layer.tables[4, False]] == layer.non_trainable_weights
    assert optimizer_group(layer.table) == optimizer_group(layer.numeric_kernel) == "embedding"


@pytest.mark.parametrize(("first", "second"), [(None, 4), (4, None)])
def test_a_width_written_out_is_the_models(first, second):
    schema = Schema([Feature("user", num_values=4, width=first), Feature("item", num_values=3, width=second)])
    layer = layer_with_random_weights(schema, 4)
    assert [weight.shape for weight in layer.weights] == [(1 + 5 + 4, 4)]
    found = layer({"user": tf.range(1, 6), "item": tf.constant([1, 2, 3, 4, 0])}).numpy()
    np.testing.assert_array_equal(found[:, 0], layer.table[1:6])
    np.testing.assert_array_equal(found[:4, 1], layer.table[6:10])


def test_shared_table_is_one():
    schema = Schema([Feature("item", num_values=5, table="video"), Feature("next", num_values=5, table="video")])
    layer = layer_with_random_weights(schema, 2)
    assert layer.table.shape == (1 + 6, 2)
    found = layer({"item": tf.constant([3, 0]), "next": tf.constant([3, 6])}).numpy()
    np.testing.assert_array_equal(found, [[layer.table[3], layer.table[3]], [np.zeros(2), layer.table[6]]])


@pytest.mark.parametrize("id_type", [tf.int32, tf.int64, tf.uint8])
def test_flat_inputs_and_other_integers(id_type):
    schema = Schema([Feature("user", num_values=4), Feature("age", "numeric")])
    layer = layer_with_random_weights(schema, 3)
    flat = layer({"user": tf.constant([1, 2], id_type), "age": tf.constant([0.5, 2.0])})
    np.testing.assert_array_equal(flat, layer({"user": tf.constant([[1], [2]]), "age": tf.constant([[0.5], [2.0]])}))


def test_default_start_is_the_authors():
    layer = FeatureEmbedding(Schema([Feature("user", num_values=20_000)]), 16)
    layer.build(None)
    values = layer.table.numpy()
    deviation = 1 / np.sqrt(16)
    assert np.abs(values).max() <= 2 * deviation
    density, share = np.exp(-2.0) / np.sqrt(2 * np.pi), math.erf(np.sqrt(2.0))
    np.testing.assert_allclose(values.std(), deviation * np.sqrt(1 - 4 * density / share), rtol=0.01)


def test_initializer_is_for_tables_numbers_and_projections_of_ids():
    layer = FeatureEmbedding(EVERYTHING, 4, initializer="zeros")
    layer.build(None)
    nonzero = {weight.name.split(":")[0] for weight in layer.weights if weight.numpy().any()}
    assert nonzero == {"projection_table_2", "projection_image"}


def test_only_some_features_give_their_rows_alone():
    layer = layer_with_random_weights(EVERYTHING, 4)
    features = draw(EVERYTHING, 6)
    only = ["tags", "item", "price", "last", "image"]
    names = [name.partition("[")[0] for name in EVERYTHING.field_names]
    rows = [number for number, name in enumerate(names) if name in only]
    given = {name: value for name, value in features.items() if name.removesuffix("_weights") in only}
    np.testing.assert_array_equal(layer(given, only=only), layer(features).numpy()[:, rows])


@pytest.mark.parametrize("of_items", [["item", "narrow", "last", "tags", "price", "image"], ["item"]])
def test_lists_are_rows_whose_other_features_are_repeated(of_items):
    layer, lists, length = layer_with_random_weights(EVERYTHING, 4), 3, 2
    features = draw(EVERYTHING, lists * length)
    of_lists, rows = {}, {}
    for name, value in features.items():
        if name.removesuffix("_weights") in of_items:
            of_lists[name], rows[name] = tf.reshape(value, (lists, length, -1)), value
        else:
            of_lists[name], rows[name] = value[:lists], tf.repeat(value[:lists], length, axis=0)
    np.testing.assert_array_equal(layer(of_lists), layer(rows))


def test_lists_of_different_lengths_are_named():
    schema = Schema([Feature("item", num_values=4), Feature("price", "numeric")])
    with pytest.raises(ValueError, match=r"as many items, got {'item': 2, 'price': 3}"):
        FeatureEmbedding(schema)({"item": tf.ones((4, 2, 1), tf.int64), "price": tf.ones((4, 3, 1))})
