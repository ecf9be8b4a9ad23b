"""PIN against loops over the paper's formula, and the identities that the specification lists (T1-T13)."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tests.layers import reference
from xdeepint_ext.layers import PIN, FieldLinearHead
from xdeepint_ext.layers.subspaces import join_subspaces, split_subspaces
from xdeepint_ext.utils.variables import optimizer_group

X = np.array([[[1.0, 2.0], [3.0, 4.0]]])
ACTIVATIONS = {None: reference.linear, "tanh": math.tanh, "relu": lambda value: max(value, 0.0)}


def made(kernels, shape, **options):
    """A float64 PIN with these kernels."""
    layer = PIN(len(kernels), dtype="float64", **options)
    layer.build(shape)
    for variable, kernel in zip(layer.kernels, kernels, strict=True):
        variable.assign(kernel)
    return layer


def run(kernels, x, training=False, **options):
    return made(kernels, x.shape, **options)(tf.constant(x), training=training).numpy()


def drawn(shape, num_layers, num_subspaces, seed=0):
    rng = np.random.default_rng(seed)
    rows = shape[1] * num_subspaces
    return rng.normal(size=shape), rng.normal(size=(num_layers, rows, rows))


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_zero_kernels_change_nothing(num_layers):  # T1
    np.testing.assert_array_equal(run(np.zeros((num_layers, 2, 2)), X), X)


@pytest.mark.parametrize(
    ("kernels", "expected"),
    [
        ([np.eye(2)], X * (1 + X)),
        ([np.eye(2)] * 2, X * (1 + X) ** 2),
        ([np.ones((2, 2))], X * (1 + X.sum(axis=1, keepdims=True))),
        ([[[0.5, -1.0], [2.0, 0.0]]], [[[-1.5, -4.0], [9.0, 20.0]]]),
    ],
    ids=["T2 one layer", "T2 two layers", "T3", "T4"],
)
def test_the_specifications_numbers(kernels, expected):
    np.testing.assert_allclose(run(kernels, X), expected, rtol=1e-15)


def test_t2_and_t3_as_printed():
    np.testing.assert_array_equal(run([np.eye(2)], X), [[[2, 6], [12, 20]]])
    np.testing.assert_array_equal(run([np.eye(2)] * 2, X), [[[4, 18], [48, 100]]])
    np.testing.assert_array_equal(run([np.ones((2, 2))], X), [[[5, 14], [15, 28]]])


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 3),
    fields=st.integers(1, 4),
    num_subspaces=st.sampled_from([1, 2, 3]),
    columns=st.integers(1, 3),
    num_layers=st.integers(0, 3),
    activation=st.sampled_from(list(ACTIVATIONS)),
    residual=st.booleans(),
)
def test_equals_loops(seed, batch, fields, num_subspaces, columns, num_layers, activation, residual):
    x, kernels = drawn((batch, fields, num_subspaces * columns), num_layers, num_subspaces, seed)
    found = run(kernels, x, num_subspaces=num_subspaces, activation=activation, residual=residual)
    expected = reference.pin(x, kernels, num_subspaces, ACTIVATIONS[activation], residual)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_explicit_form():
    """X_L[i, k] = X_0[i, k] prod_r (1 + sum_j W_r[i, j] X_0[j, k]): equation 10."""
    x, kernels = drawn((2, 3, 4), 3, 1)
    product = np.prod([1 + np.einsum("ij,bjk->bik", kernel, x) for kernel in kernels], axis=0)
    np.testing.assert_allclose(run(kernels, x), x * product, rtol=1e-12)


@pytest.mark.parametrize("num_subspaces", [1, 2, 4])
def test_subspaces_are_block_major_and_undone(num_subspaces):  # T6
    x = np.arange(24.0).reshape(2, 3, 4)
    rows = split_subspaces(tf.constant(x), num_subspaces)
    np.testing.assert_array_equal(
        np.swapaxes(rows.numpy(), 1, 2), [reference.split(example, num_subspaces) for example in x]
    )
    stacked = tf.concat(tf.split(tf.constant(x), num_subspaces, axis=2), axis=1)
    np.testing.assert_array_equal(np.swapaxes(rows.numpy(), 1, 2), stacked)
    np.testing.assert_array_equal(join_subspaces(rows, num_subspaces), x)


@pytest.mark.parametrize("num_subspaces", [2, 4])
@pytest.mark.parametrize("residual", [True, False])
def test_equal_blocks_on_the_diagonal_are_the_plain_layer(num_subspaces, residual):  # T6
    x, kernels = drawn((2, 3, 4), 2, 1)
    blocks = [np.kron(np.eye(num_subspaces), kernel) for kernel in kernels]
    crossed = run(blocks, x, num_subspaces=num_subspaces, residual=residual)
    np.testing.assert_allclose(crossed, run(kernels, x, residual=residual), rtol=1e-12)


def test_no_layer_and_the_head_are_a_linear_model():  # T8
    head = FieldLinearHead(dtype="float64")
    head.build((None, 2, 2))
    head.kernel.assign([[0.1], [-0.2]])
    head.bias.assign([0.05])
    linear = (0.1 * X[0, 0] - 0.2 * X[0, 1]).sum() + 2 * 0.05
    np.testing.assert_allclose(head(run([], X)), [[linear]])
    np.testing.assert_allclose(linear, -1.0)


def test_one_bitwise_layer_is_a_cross_layer_without_bias():  # T9
    x, kernels = drawn((3, 2, 4), 1, 4)
    flat = np.swapaxes(x, 1, 2).reshape(3, 8)  # row b F + f of one column each: columns first, then fields
    cross = flat * (flat @ kernels[0].T) + flat  # DCN-V2: x_0 * (W x_l) + x_l
    expected = np.swapaxes(cross.reshape(3, 4, 2), 1, 2)
    np.testing.assert_allclose(run(kernels, x, num_subspaces=4), expected, rtol=1e-12)


def test_permuted_fields_permute_the_output():  # T10
    x, kernels = drawn((2, 4, 3), 2, 1)
    order = np.array([2, 0, 3, 1])
    permuted = run(kernels[:, order][:, :, order], x[:, order])
    np.testing.assert_allclose(permuted, run(kernels, x)[:, order], rtol=1e-12)


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_degree_is_one_more_than_the_layers(num_layers):  # T11
    x, kernels = drawn((1, 3, 4), num_layers, 2)
    degree = num_layers + 1
    points = np.linspace(-1, 1, degree + 3)
    values = np.stack([run(kernels, t * x, num_subspaces=2).ravel() for t in points])
    coefficients = np.polynomial.polynomial.polyfit(points, values, degree + 2)
    np.testing.assert_allclose(coefficients[0], 0, atol=1e-10)
    np.testing.assert_allclose(coefficients[1], x.ravel(), atol=1e-10)
    np.testing.assert_allclose(coefficients[degree + 1 :], 0, atol=1e-9)
    assert np.abs(coefficients[degree]).min() > 1e-6


def test_gradient_at_zero_is_the_identity():  # T12
    _, kernels = drawn((1, 3, 2), 3, 2)
    layer = made(kernels, (1, 3, 2), num_subspaces=2)
    x = tf.Variable(tf.zeros((1, 3, 2), tf.float64))
    with tf.GradientTape() as tape:
        y = layer(x)
    np.testing.assert_array_equal(tf.reshape(tape.jacobian(y, x), (6, 6)), np.eye(6))


def test_examples_do_not_see_each_other():  # T13
    x, kernels = drawn((4, 3, 4), 2, 2)
    alone = np.concatenate([run(kernels, x[i : i + 1], num_subspaces=2) for i in range(4)])
    np.testing.assert_allclose(run(kernels, x, num_subspaces=2), alone, rtol=1e-12)


@pytest.mark.parametrize("num_subspaces", [1, 2])
def test_without_residual_every_layer_is_rearranged_on_its_own(num_subspaces):
    """The authors' code cuts the concatenation of all layers into h pieces, which mixes layers and sub-spaces."""
    x, kernels = drawn((2, 3, 4), 2, num_subspaces)
    found = run(kernels, x, num_subspaces=num_subspaces, residual=False)
    assert found.shape == (2, 9, 4)
    np.testing.assert_array_equal(found[:, :3], x)
    for layers in (1, 2):
        shorter = run(kernels[:layers], x, num_subspaces=num_subspaces, residual=False)
        np.testing.assert_allclose(found[:, 3 * layers : 3 * layers + 3], shorter[:, -3:], rtol=1e-12)


def test_dropout_reaches_the_aggregation_only():
    rate, examples = 0.25, 4000
    ones = np.ones((examples, 1, 1))
    layer = made([[[1.0]]], ones.shape, dropout=rate)
    found = layer(ones, training=True).numpy().ravel()
    kept = 1 + 1 / (1 - rate)
    assert set(np.unique(found)) == {1.0, kept}
    deviation = math.sqrt(rate * (1 - rate) / examples)
    assert abs(np.mean(found == 1.0) - rate) < 5 * deviation
    np.testing.assert_array_equal(layer(ones, training=False), 2 * ones)


def test_dropout_per_layer():
    ones = np.ones((200, 1, 1))
    found = run([[[1.0]]] * 2, ones, training=True, dropout=[0.0, 0.5]).ravel()
    assert set(np.unique(found)) == {2.0, 2.0 * (1 + 1 / 0.5)}


def test_layers_start_from_different_kernels_of_the_interaction_group():
    layer = PIN(2, kernel_initializer=tf.keras.initializers.GlorotUniform(), kernel_regularizer="l2")
    layer(tf.ones((1, 3, 2)))
    first, second = layer.kernels
    assert np.abs(first - second).max() > 0.01
    assert {optimizer_group(kernel) for kernel in layer.kernels} == {"interaction"}
    penalty = 0.01 * sum(np.square(kernel).sum() for kernel in layer.kernels)
    np.testing.assert_allclose(sum(layer.losses), penalty, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": -1}, "num_layers must be >= 0, got -1"),
        ({"num_layers": 1, "num_subspaces": 0}, "num_subspaces must be >= 1, got 0"),
        ({"num_layers": 1, "dropout": 1.0}, "dropout must be a rate in"),
        ({"num_layers": 2, "dropout": [0.1]}, r"each of the 2 layers; got \[0.1\]"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PIN(**arguments)


@pytest.mark.parametrize(
    ("shape", "num_subspaces", "message"),
    [
        ((2, 3, 10), 4, "num_subspaces must divide the embedding width 10, got 4"),
        ((2, 3), 1, r"\(batch, fields, width\).* got \(2, 3\)"),
        ((2, None, 3), 1, "the last two static"),
    ],
)
def test_bad_shapes_are_named(shape, num_subspaces, message):
    with pytest.raises(ValueError, match=f"PIN: .*{message}"):
        PIN(1, num_subspaces).build(tf.TensorShape(shape))
