"""The layers of FiBiNET against loops over the paper's formulas."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import reference
from tests.layers.test_heads_and_stacks import randomised
from xdeepint_ext.layers import SENET, BilinearInteraction
from xdeepint_ext.utils.variables import optimizer_group

KINDS = {"field_all": 1, "field_each": 3, "field_interaction": 6}
"""With the number of matrices for four fields."""


@pytest.mark.parametrize(("activation", "function"), [("relu", lambda v: max(v, 0.0)), ("tanh", math.tanh)])
@pytest.mark.parametrize(("ratio", "hidden"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_senet_equals_loops(ratio, hidden, activation, function):
    layer, x = randomised(SENET(ratio, activation, dtype="float64"), (5, 4, 3))
    squeeze, excite = layer.get_weights()
    assert squeeze.shape == (4, hidden)
    found = layer(x).numpy()
    assert found.any()
    np.testing.assert_allclose(found, reference.senet(x, squeeze, excite, function), rtol=1e-10, atol=1e-12)


def test_senet_is_left_to_the_default_optimizer():
    layer = SENET()
    layer(tf.ones((1, 6, 2)))
    assert {optimizer_group(weight) for weight in layer.weights} == {"default"}


@pytest.mark.parametrize(("kind", "matrices"), KINDS.items())
@pytest.mark.parametrize("width", [1, 3])
def test_bilinear_equals_loops(kind, matrices, width):
    layer, x = randomised(BilinearInteraction(kind, dtype="float64"), (2, 4, width))
    assert layer.kernel.shape == (matrices, width, width)
    found = layer(x)
    assert found.shape == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(found, reference.bilinear(x, layer.kernel.numpy(), kind), rtol=1e-10, atol=1e-12)


def test_equal_matrices_are_one_for_all():
    rng = np.random.default_rng(0)
    x, matrix = rng.normal(size=(2, 4, 3)), rng.normal(size=(3, 3))
    found = []
    for kind, matrices in KINDS.items():
        layer = BilinearInteraction(kind, dtype="float64")
        layer.build(x.shape)
        layer.set_weights([np.tile(matrix, (matrices, 1, 1))])
        found.append(layer(x).numpy())
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-12)


def test_matrices_start_as_kernels_of_their_own_in_the_interaction_group():
    layer = BilinearInteraction("field_interaction", kernel_regularizer="l2")
    layer(tf.ones((1, 3, 16)))
    kernel = layer.kernel.numpy()
    limit = math.sqrt(6 / (16 + 16))  # Glorot's
    assert all(0.9 * limit < np.abs(matrix).max() <= limit for matrix in kernel)
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1 * limit
    assert optimizer_group(layer.kernel) == "interaction"
    np.testing.assert_allclose(sum(layer.losses), 0.01 * np.square(kernel).sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SENET(0), "SENET: reduction_ratio must be >= 1, got 0"),
        (lambda: SENET()(tf.ones((2, 4))), r"SENET: inputs must have shape .* got \(2, 4\)"),
        (lambda: BilinearInteraction("all"), r"BilinearInteraction: kind must be one of .*, got 'all'"),
        (lambda: BilinearInteraction()(tf.ones((2, 1, 4))), "BilinearInteraction: wants at least two fields, got 1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
