"""The dynamic interaction layers against loops, and the specification's identities D-a to D-g."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.layers import PIN, DynamicActivationPIN, DynamicGeneratedPIN, DynamicWeightedPIN
from xdeepint_ext.layers.subspaces import join_subspaces, split_subspaces

MODES = [DynamicActivationPIN, DynamicGeneratedPIN, DynamicWeightedPIN]
each_mode = pytest.mark.parametrize("cls", MODES, ids=lambda cls: cls.__name__)


def field_matrix(batch=3, fields=4, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, fields, width))


def made(cls, *args, x=None, **options):
    layer = cls(*args, dtype="float64", **options)
    layer(field_matrix() if x is None else x)
    return layer


def generated(layer, x, index):
    return layer.generators[index](tf.reshape(x, (len(x), -1))).numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def stacked(x, h):
    """(F, K) -> (F h, K / h), sub-space-major."""
    columns = x.shape[1] // h
    return np.concatenate([x[:, b * columns : (b + 1) * columns] for b in range(h)])


def matrices(layer, made_numbers, index):
    """The instance's own W, and its gates, straight from the paper's equations."""
    if isinstance(layer, DynamicActivationPIN):
        return layer.kernels[index].numpy(), 2 * sigmoid(made_numbers)
    if isinstance(layer, DynamicGeneratedPIN):
        sigma = 2 * sigmoid(made_numbers) if layer.sigma == "two_sigmoid" else 1 + made_numbers
        return layer.left[index].numpy() @ np.diag(sigma) @ layer.right[index].numpy().T, None
    rank = layer.rank
    start = 1 / np.sqrt(rank) if layer.offset == "inverse_root" else 1 / rank
    u, v = np.reshape(made_numbers + start, (2, rank, -1))
    return sum(np.outer(u[p], v[p]) for p in range(rank)) * layer.kernels[index].numpy(), None


def loops(layer, x):
    outputs = []
    for example in range(len(x)):
        first = stacked(x[example], layer.num_subspaces)
        last = first
        for index in range(layer.num_layers):
            numbers = generated(layer, x, 0 if layer.shared_generator else index)[example]
            kernel, gate = matrices(layer, numbers, index)
            mapped = last * (kernel @ first)
            if gate is None:
                last = mapped + last
            elif layer.gate_residual:
                last = (mapped + last) * gate[:, None]
            else:
                last = mapped * gate[:, None] + last
        rows = np.split(last, layer.num_subspaces)
        outputs.append(np.concatenate(rows, axis=1))
    return np.array(outputs)


@pytest.mark.parametrize("subspaces", [1, 2, 6])
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (DynamicActivationPIN, {}),
        (DynamicActivationPIN, {"gate_residual": True}),
        (DynamicGeneratedPIN, {"rank": 3}),
        (DynamicGeneratedPIN, {"rank": 4, "sigma": "two_sigmoid", "shared_generator": True}),
        (DynamicWeightedPIN, {"rank": 1}),
        (DynamicWeightedPIN, {"rank": 3, "offset": "paper"}),
        (DynamicWeightedPIN, {"rank": 2, "shared_generator": True}),
    ],
    ids=str,
)
def test_loops_over_instances(cls, options, subspaces):
    x = field_matrix()
    layer = made(cls, 2, subspaces, reduction_ratio=4, **options)
    np.testing.assert_allclose(layer(x), loops(layer, x), rtol=1e-9, atol=1e-12)


def static(cls, num_layers=2, subspaces=2, **options):
    """A layer whose generators give 0, and a PIN with its kernels."""
    layer = made(cls, num_layers, subspaces, generator_initializer="zeros", **options)
    pin = PIN(num_layers, subspaces, dtype="float64")
    pin(field_matrix())
    return layer, pin


@pytest.mark.parametrize("cls", [DynamicActivationPIN, DynamicWeightedPIN], ids=lambda cls: cls.__name__)
def test_a_generator_of_zeros_is_xdeepint(cls):
    """D-a, D-b, D-d: 2 sigmoid(0) = 1, and R offsets of 1 / sqrt(R) give a G of ones."""
    for options in [{}] if cls is DynamicActivationPIN else [{"rank": r} for r in (1, 2, 4)]:
        layer, pin = static(cls, **options)
        pin.set_weights([kernel.numpy() for kernel in layer.kernels])
        np.testing.assert_allclose(layer(field_matrix()), pin(field_matrix()), rtol=1e-12)


def test_a_full_rank_of_singular_values_is_xdeepint():
    """D-c."""
    layer, pin = static(DynamicGeneratedPIN, rank=8)
    for index, kernel in enumerate(pin.kernels):
        u, values, vt = np.linalg.svd(kernel.numpy())
        layer.left[index].assign(u)
        layer.right[index].assign(vt.T)
        layer.generators[index].output_layer.bias.assign(values - 1)
    np.testing.assert_allclose(layer(field_matrix()), pin(field_matrix()), rtol=1e-9)


def test_gates_of_zero_leave_the_input():
    """D-a."""
    layer, _ = static(DynamicActivationPIN)
    for generator in layer.generators:
        generator.output_layer.bias.assign(np.full(8, -800.0))
    np.testing.assert_allclose(layer(field_matrix()), field_matrix(), rtol=1e-12)


@pytest.mark.parametrize(("rank", "paper"), [(1, 1.0), (2, 0.5), (4, 0.25)])
def test_the_entries_of_g_at_the_start(rank, paper):
    """D-e: near 1 with 1 / sqrt(R), near 1 / R with the printed 1 / R."""
    for offset, entry in (("inverse_root", 1.0), ("paper", paper)):
        layer, pin = static(DynamicWeightedPIN, num_layers=1, rank=rank, offset=offset)
        pin.set_weights([entry * kernel.numpy() for kernel in layer.kernels])
        np.testing.assert_allclose(layer(field_matrix()), pin(field_matrix()), rtol=1e-12)


def test_the_overlap_of_vectors():
    """D-f."""
    summed = DynamicWeightedPIN(1, rank=3, orthogonal_reduction="sum", dtype="float64")
    orthonormal, same = np.eye(3), np.ones((3, 3))
    assert float(summed.overlap(orthonormal)) == 0
    np.testing.assert_allclose(summed.overlap(same), 3.0)
    np.testing.assert_allclose(summed.overlap(np.array([[1.0, 0.0], [0.6, 0.8]])), 0.6)
    np.testing.assert_allclose(summed.overlap(np.array([[1.0, 0.0], [-1.0, 1.0]])), np.sqrt(0.5))
    np.testing.assert_allclose(summed.overlap(same * [[1.0], [-7.0], [0.1]]), 3.0)
    mean = DynamicWeightedPIN(1, rank=3, dtype="float64")
    np.testing.assert_allclose(mean.overlap(np.stack([same, orthonormal])), 0.5)
    assert np.isfinite(mean.overlap(np.zeros((2, 3))))


@pytest.mark.parametrize(("cls", "rank"), [(DynamicGeneratedPIN, 3), (DynamicWeightedPIN, 2)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_penalty_is_added_in_training(cls, rank, reduction):
    x = field_matrix()
    layer = made(cls, 2, 2, rank=rank, orthogonal_rate=0.3, orthogonal_reduction=reduction)
    layer(x, training=True)
    total = 0.0
    for index in range(2):
        if cls is DynamicGeneratedPIN:
            factors = [np.array([w[index].numpy().T]) for w in (layer.left, layer.right)]
        else:
            pairs = np.reshape(generated(layer, x, index) + 1 / np.sqrt(rank), (3, 2, rank, -1))
            factors = [pairs[:, 0], pairs[:, 1]]
        for vectors in factors:
            unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
            cosines = [abs(unit[i, p] @ unit[i, q]) for i in range(len(unit)) for p in range(rank) for q in range(p)]
            total += np.sum(cosines) if reduction == "sum" else np.mean(cosines)
    np.testing.assert_allclose(tf.add_n(layer.losses), 0.3 * total, rtol=1e-9)
    layer(x, training=False)
    assert not layer.losses


@pytest.mark.parametrize("cls", [DynamicGeneratedPIN, DynamicWeightedPIN], ids=lambda cls: cls.__name__)
def test_one_pair_has_no_penalty(cls):
    layer = made(cls, 2, rank=1, orthogonal_rate=0.5)
    layer(field_matrix(), training=True)
    assert not layer.losses


@each_mode
def test_no_gradient_passes_the_generators(cls):
    """D-g: with constant generators the gradient to the input is the same."""
    x = tf.constant(field_matrix())
    layer = made(cls, 2, 2, reduction_ratio=4, **({} if cls is DynamicActivationPIN else {"rank": 3}))
    numbers = [generated(layer, x, index) for index in range(2)]

    def gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function()
        return tape.gradient(y, x, tf.cos(y)).numpy()

    def with_constants():
        last = rows = split_subspaces(x, 2, columns_first=True)
        for index in range(2):
            last = layer.step(index, last, rows, tf.constant(numbers[index]))
        return join_subspaces(last, 2, columns_first=True)

    np.testing.assert_allclose(gradient(lambda: layer(x)), gradient(with_constants), rtol=1e-9)


@each_mode
def test_the_generators_and_all_static_weights_learn(cls):
    layer = made(cls, 2, 2, reduction_ratio=2, **({} if cls is DynamicActivationPIN else {"rank": 3}))
    with tf.GradientTape() as tape:
        y = layer(field_matrix())
    for weight, g in zip(layer.trainable_weights, tape.gradient(y, layer.trainable_weights, tf.cos(y)), strict=True):
        assert np.abs(g).max() > 0, weight.name


def test_shapes_and_groups_of_the_weights():
    from xdeepint_ext.utils.variables import optimizer_group

    layer = made(DynamicGeneratedPIN, 2, 2, rank=3, reduction_ratio=5)
    assert [w.shape for w in layer.left] == [w.shape for w in layer.right] == [(8, 3)] * 2
    assert {optimizer_group(w) for w in layer.left + layer.right} == {"interaction"}
    hidden, output = layer.generators[0].hidden, layer.generators[0].output_layer
    assert (hidden.kernel.shape, output.kernel.shape) == ((24, 24 // 5), (24 // 5, 3))
    assert {optimizer_group(w) for w in layer.generators[0].weights} == {"default"}
    paper = made(DynamicActivationPIN, 1, generator_group="interaction", reduction_ratio=10**6)
    assert {optimizer_group(w) for w in paper.generators[0].weights} == {"interaction"}
    assert paper.generators[0].hidden.units == 1
    assert len(made(DynamicWeightedPIN, 3, shared_generator=True).generators) == 1
    assert layer.generators[1].hidden.kernel.name == f"{layer.name}/generator_1/hidden/kernel:0"


@each_mode
def test_no_layers_change_nothing(cls):
    options = {} if cls is DynamicActivationPIN else {"rank": 3}
    np.testing.assert_array_equal(made(cls, 0, 2, **options)(field_matrix()), field_matrix())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DynamicActivationPIN(-1), "num_layers must be >= 0, got -1"),
        (lambda: DynamicActivationPIN(1, 0), "num_subspaces must be >= 1, got 0"),
        (lambda: DynamicActivationPIN(1, reduction_ratio=0), "reduction_ratio must be >= 1, got 0"),
        (lambda: DynamicActivationPIN(1, orthogonal_rate=-0.1), "orthogonal_rate must be >= 0, got -0.1"),
        (lambda: DynamicWeightedPIN(1, orthogonal_reduction="max"), "orthogonal_reduction must be one of"),
        (lambda: DynamicGeneratedPIN(1, rank=0), "rank must be >= 1, got 0"),
        (lambda: DynamicWeightedPIN(1, rank=0), "rank must be >= 1, got 0"),
        (lambda: DynamicGeneratedPIN(1, sigma="relu"), "sigma must be one of"),
        (lambda: DynamicWeightedPIN(1, offset="one"), "offset must be one of"),
        (lambda: made(DynamicGeneratedPIN, 1, rank=5), "rank must be at most the number of rows 4, got 5"),
        (lambda: made(DynamicWeightedPIN, 1, rank=5), "rank must be at most the number of rows 4, got 5"),
        (lambda: made(DynamicActivationPIN, 1, 4), "num_subspaces must divide the embedding width 6, got 4"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
