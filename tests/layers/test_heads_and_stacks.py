"""Heads, the dense stack and the multi-head PIN against loops."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import reference
from xdeepint_ext.layers import MLP, FieldLinearHead, MultiHeadPIN, SumHead
from xdeepint_ext.utils.variables import optimizer_group


def randomised(layer, shape, seed=0):
    """Builds a layer and gives all its weights random values."""
    layer(tf.zeros(shape, layer.compute_dtype))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer, rng.normal(size=shape)


def test_head_counts_the_bias_once_a_column():  # T7 of the specification
    head = FieldLinearHead(dtype="float64")
    head.build((None, 2, 2))
    head.set_weights([np.array([[0.1], [-0.2]]), np.array([0.05])])
    logit = head(tf.constant([[[-1.5, -4.0], [9.0, 20.0]]], tf.float64))
    np.testing.assert_allclose(logit, [[-6.35 + 2 * 0.05]])
    np.testing.assert_allclose(tf.sigmoid(logit), [[0.0019267347]], atol=5e-11)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (0, 2, 3)])
def test_head_equals_loops(shape):
    head, x = randomised(FieldLinearHead(dtype="float64"), shape)
    weights, bias = head.get_weights()
    np.testing.assert_allclose(head(x), reference.field_linear_head(x, weights[:, 0], bias[0]), rtol=1e-12)


def test_sum_head_adds_everything():
    head, x = randomised(SumHead(dtype="float64"), (3, 4, 2))
    expected = [[sum(example.ravel()) + head.bias.numpy()[0]] for example in x]
    np.testing.assert_allclose(head(x), expected, rtol=1e-12)


@pytest.mark.parametrize("head", [FieldLinearHead, SumHead])
def test_heads_stay_in_full_precision(head):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        layer = head()
        logits = layer(tf.fill((1, 400, 16), tf.constant(20.0, tf.float16)))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert logits.dtype == tf.float32
    assert {optimizer_group(weight) for weight in layer.weights} == {"interaction"}
    if head is SumHead:
        np.testing.assert_array_equal(logits, [[400 * 16 * 20.0]])  # beyond float16


def test_head_wants_a_field_matrix():
    with pytest.raises(ValueError, match=r"FieldLinearHead: .*\(batch, fields, width\), got \(2, 3\)"):
        FieldLinearHead()(tf.ones((2, 3)))


@pytest.mark.parametrize(("activation", "function"), [("relu", lambda v: max(v, 0.0)), ("tanh", math.tanh)])
def test_mlp_equals_loops(activation, function):
    layer, x = randomised(MLP([4, 3], activation, dtype="float64"), (2, 3, 2))
    weights = layer.get_weights()
    pairs = [(weights[0], weights[1]), (weights[2], weights[3])]
    np.testing.assert_allclose(layer(x), reference.mlp(x.reshape(2, 6), pairs, function), rtol=1e-12)


def test_mlp_with_a_linear_output_ends_without_activation_and_dropout():
    layer, x = randomised(MLP([4, 3], "relu", 0.5, linear_output=True, dtype="float64"), (2, 5))
    weights = layer.get_weights()
    hidden = reference.mlp(x, [weights[:2]], lambda v: max(v, 0.0))
    expected = reference.mlp(hidden, [weights[2:]], reference.linear)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12)
    assert np.any(expected < 0) and MLP.from_config(layer.get_config()).linear_output
    assert np.all(MLP([200], "relu", 0.5, linear_output=True)(tf.ones((1, 9)), training=True) != 0)


def test_mlp_drops_after_every_layer_in_training_only():
    layer = MLP([300, 200], "linear", dropout=0.5)
    x = tf.ones((4, 3))
    layer(x)
    layer.set_weights([np.ones_like(weight) for weight in layer.get_weights()])
    dropped = layer(x, training=True).numpy()
    assert 0.4 < np.mean(dropped == 0.0) < 0.6
    # 3 inputs and a bias give 4, doubled where kept; the second layer adds the kept ones and its bias, doubled again.
    kept = (dropped[dropped > 0] / 2 - 1) / 8
    np.testing.assert_allclose(kept, np.round(kept))
    np.testing.assert_array_equal(layer(x), np.full((4, 200), 300 * 4 + 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": []}, r"units must be widths > 0, got \[\]"),
        ({"units": [3, 0]}, r"got \[3, 0\]"),
        ({"units": [3], "dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_mlp_names_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"MLP: .*{message}"):
        MLP(**arguments)


def test_multi_head_equals_one_pin_a_head():
    heads = [
        {"num_layers": 2, "num_subspaces": 2},
        {"num_layers": 1, "activation": "tanh"},
        {"num_layers": 1, "residual": False},
    ]
    layer, x = randomised(MultiHeadPIN(heads, head_width=4, dtype="float64"), (2, 3, 5))
    projection, *kernels = (weight.numpy() for weight in layer.weights)
    assert projection.shape == (5, 12)
    parts = [np.array([reference.project(e, projection[:, 4 * i : 4 * i + 4]) for e in x]) for i in range(3)]
    expected = [
        reference.pin(parts[0], kernels[:2], num_subspaces=2),
        reference.pin(parts[1], kernels[2:3], activation=math.tanh),
        reference.pin(parts[2], kernels[3:], residual=False),
    ]
    np.testing.assert_allclose(layer(x), np.concatenate(expected, axis=1), rtol=1e-10, atol=1e-10)
    assert {optimizer_group(weight) for weight in layer.weights} == {"interaction"}


@pytest.mark.parametrize(
    ("heads", "head_width", "message"),
    [
        ([], 4, "heads must not be empty and head_width > 0; got 0, 4"),
        ([{"num_layers": 1}], 0, "got 1, 0"),
        ([{"num_layers": 1, "num_subspaces": 3}], 4, "num_subspaces must divide the embedding width 4, got 3"),
    ],
)
def test_multi_head_names_bad_arguments(heads, head_width, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadPIN(heads, head_width)(tf.ones((1, 2, 3)))
