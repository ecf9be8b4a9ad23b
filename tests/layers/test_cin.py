"""CIN against loops over the paper's formula."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import reference
from tests.layers.test_heads_and_stacks import randomised
from xdeepint_ext.layers import CIN
from xdeepint_ext.layers.cin import compressed_interaction
from xdeepint_ext.utils.variables import optimizer_group


@pytest.mark.parametrize(("rows", "fields", "width", "outputs"), [(3, 4, 2, 5), (1, 1, 1, 1), (2, 3, 4, 1)])
def test_one_layer_equals_loops(rows, fields, width, outputs):
    rng = np.random.default_rng(rows)
    x_l, x_0 = rng.normal(size=(2, rows, width)), rng.normal(size=(2, fields, width))
    kernel = rng.normal(size=(outputs, rows, fields))
    found = compressed_interaction(tf.constant(x_l), tf.constant(x_0), tf.constant(kernel))
    expected = [reference.compressed_interaction(a, b, kernel) for a, b in zip(x_l, x_0, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("split_half", [False, True])
@pytest.mark.parametrize(("activation", "function"), [(None, reference.linear), ("tanh", math.tanh)])
@pytest.mark.parametrize("units", [[4, 2, 3], [3]])
def test_equals_loops(units, split_half, activation, function):
    layer, x = randomised(CIN(units, split_half, activation, dtype="float64"), (3, 3, 2))
    found = layer(x)
    expected = reference.cin(x, [kernel.numpy() for kernel in layer.kernels], split_half, function)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert found.shape == layer.compute_output_shape(x.shape)


def test_one_row_of_ones_is_the_square_of_the_sum():
    """sum_k (sum_i x_ik)^2: the factorisation machine's pairs, each twice, and the squares."""
    layer, x = randomised(CIN([1], dtype="float64"), (3, 4, 2))
    layer.set_weights([np.ones((1, 4, 4))])
    np.testing.assert_allclose(layer(x), np.square(x.sum(axis=1)).sum(axis=1, keepdims=True), rtol=1e-12)


def test_degree_of_a_layer_is_one_more_than_its_number():
    layer, x = randomised(CIN([2, 2, 2], dtype="float64"), (1, 3, 2))
    powers = np.repeat([2.0, 3.0, 4.0], 2)
    np.testing.assert_allclose(layer(2.0 * x), layer(x) * 2.0**powers, rtol=1e-12)


def test_kernels_start_as_dense_ones_of_the_interaction_group():
    layer = CIN([30, 20], kernel_regularizer="l2")
    layer(tf.ones((1, 10, 4)))
    for kernel, inputs, outputs in zip(layer.kernels, (10 * 10, 30 * 10), (30, 20), strict=True):
        limit = math.sqrt(6 / (inputs + outputs))  # Glorot's
        assert 0.95 * limit < np.abs(kernel).max() <= limit
    assert {optimizer_group(kernel) for kernel in layer.kernels} == {"interaction"}
    penalty = 0.01 * sum(np.square(kernel).sum() for kernel in layer.kernels)
    np.testing.assert_allclose(sum(layer.losses), penalty, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": []}, r"units must be numbers of rows > 0, got \[\]"),
        ({"units": [3, 0]}, r"got \[3, 0\]"),
        ({"units": [4, 3, 2], "split_half": True}, r"split_half wants even units .*, got \[4, 3, 2\]"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"CIN: .*{message}"):
        CIN(**arguments)


def test_it_wants_a_field_matrix():
    with pytest.raises(ValueError, match=r"CIN: inputs must have shape \(batch, fields, width\).* got \(2, 3\)"):
        CIN([2])(tf.ones((2, 3)))
