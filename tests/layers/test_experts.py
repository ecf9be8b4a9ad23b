"""The experts against loops in float64, the specification's cases A-b, and their parameter counts (section 3.6)."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.reference import join, split
from xdeepint_ext.layers import (
    CINExpert,
    ConvExpert,
    CrossExpert,
    GatedDenseExpert,
    InteractionMachineExpert,
    PINExpert,
    SelfAttentionExpert,
)

BATCH, FIELDS, WIDTH = 3, 5, 4
SIZE = FIELDS * WIDTH


def pair(seed=0):
    return np.random.default_rng(seed).normal(size=(2, BATCH, FIELDS, WIDTH))


def made(expert):
    """The expert with random weights, and what it makes of a pair."""
    expert(list(pair()))
    random = np.random.default_rng(1)
    expert.set_weights([random.normal(scale=0.4, size=weight.shape) for weight in expert.weights])
    return expert, expert(list(pair())).numpy()


def affine(x, layer):
    """x W + b as loops."""
    kernel, bias = (np.asarray(weight) for weight in (layer.kernel, layer.bias))
    return np.array([sum(x[i] * kernel[i, j] for i in range(len(x))) + bias[j] for j in range(len(bias))])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def test_cases_of_the_specification():  # A-b
    last, first = np.array([[3.0, 4.0]]), np.array([[1.0, 2.0]])
    cross, pin, gated = CrossExpert(dtype="float64"), PINExpert(dtype="float64"), GatedDenseExpert(dtype="float64")
    for expert in (cross, pin, gated):
        expert([last, first])
    matrix = np.array([[1.0, 0.0], [0.5, -1.0]])
    cross.transform.set_weights([matrix.T, np.array([0.1, 0.2])])
    np.testing.assert_allclose(cross([last, first]), first * (last @ matrix.T + [0.1, 0.2]))
    np.testing.assert_allclose(cross([last, first]), [[3.1, -4.6]])
    pin.kernel.assign([[0.2, 0.4], [1.0, 0.0]])
    np.testing.assert_allclose(pin([last, first]), [[3.0 * (0.2 * 1 + 0.4 * 2), 4.0 * (1.0 * 1)]])
    gated.transform.set_weights([np.array([[1.0, -1.0], [0.5, 0.5]]).T, np.array([0.5, 0.0])])
    gated.gate.set_weights([np.zeros((1, 2)), np.array([0.0, 1.0])])
    expected = [[max(3.0 - 4.0 + 0.5, 0) * 2 * sigmoid(0), (1.5 + 2.0) * 2 * sigmoid(1)]]
    np.testing.assert_allclose(gated([last, first]), expected)
    np.testing.assert_allclose(gated([last, first]), [[0.0, 5.11741005]], atol=1e-8)


def test_gated_dense():
    expert, found = made(GatedDenseExpert(reduction_ratio=4, dtype="float64"))
    for x, start, output in zip(*pair(), found, strict=True):
        x, start = x.ravel(), start.ravel()
        hidden = np.maximum(affine(start, expert.reduce), 0)
        assert len(hidden) == SIZE // 4
        expected = np.maximum(affine(x, expert.transform), 0) * 2 * sigmoid(affine(hidden, expert.gate))
        np.testing.assert_allclose(output.ravel(), expected)


@pytest.mark.parametrize("diag_scale", [0.0, 0.3])
def test_cross(diag_scale):
    expert, found = made(CrossExpert(diag_scale, dtype="float64"))
    for x, start, output in zip(*pair(), found, strict=True):
        mapped = affine(x.ravel(), expert.transform) + diag_scale * x.ravel()
        np.testing.assert_allclose(output.ravel(), start.ravel() * mapped)


@pytest.mark.parametrize("num_subspaces", [None, 1, 2, 4])
def test_pin(num_subspaces):
    expert, found = made(PINExpert(num_subspaces, dtype="float64"))
    kernel = expert.kernel.numpy()
    for x, start, output in zip(*pair(), found, strict=True):
        if num_subspaces is None:
            rows, others = x.reshape(-1, 1), start.reshape(-1, 1)
        else:
            rows, others = split(x, num_subspaces), split(start, num_subspaces)
        expected = np.zeros_like(rows)
        for i, column in itertools.product(*map(range, rows.shape)):
            expected[i, column] = rows[i, column] * sum(kernel[i, j] * others[j, column] for j in range(len(rows)))
        expected = expected.reshape(x.shape) if num_subspaces is None else join(expected, num_subspaces)
        np.testing.assert_allclose(output, expected)


@pytest.mark.parametrize(("units", "kernel_size", "pool_size"), [(None, 4, 2), (9, 3, 2), (7, 2, 3)])
def test_conv(units, kernel_size, pool_size):
    expert, found = made(ConvExpert(units, filters=3, kernel_size=kernel_size, pool_size=pool_size, dtype="float64"))
    kernel, bias = (np.asarray(weight) for weight in (expert.convolution.kernel, expert.convolution.bias))
    for x, output in zip(pair()[0], found, strict=True):
        short = affine(x.ravel(), expert.embed)
        assert len(short) == (units or max(FIELDS // 2, kernel_size + pool_size - 1))
        steps = [
            [sum(short[t + i] * kernel[i, f] for i in range(kernel_size)) + bias[f] for f in range(3)]
            for t in range(len(short) - kernel_size + 1)
        ]
        pools = [
            [max(steps[p * pool_size + i][f] for i in range(pool_size)) for f in range(3)]
            for p in range(len(steps) // pool_size)
        ]
        np.testing.assert_allclose(output.ravel(), affine(np.ravel(pools), expert.expand))


def test_self_attention():
    expert, found = made(SelfAttentionExpert(hidden=6, num_heads=2, dtype="float64"))
    scale, offset = (np.asarray(weight) for weight in (expert.normalization.gamma, expert.normalization.beta))
    for x, output in zip(pair()[0], found, strict=True):
        query, key, value = (
            np.array([gelu(affine(row, layer)) for row in x]) for layer in (expert.query, expert.key, expert.value)
        )
        joined = np.zeros((FIELDS, 6))
        for head in (slice(0, 3), slice(3, 6)):
            for field in range(FIELDS):
                scores = np.array([query[field, head] @ key[other, head] for other in range(FIELDS)]) / math.sqrt(3)
                attention = np.exp(scores) / np.exp(scores).sum()
                joined[field, head] = attention @ value[:, head]
        mixed = np.array([gelu(affine(row, expert.output_layer)) for row in joined])
        normal = (mixed - mixed.mean(axis=0)) / np.sqrt(mixed.var(axis=0) + expert.normalization.epsilon)
        np.testing.assert_allclose(output.ravel(), affine((normal * scale + offset).ravel(), expert.expand))


def test_cin():
    expert, found = made(CINExpert(dtype="float64"))
    kernel = expert.kernel.numpy()
    for x, start, output in zip(*pair(), found, strict=True):
        expected = np.zeros_like(x)
        for out, i, j in itertools.product(range(FIELDS), repeat=3):
            expected[out] += kernel[out, i, j] * x[i] * start[j]
        np.testing.assert_allclose(output, expected)


def test_interaction_machine():
    expert, found = made(InteractionMachineExpert(order=4, dtype="float64"))
    for x, output in zip(pair()[0], found, strict=True):
        polynomials = [
            sum(np.prod(x[list(fields)], axis=0) for fields in itertools.combinations(range(FIELDS), order))
            for order in range(1, 5)
        ]
        np.testing.assert_allclose(output.ravel(), affine(np.ravel(polynomials), expert.expand))


@pytest.mark.parametrize(
    ("expert", "count"),
    [
        (GatedDenseExpert(), 417_126),
        (CrossExpert(), 370_272),
        (PINExpert(), 369_664),
        (ConvExpert(), 90_083),
        (SelfAttentionExpert(), 185_936),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_parameters_of_the_authors_experts(expert, count):
    expert.build([(None, 38, 16), (None, 38, 16)])
    assert expert.count_params() == count


ALL = [
    GatedDenseExpert,
    CrossExpert,
    PINExpert,
    ConvExpert,
    SelfAttentionExpert,
    CINExpert,
    InteractionMachineExpert,
]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_no_row_gives_no_row_and_no_gradient(cls):
    """Nobody may have chosen an expert."""
    expert = cls()
    empty = tf.zeros((0, FIELDS, WIDTH))

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            output = expert([x, x])
            total = tf.reduce_sum(output)
        return output, tape.gradient(total, expert.trainable_weights)

    output, gradients = step(empty)
    assert output.shape == (0, FIELDS, WIDTH)
    assert all(not np.any(gradient) for gradient in gradients)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_inputs_of_different_shapes(cls):
    with pytest.raises(ValueError, match=rf"{cls.__name__}: inputs must be \[x_l, x_0\], both"):
        cls()([tf.ones((2, 3, 4)), tf.ones((2, 4, 3))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GatedDenseExpert(reduction_ratio=0), "reduction_ratio must be >= 1, got 0"),
        (lambda: CrossExpert(diag_scale=-1.0), "diag_scale must be >= 0, got -1.0"),
        (lambda: PINExpert(num_subspaces=0), "num_subspaces must be >= 1, got 0"),
        (lambda: PINExpert(num_subspaces=3).build([(None, 5, 4)] * 2), "num_subspaces must divide the width 4, got 3"),
        (lambda: ConvExpert(units=4), r"units must be >= kernel_size \+ pool_size - 1 = 5, got 4"),
        (lambda: ConvExpert(filters=0), "filters must be >= 1, got 0"),
        (lambda: SelfAttentionExpert(hidden=8, num_heads=3), "num_heads must divide hidden = 8, got 3"),
        (lambda: InteractionMachineExpert(order=0), "order must be >= 1, got 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
