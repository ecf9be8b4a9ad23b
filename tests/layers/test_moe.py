"""The sparse mixture against a dense one, loops over rows and experts, and what really gets computed."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.layers import CrossExpert, GatedDenseExpert, PINExpert, SparseMoE, TopKGate

BATCH, SIZE = 12, 6


class GivenGates(tf.keras.layers.Layer):
    """Gates of a table: the first number of a row is its row of the table."""

    def __init__(self, table, k=2):
        super().__init__(dtype="float64")
        self.table, self.num_experts, self.k = tf.constant(table, tf.float64), len(table[0]), k

    def call(self, inputs):
        return tf.gather(self.table, tf.cast(inputs[:, 0], tf.int32))


class Counting(tf.keras.layers.Layer):
    """Returns factor x_l + x_0, and keeps how many rows it got."""

    def __init__(self, factor):
        super().__init__(dtype="float64")
        self.factor, self.rows = factor, tf.Variable(0, trainable=False)

    def call(self, inputs):
        self.rows.assign(tf.shape(inputs[0])[0])
        return self.factor * inputs[0] + inputs[1]


def table(batch=BATCH, experts=4, seed=0):
    """Gates with two experts a row."""
    random = np.random.default_rng(seed)
    gates = np.zeros((batch, experts))
    for row in gates:
        row[random.choice(experts, 2, replace=False)] = (0.7, 0.3)
    return gates


def pair(batch=BATCH, seed=0):
    x, start = np.random.default_rng(seed).normal(size=(2, batch, SIZE))
    start[:, 0] = np.arange(batch)
    return x, start


def loops(gates, experts, x, start, combine):
    expected = np.zeros_like(x)
    for row, weights in enumerate(gates):
        for weight, expert in zip(weights, experts, strict=True):
            if weight > 0:
                output = expert([x[row : row + 1], start[row : row + 1]]).numpy()[0]
                expected[row] += (weight if combine == "weighted" else 1.0) * output
    return expected


@pytest.mark.parametrize("combine", ["weighted", "sum"])
@pytest.mark.parametrize("dispatch", ["auto", "gather", "dense", "capacity"])
def test_against_loops(combine, dispatch):
    gates, (x, start) = table(), pair()
    experts = [CrossExpert(dtype="float64"), PINExpert(dtype="float64")]
    experts += [GatedDenseExpert(2, dtype="float64"), CrossExpert(dtype="float64")]
    moe = SparseMoE(experts, GivenGates(gates), combine, dispatch, capacity_factor=2.0, dtype="float64")
    found = moe([x, start])
    np.testing.assert_allclose(found, loops(gates, experts, x, start, combine))
    order = np.random.default_rng(1).permutation(BATCH)
    np.testing.assert_allclose(moe([x[order], start[order]]), found.numpy()[order])


@pytest.mark.parametrize("dispatch", ["auto", "dense", "capacity"])
def test_static_forms_compile(dispatch):
    gates, inputs = table(), pair()
    moe = SparseMoE([Counting(float(f)) for f in range(4)], GivenGates(gates), "weighted", dispatch, dtype="float64")
    compiled = tf.function(moe, jit_compile=True)
    np.testing.assert_allclose(compiled(list(inputs)), moe(list(inputs)), rtol=1e-12)


def test_only_chosen_rows_are_computed():
    gates, inputs = table(), pair()
    experts = [Counting(float(f)) for f in range(4)]
    SparseMoE(experts, GivenGates(gates), dispatch="gather", dtype="float64")(list(inputs))
    rows = [int(expert.rows) for expert in experts]
    assert rows == list(np.count_nonzero(gates, axis=0))
    assert sum(rows) == 2 * BATCH


def test_all_experts_are_the_dense_mixture():  # A-a
    x, start = pair()
    experts = [CrossExpert(dtype="float64"), PINExpert(dtype="float64"), GatedDenseExpert(dtype="float64")]
    moe = SparseMoE(experts, TopKGate(3, k=3, dtype="float64"), dtype="float64")
    found = moe([x, start])
    gate = moe.gate
    logits = gate.scores(gate.projection(gate.hidden(start))).numpy()
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = sum(weights[:, i : i + 1] * expert([x, start]).numpy() for i, expert in enumerate(experts))
    np.testing.assert_allclose(found, expected)


def test_rows_beyond_the_capacity_are_left_out_and_counted():
    gates = np.zeros((8, 2))
    gates[:, 0] = 1.0
    x, start = pair(8)
    moe = SparseMoE([Counting(2.0), Counting(3.0)], GivenGates(gates, k=1), dispatch="capacity", capacity_factor=1.25)
    found = moe([x, start]).numpy()
    places = 5  # ceil(1.25 * 8 * 1 / 2)
    np.testing.assert_allclose(found[:places], (2 * x + start)[:places], rtol=1e-6)
    np.testing.assert_array_equal(found[places:], 0)
    np.testing.assert_allclose(moe.overflow.result(), (8 - places) / 8, rtol=1e-6)


@pytest.mark.parametrize("dispatch", ["gather", "dense", "capacity"])
def test_gradients_are_those_of_the_dense_mixture(dispatch):
    """Of experts, gate and inputs; in the weighted sum the gate learns from the task."""
    x, start = map(tf.constant, pair())
    experts = [CrossExpert(dtype="float64"), PINExpert(dtype="float64"), GatedDenseExpert(dtype="float64")]
    gate = TopKGate(3, k=2, dtype="float64")
    moe = SparseMoE(experts, gate, "weighted", dispatch, capacity_factor=3.0, dtype="float64")
    moe([x, start])

    def whole(x, start):
        gates = gate(tf.stop_gradient(start))
        return tf.add_n([gates[:, i : i + 1] * expert([x, start]) for i, expert in enumerate(experts)])

    found, expected = [], []
    for function, gradients in ((lambda x, start: moe([x, start]), found), (whole, expected)):
        with tf.GradientTape() as tape:
            tape.watch([x, start])
            loss = tf.reduce_sum(tf.sin(function(x, start)))
        gradients += map(tf.convert_to_tensor, tape.gradient(loss, [x, start, *moe.trainable_weights]))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert all(np.any(gradient) for gradient in found)


def test_the_authors_sum_gives_the_gate_no_gradient():
    x, start = map(tf.constant, pair())
    gate = TopKGate(2, k=1, dtype="float64")
    moe = SparseMoE([CrossExpert(dtype="float64"), PINExpert(dtype="float64")], gate, combine="sum", dtype="float64")
    moe([x, start])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(moe([x, start]))
    gradients = tape.gradient(loss, gate.trainable_weights)
    assert all(gradient is None or not np.any(gradient) for gradient in gradients)


@pytest.mark.parametrize("dispatch", ["gather", "dense", "capacity"])
def test_the_gate_has_no_gradient_to_its_input(dispatch):
    x, start = map(tf.constant, pair())
    only_x = tf.keras.layers.Lambda(lambda inputs: inputs[0])
    moe = SparseMoE([only_x, only_x], TopKGate(2, k=1, dtype="float64"), dispatch=dispatch, dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(start)
        loss = tf.reduce_sum(moe([x, start]))
    gradient = tape.gradient(loss, start)
    assert gradient is None or not np.any(gradient)


@pytest.mark.parametrize("combine", ["weighted", "sum"])
@pytest.mark.parametrize("dispatch", ["gather", "dense", "capacity"])
def test_a_nan_gate_shows_in_its_row_alone(combine, dispatch):
    gates, inputs = table(), pair()
    gates[3] = np.nan
    experts = [Counting(float(f)) for f in range(4)]
    moe = SparseMoE(experts, GivenGates(gates), combine, dispatch, capacity_factor=2.0, dtype="float64")
    found = np.isnan(moe(list(inputs)).numpy()).all(axis=1)
    np.testing.assert_array_equal(found, np.arange(BATCH) == 3)


def test_an_empty_batch():
    moe = SparseMoE([CrossExpert(), PINExpert()], TopKGate(2, k=1))
    assert moe([tf.zeros((0, 3, 2)), tf.zeros((0, 3, 2))], training=True).shape == (0, 3, 2)


def made(**options):
    return SparseMoE(**{"experts": [CrossExpert(), PINExpert()], "gate": TopKGate(2, k=1), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": []}, "experts must be as many as the gate's 2, got 0"),
        ({"experts": [CrossExpert()]}, "experts must be as many as the gate's 2, got 1"),
        ({"combine": "mean"}, r"combine must be one of \('weighted', 'sum'\), got 'mean'"),
        ({"dispatch": "mask"}, "dispatch must be one of .* got 'mask'"),
        ({"capacity_factor": 0.0}, "capacity_factor must be positive and finite, got 0.0"),
        ({"dispatch": "capacity", "gate": tf.keras.layers.Dense(2)}, "needs a gate with an attribute k"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_an_expert_of_another_shape():
    wrong = tf.keras.layers.Lambda(lambda inputs: inputs[0][:, :2], name="short")
    with pytest.raises(ValueError, match=r"expert 'short' must return the shape of x_l, \(batch, \(3, 4\)\)"):
        made(experts=[CrossExpert(), wrong])([tf.ones((2, 3, 4)), tf.ones((2, 3, 4))])
    with pytest.raises(ValueError, match=r"inputs must be \[x_l, x_0\] of shapes \(batch, ...\), static"):
        made().build([(None, None), (None, 3)])
