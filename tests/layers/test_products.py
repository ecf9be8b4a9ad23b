"""The products of PNN against loops over the papers' formulas."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import reference
from tests.layers.test_heads_and_stacks import randomised
from xdeepint_ext.layers import InnerProduct, OuterProduct
from xdeepint_ext.utils.variables import optimizer_group

SHAPES = [(3, 4, 2), (1, 2, 1), (2, 3, 5)]


@pytest.mark.parametrize("self_products", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_inner_products_equal_loops(shape, self_products):
    layer, x = randomised(InnerProduct(self_products, dtype="float64"), shape)
    np.testing.assert_allclose(layer(x), reference.inner_products(x, self_products), rtol=1e-12, atol=1e-14)


def test_inner_products_in_half_precision():
    x = np.random.default_rng(0).normal(size=(2, 5, 16))
    found = InnerProduct(dtype="mixed_float16")(x)
    assert found.dtype == tf.float16
    np.testing.assert_allclose(found, reference.inner_products(x), rtol=0.01, atol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_superposition_equals_loops(shape):
    layer, x = randomised(OuterProduct(dtype="float64"), shape)
    assert not layer.weights
    np.testing.assert_allclose(layer(x), reference.superposition(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["matrix", "vector", "number"])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_products_equal_loops(shape, kind):
    layer, x = randomised(OuterProduct(kind, dtype="float64"), shape)
    expected = reference.kernel_products(x, layer.kernel.numpy(), kind)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-10, atol=1e-12)
    assert optimizer_group(layer.kernel) == "interaction"


def test_kernels_of_ones_are_inner_products():
    for kind, kernel in (("matrix", np.eye(2)), ("vector", np.ones((2, 1))), ("number", [[1.0]])):
        layer, x = randomised(OuterProduct(kind, dtype="float64"), (3, 4, 2))
        layer.set_weights([np.tile(kernel, (6, 1, 1))])
        np.testing.assert_allclose(layer(x), InnerProduct(dtype="float64")(x), rtol=1e-12)


def test_every_pairs_matrix_starts_as_a_kernel_of_its_own():
    layer = OuterProduct("matrix", kernel_regularizer="l2")
    layer(tf.ones((1, 3, 16)))
    kernel = layer.kernel.numpy()
    limit = math.sqrt(6 / (16 + 16))  # Glorot's
    assert all(0.9 * limit < np.abs(matrix).max() <= limit for matrix in kernel)
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1 * limit
    np.testing.assert_allclose(sum(layer.losses), 0.01 * np.square(kernel).sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OuterProduct("tensor"), r"OuterProduct: kind must be one of \('superposition', .*, got 'tensor'"),
        (lambda: OuterProduct("vector")(tf.ones((2, 1, 4))), "OuterProduct: wants at least two fields, got 1"),
        (lambda: InnerProduct()(tf.ones((2, 1, 4))), "InnerProduct: wants at least two fields, got 1"),
        (lambda: InnerProduct()(tf.ones((2, 4))), r"InnerProduct: inputs must have shape .* got \(2, 4\)"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
