"""Early exit against running everything, the specification's A-e and A-f, and what really gets computed."""

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.test_moe import GivenGates
from xdeepint_ext.layers import CrossExpert, EarlyExit, GatedDenseExpert, PINExpert, SparseMoE, TopKGate

BATCH, SIZE, DEPTH = 12, 6, 3
FORMS = ["gather", "dense"]


class Deeper(tf.keras.layers.Layer):
    """A layer that keeps how many rows it got."""

    def __init__(self, seed=0):
        super().__init__(dtype="float64")
        self.cross, self.rows = CrossExpert(dtype="float64"), tf.Variable(0, trainable=False)

    def call(self, inputs):
        self.rows.assign(tf.shape(inputs[0])[0])
        return self.cross(inputs)


def example(seed=0):
    x = np.random.default_rng(seed).normal(size=(BATCH, SIZE))
    x[:, 0] = np.arange(BATCH)
    return x


def exits(gate, dispatch="gather", mode="soft", residual=True):
    estimators = [tf.keras.layers.Dense(1, bias_initializer="normal", dtype="float64") for _ in range(DEPTH)]
    layers = [Deeper() for _ in range(DEPTH)]
    layer = EarlyExit(layers, estimators, gate, residual, mode, dispatch, dtype="float64")
    layer(example())
    return layer


def all_logits(layer, x):
    """(B, L): everything is run."""
    outputs, now = [], tf.constant(x)
    for deeper, estimator in zip(layer.layers, layer.estimators, strict=True):
        output = deeper([now, tf.constant(x)])
        now = now + output if layer.residual else output
        outputs.append(estimator(now).numpy()[:, 0])
    return np.stack(outputs, axis=1)


def two_way(gates, logits):
    """The authors' recursion: at each depth leave with r_0, go on with r_1, both of one sum."""
    value = logits[-1]
    for depth in reversed(range(len(gates) - 1)):
        leave, stay = gates[depth], sum(gates[depth + 1 :])
        value = (leave * logits[depth] + stay * value) / (leave + stay)
    return value


@pytest.mark.parametrize("dispatch", FORMS)
@pytest.mark.parametrize("residual", [True, False])
def test_inference_takes_the_logit_of_the_most_probable_depth(dispatch, residual):  # A-e
    x, gates = example(), np.random.default_rng(1).dirichlet(np.ones(DEPTH), BATCH)
    layer = exits(GivenGates(gates), dispatch, residual=residual)
    expected = all_logits(layer, x)[np.arange(BATCH), gates.argmax(axis=1)]
    np.testing.assert_allclose(layer(x)[:, 0], expected)
    order = np.random.default_rng(2).permutation(BATCH)
    np.testing.assert_allclose(layer([x[order]])[:, 0], expected[order])


@pytest.mark.parametrize("dispatch", FORMS)
def test_training_mixes_the_depths(dispatch):  # A-f
    x, gates = example(), np.random.default_rng(1).dirichlet(np.ones(DEPTH), BATCH)
    gates[:4, 1] = 0  # some depths are not mixed in
    gates /= gates.sum(axis=1, keepdims=True)
    layer = exits(GivenGates(gates), dispatch)
    logits = all_logits(layer, x)
    found = layer(x, training=True)[:, 0]
    np.testing.assert_allclose(found, np.sum(gates * logits, axis=1))
    np.testing.assert_allclose(found, [two_way(g, row) for g, row in zip(gates, logits, strict=True)])


@pytest.mark.parametrize("dispatch", FORMS)
@pytest.mark.parametrize("training", [True, False])
def test_the_authors_sum(dispatch, training):
    x, gates = example(), np.random.default_rng(1).dirichlet(np.ones(DEPTH), BATCH)
    gates[:, 2] = 0
    layer = exits(GivenGates(gates), dispatch, mode="hard")
    found = layer(x, training=training)[:, 0]
    np.testing.assert_allclose(found, all_logits(layer, x)[:, :2].sum(axis=1))


@pytest.mark.parametrize("dispatch", FORMS)
def test_everybody_at_the_last_depth_is_no_early_exit(dispatch):  # A-e
    x, gates = example(), np.tile([0.0, 0.0, 1.0], (BATCH, 1))
    layer = exits(GivenGates(gates), dispatch)
    np.testing.assert_allclose(layer(x)[:, 0], all_logits(layer, x)[:, 2])


def test_deeper_layers_are_not_computed():
    x, depths = example(), np.repeat([0, 1, 2], [6, 4, 2])
    layer = exits(GivenGates(np.eye(DEPTH)[depths]))
    layer.expected_depth.reset_state()
    layer(x)
    assert [int(deeper.rows) for deeper in layer.layers] == [12, 6, 2]
    np.testing.assert_allclose(layer.expected_depth.result(), np.mean(depths + 1), rtol=1e-6)
    layer.gate.table = tf.constant(np.tile([1.0, 0.0, 0.0], (BATCH, 1)))
    layer(x)
    assert [int(deeper.rows) for deeper in layer.layers] == [12, 0, 0]


def test_expected_depth_of_a_mixture():
    gates = np.random.default_rng(1).dirichlet(np.ones(DEPTH), BATCH)
    layer = exits(GivenGates(gates))
    layer.expected_depth.reset_state()
    layer(example(), training=True)
    np.testing.assert_allclose(layer.expected_depth.result(), np.mean(gates @ [1, 2, 3]), rtol=1e-6)
    assert [metric.name for metric in layer.metrics] == ["expected_depth"]


@pytest.mark.parametrize("dispatch", FORMS)
def test_gradients_are_those_of_the_mixture(dispatch):
    x = tf.constant(example())
    gate = TopKGate(DEPTH, k=2, jitter=0.0, balance_weight=0.0, z_weight=0.0, dtype="float64")
    layer = exits(gate, dispatch)

    def whole(x):
        now, total = x, 0
        gates = gate(tf.stop_gradient(x), training=True)
        for depth, (deeper, estimator) in enumerate(zip(layer.layers, layer.estimators, strict=True)):
            now = now + deeper([now, x])
            total += gates[:, depth : depth + 1] * estimator(now)
        return total

    results = []
    for function in (lambda x: layer(x, training=True), whole):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(function(x)))
        results.append([tf.convert_to_tensor(g) for g in tape.gradient(loss, [x, *layer.trainable_weights])])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert all(np.any(gradient) for gradient in results[0])  # the gate learns from the task


def test_only_xla_wants_the_dense_form():
    x, gates = example(), np.random.default_rng(1).dirichlet(np.ones(DEPTH), BATCH)
    layer = exits(GivenGates(gates), "auto")
    found = layer(x)
    rows = [int(deeper.rows) for deeper in layer.layers]
    assert rows[2] == np.sum(gates.argmax(axis=1) == 2) < BATCH
    np.testing.assert_allclose(tf.function(layer, jit_compile=True)(x), found)
    assert [int(deeper.rows) for deeper in layer.layers] == [BATCH] * 3


@pytest.mark.parametrize("dispatch", FORMS)
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_a_nan_gate_shows_in_its_row_alone(dispatch, mode):
    gates = np.eye(DEPTH)[np.arange(BATCH) % 3]
    gates[5] = np.nan
    layer = exits(GivenGates(gates), dispatch, mode)
    for training in (True, False):
        found = np.isnan(layer(example(), training=training).numpy()[:, 0])
        np.testing.assert_array_equal(found, np.arange(BATCH) == 5)


def test_an_empty_batch_and_several_logits():
    layer = EarlyExit([CrossExpert()], [tf.keras.layers.Dense(3)], TopKGate(1, k=1))
    assert layer(tf.ones((2, 4))).shape == (2, 3)
    assert layer(tf.zeros((0, 4)), training=True).shape == (0, 3)


def test_sparse_experts_inside():
    """Both sparsities together equal the dense forms."""
    x = np.random.default_rng(0).normal(size=(40, SIZE))

    def make(dispatch):
        tf.keras.utils.set_random_seed(1)
        layers = [
            SparseMoE(
                [CrossExpert(dtype="float64"), PINExpert(dtype="float64"), GatedDenseExpert(dtype="float64")],
                TopKGate(3, k=2, dtype="float64"),
                dispatch=dispatch,
                dtype="float64",
            )
            for _ in range(DEPTH)
        ]
        estimators = [tf.keras.layers.Dense(1, dtype="float64") for _ in range(DEPTH)]
        return EarlyExit(layers, estimators, TopKGate(DEPTH, k=1, dtype="float64"), dispatch=dispatch, dtype="float64")

    np.testing.assert_allclose(make("gather")(x), make("dense")(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": TopKGate(3, k=1)}, "equally many, one at least; got 2, 2 and 3"),
        ({"estimators": [tf.keras.layers.Dense(1)]}, "equally many, one at least; got 2, 1 and 2"),
        ({"layers": []}, "equally many, one at least; got 0, 2 and 2"),
        ({"mode": "mixed"}, r"mode must be one of \('soft', 'hard'\), got 'mixed'"),
        ({"dispatch": "capacity"}, "dispatch must be one of .* got 'capacity'"),
    ],
)
def test_bad_arguments(options, message):
    parts = {
        "layers": [CrossExpert(), CrossExpert()],
        "estimators": [tf.keras.layers.Dense(1), tf.keras.layers.Dense(1)],
        "gate": TopKGate(2, k=1),
    }
    with pytest.raises(ValueError, match=message):
        EarlyExit(**{**parts, **options})


def test_a_layer_of_another_shape():
    wrong = tf.keras.layers.Lambda(lambda inputs: inputs[0][:, :1], name="short")
    with pytest.raises(ValueError, match=r"layer 'short' must return the shape of its input, \(batch, \(4,\)\)"):
        EarlyExit([wrong], [tf.keras.layers.Dense(1)], TopKGate(1, k=1))(tf.ones((2, 4)))
