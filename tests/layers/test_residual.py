"""Deep Crossing's units against loops over the paper's formula."""

import math

import numpy as np
import pytest

from tests.layers import reference
from tests.layers.test_heads_and_stacks import randomised
from xdeepint_ext.layers import ResidualUnits


def units_of(layer):
    """(W_0, b_0, W_1, b_1) of each unit."""
    return [
        [weight.numpy() for dense in pair for weight in dense.weights]
        for pair in zip(layer.inner, layer.outer, strict=True)
    ]


@pytest.mark.parametrize(("activation", "function"), [("relu", lambda v: max(v, 0.0)), ("tanh", math.tanh)])
@pytest.mark.parametrize(("units", "shape"), [([4, 3], (2, 3, 2)), ([1], (3, 5))])
def test_equals_loops(units, shape, activation, function):
    layer, x = randomised(ResidualUnits(units, activation, dtype="float64"), shape)
    expected = reference.residual_units(x.reshape(len(x), -1), units_of(layer), function)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12)


def test_zero_kernels_leave_what_is_positive():
    layer, x = randomised(ResidualUnits([4, 3], dtype="float64"), (3, 5))
    layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    np.testing.assert_array_equal(layer(x), np.maximum(x, 0))


def test_it_drops_after_every_unit_in_training_only():
    layer = ResidualUnits([2, 2], dropout=0.5)
    layer.build((None, 400))
    layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    x = np.ones((5, 400), np.float32)
    np.testing.assert_array_equal(layer(x), x)
    dropped = layer(x, training=True).numpy()
    assert set(np.unique(dropped)) == {0.0, 4.0}  # doubled by each unit where both keep it
    share, deviation = np.mean(dropped > 0), math.sqrt(0.25 * 0.75 / x.size)
    assert abs(share - 0.25) < 5 * deviation


def test_penalty_covers_all_kernels():
    layer, _ = randomised(ResidualUnits([4, 3], kernel_regularizer="l2"), (2, 5))
    kernels = [unit[index] for unit in units_of(layer) for index in (0, 2)]
    np.testing.assert_allclose(sum(layer.losses), 0.01 * sum(np.square(kernel).sum() for kernel in kernels), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualUnits([]), r"ResidualUnits: units must be widths > 0, got \[\]"),
        (lambda: ResidualUnits([3, 0]), r"ResidualUnits: units must be widths > 0, got \[3, 0\]"),
        (lambda: ResidualUnits([3], dropout=1.0), r"ResidualUnits: dropout must be in \[0, 1\), got 1.0"),
        (lambda: ResidualUnits([3]).build((None, None)), "ResidualUnits: inputs must be static but for the batch"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
