"""What FeatureEmbedding does with ids 0, ids outside their tables, and inputs that do not fit the schema."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.schema import Feature, Schema

SCHEMA = Schema(
    [
        Feature("user", num_values=4),
        Feature("tags", "multi", num_values=3, max_length=2),
        Feature("age", "numeric"),
    ]
)


def batch(**changes):
    return {
        "user": tf.constant([[1], [5]]),
        "tags": tf.constant([[1, 0], [4, 2]]),
        "age": tf.constant([[0.5], [1.5]]),
    } | changes


def embedding(schema=SCHEMA, **options):
    return FeatureEmbedding(schema, 3, initializer="ones", **options)


def test_id_0_is_zero_forward_and_backward():
    layer = embedding()
    features = batch(user=tf.constant([[0], [2]]), tags=tf.constant([[0, 0], [0, 3]]))
    with tf.GradientTape() as tape:
        found = layer(features)
        loss = tf.reduce_sum(found * tf.constant([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(found[:, :2], [[[0] * 3, [0] * 3], [[1] * 3, [1] * 3]])
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.table)).numpy()
    assert not gradient[0].any()
    assert [row for row in range(len(gradient)) if gradient[row].any()] == [2, 5 + 3]


def test_gradient_is_sparse():
    layer = embedding()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(batch()))
    assert isinstance(tape.gradient(loss, layer.table), tf.IndexedSlices)


def test_empty_batch():
    empty = {name: value[:0] for name, value in batch().items()}
    assert embedding()(empty).shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user": tf.constant([[1], [6]])}, r"\['user'\|b'user'\] \[1\] \[6\] \[6\]"),
        ({"tags": tf.constant([[1, 0], [-1, 5]])}, r"\[-1 0\] \[1 5\] \[5 5\]"),
    ],
)
@pytest.mark.parametrize("as_function", [False, True], ids=["eager", "graph"])
def test_ids_outside_their_table_name_the_feature(changes, message, as_function):
    layer = embedding()
    call = tf.function(layer) if as_function else layer
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        call(batch(**changes))
    text = str(error.value)
    assert "ids outside their tables; feature, lowest and highest id, table rows" in text
    assert next(iter(changes)) in text
    lowest, highest = (int(f(changes[next(iter(changes))])) for f in (tf.reduce_min, tf.reduce_max))
    assert str(highest) in text
    assert str(lowest) in text
    other = ({"user", "tags"} - set(changes)).pop()
    assert other not in text.split("table rows")[1].split("Call arguments")[0]


def test_validation_can_be_left_out():
    layer = embedding(validate_ids=False)
    np.testing.assert_array_equal(layer(batch(user=tf.constant([[6], [0]])))[:, 0], [[1] * 3, [0] * 3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user": tf.constant([[1.0], [2.0]])}, r"feature 'user' must be ids \(int\), got float32"),
        ({"user": tf.constant([["a"], ["b"]])}, r"feature 'user' must be ids \(int\), got string"),
        ({"age": tf.constant([[1], [2]])}, "feature 'age' must be floats, got int32"),
        ({"age": tf.constant([[True], [False]])}, "feature 'age' must be floats, got bool"),
        ({"tags": tf.constant([[1], [2]])}, r"feature 'tags' must have shape \(batch, 2\), .* got \(2, 1\)"),
        (
            {"user": tf.constant([[[1, 2]], [[3, 4]]])},
            r"feature 'user' must have shape \(batch, 1\), or \(lists, items, 1\), got \(2, 1, 2\)",
        ),
    ],
)
def test_wrong_inputs_name_the_feature(changes, message):
    with pytest.raises(ValueError, match=f"FeatureEmbedding: {message}"):
        embedding()(batch(**changes))


def test_missing_and_misspelt_features_are_named():
    features = batch()
    features["usr"] = features.pop("user")
    with pytest.raises(ValueError, match=r"features lack \['user'\]; got \['age', 'tags', 'usr'\]"):
        embedding()(features)


def test_weights_of_a_feature_must_be_there():
    schema = Schema([Feature("tags", "multi", num_values=3, max_length=2, weights="scores")])
    with pytest.raises(ValueError, match=r"features lack \['tags_weights'\]; got \['tags'\]"):
        embedding(schema)({"tags": tf.constant([[1, 2]])})


@pytest.mark.parametrize(
    ("schema", "width", "message"),
    [
        (SCHEMA, 0, "width must be > 0, got 0"),
        (Schema([Feature("click", "numeric", "label")]), 4, "the schema has no model input"),
    ],
)
def test_bad_arguments_are_named(schema, width, message):
    with pytest.raises(ValueError, match=f"FeatureEmbedding: {message}"):
        FeatureEmbedding(schema, width)


def test_unknown_sizes_are_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"'user'.*number of values is unknown; .*data.prepare"):
        FeatureEmbedding(Schema([Feature("user")]), 4).build(None)


def test_batches_of_different_length_are_refused():
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        embedding()(batch(user=tf.constant([[1]])))
