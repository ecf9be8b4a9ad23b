"""Routers: the specification's cases A-a, A-c, A-d, A-g, A-h, A-i, schedules, and what a bad argument says."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.layers import TopKGate
from xdeepint_ext.layers.gating import LEAST_TEMPERATURE, balance_loss, top_k_gates, z_loss


def softmax(x):
    return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)


def reference(logits, k):
    """Row by row: the k largest, of equals the first; their softmax."""
    gates = np.zeros_like(logits)
    for row, values in enumerate(logits):
        kept = sorted(range(len(values)), key=lambda e: (-values[e], e))[:k]
        gates[row, kept] = softmax(values[kept])
    return gates


def inputs(batch=6, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, size))


def test_top_three_of_five():  # A-a
    found = top_k_gates(tf.constant([[1.0, 2.0, 3.0, 4.0, 5.0]], tf.float64), 3)
    np.testing.assert_allclose(found, [[0, 0, *softmax([3.0, 4.0, 5.0])]])
    np.testing.assert_allclose(found, [[0, 0, 0.090031, 0.244728, 0.665241]], atol=1e-6)


def test_ties_go_to_the_lowest_index():  # A-a
    np.testing.assert_array_equal(top_k_gates(tf.ones((1, 4)), 2), [[0.5, 0.5, 0, 0]])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_gates_against_loops(k):
    logits = np.random.default_rng(k).integers(-2, 3, (40, 5)).astype(float)  # many ties
    np.testing.assert_allclose(top_k_gates(tf.constant(logits), k), reference(logits, k), atol=1e-15)
    in_graph = tf.function(lambda x, k: top_k_gates(x, k), jit_compile=True)
    np.testing.assert_allclose(in_graph(tf.constant(logits), tf.constant(k)), reference(logits, k), atol=1e-15)


def test_gates_of_huge_logits_are_finite():
    found = top_k_gates(tf.constant([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]]), 2)
    np.testing.assert_array_equal(found, [[1, 0, 0], [0.5, 0.5, 0]])


def test_a_nan_logit_shows_in_its_row():
    found = top_k_gates(tf.constant([[1.0, np.nan], [1.0, 2.0]]), 1).numpy()
    assert np.isnan(found[0]).any()
    np.testing.assert_array_equal(found[1], [0, 1])


def test_losses_of_the_specification():  # A-c
    logits = np.array([[0.3, 1.2, -0.5], [2.0, 0, 1], [0, 0, 0.1]])
    gates = reference(logits, 1)
    np.testing.assert_allclose((gates > 0).mean(axis=0), [1 / 3] * 3)
    shares = softmax(logits).mean(axis=0)
    np.testing.assert_allclose(balance_loss(tf.constant(gates), tf.constant(logits)), 3 * np.sum(shares / 3))
    prior = [0.5, 0.3, 0.2]
    expected = sum(1 / 3 * share / p for share, p in zip(shares, prior, strict=True))
    found = balance_loss(tf.constant(gates), tf.constant(logits), prior)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found, 1.05946367, atol=1e-8)
    np.testing.assert_allclose(z_loss(tf.constant(logits)), np.mean(np.log(np.exp(logits).sum(axis=1)) ** 2))
    np.testing.assert_allclose(z_loss(tf.constant(logits)), 3.28228638, atol=1e-8)


def test_balanced_routing_to_three_of_five():  # A-d
    logits = 1e-9 * np.array([np.roll([4.0, 3, 2, 1, 0], shift) for shift in range(5)])
    gates = reference(logits, 3)
    np.testing.assert_allclose(balance_loss(tf.constant(gates), tf.constant(logits)), 3.0)
    prior = [0.2, 0.2, 0.4, 0.1, 0.1]
    expected = sum(3 / 5 * 1 / 5 / p for p in prior)
    np.testing.assert_allclose(expected, 3.9)
    np.testing.assert_allclose(balance_loss(tf.constant(gates), tf.constant(logits), prior), expected)


def test_balance_is_one_where_routing_is_the_prior():  # A-i
    prior = np.array([0.5, 0.25, 0.25])
    logits = np.log(np.tile(prior, (4, 1)))
    gates = np.eye(3)[[0, 0, 1, 2]]
    np.testing.assert_allclose(balance_loss(tf.constant(gates), tf.constant(logits), list(prior)), 1.0)


def test_losses_of_an_empty_batch_are_zero():
    empty = tf.zeros((0, 3))
    assert float(balance_loss(empty, empty)) == 0.0
    assert float(z_loss(empty)) == 0.0


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, [0.6, 0.8, -1.0]), (0.5, [1.2, 1.6, -2.0])])
def test_scores_of_the_specification(temperature, expected):  # A-g
    gate = TopKGate(3, k=1, projection_size=2, dtype="float64")
    gate(inputs())
    gate.centroids.assign([[1.0, 0.0], [0.0, 2.0], [-3.0, -4.0]])
    gate.temperature.assign(temperature)
    np.testing.assert_allclose(gate.scores(tf.constant([[3.0, 4.0]], tf.float64)), [expected])


def test_a_temperature_that_learning_took_to_zero_keeps_scores_finite():
    gate = TopKGate(3, k=1)
    gate(inputs().astype(np.float32))
    gate.temperature.assign(0.0)
    found = gate.scores(tf.ones((1, 16))).numpy()
    assert np.abs(found).max() <= 1 / LEAST_TEMPERATURE * (1 + 1e-6)


def test_gate_against_the_formula():
    x = inputs()
    gate = TopKGate(4, k=2, projection_size=3, reduction_ratio=4, dtype="float64")
    found = gate(x)
    w1, b1, w2, b2 = gate.hidden.kernel, gate.hidden.bias, gate.projection.kernel, gate.projection.bias
    assert w1.shape == (8, 2)
    query = np.maximum(x @ w1.numpy() + b1.numpy(), 0) @ w2.numpy() + b2.numpy()
    logits = np.zeros((6, 4))
    for row in range(6):
        for expert in range(4):
            centroid = gate.centroids.numpy()[expert]
            # A query shorter than 0.01 is divided by 0.01, as the layer says.
            length = max(np.linalg.norm(query[row]), 0.01) * np.linalg.norm(centroid)
            logits[row, expert] = query[row] @ centroid / length
    np.testing.assert_allclose(found, reference(logits, 2), atol=1e-12)
    np.testing.assert_allclose(gate(x.reshape(6, 4, 2)), found)


def test_inference_has_no_noise_and_does_not_count():  # A-h
    x = inputs().astype(np.float32)
    gate = TopKGate(4, k=[(2, 4), (5, 2), (6, 1)], jitter=0.5, noise=1.0)
    first = gate(x, training=False)
    np.testing.assert_array_equal(gate(x, training=False), first)
    assert int(gate.step) == 0
    assert gate.losses == []


def test_k_follows_its_schedule():
    x = inputs().astype(np.float32)
    gate = TopKGate(4, k=[(2, 4), (3, 2), (5, 1)], jitter=0.0)
    numbers = [int(np.count_nonzero(gate(x, training=True)[0])) for _ in range(7)]
    assert numbers == [4, 4, 2, 1, 1, 1, 1]
    assert int(np.count_nonzero(gate(x, training=False)[0])) == 1
    assert int(gate.step) == 7


def test_training_jitters_and_adds_its_losses_with_their_weights():
    x = inputs().astype(np.float32)
    gate = TopKGate(4, k=2, prior=[0.4, 0.3, 0.2, 0.1], balance_weight=0.7, z_weight=0.3, jitter=0.0)
    gates = gate(x, training=True)
    logits = gate.scores(gate.projection(gate.hidden(x)))
    expected = [0.7 * balance_loss(gates, logits, [0.4, 0.3, 0.2, 0.1]), 0.3 * z_loss(logits)]
    np.testing.assert_allclose(gate.losses, expected, rtol=1e-6)
    still = TopKGate(4, k=2, balance_weight=0.0, z_weight=0.0)
    first = still(x, training=True)
    assert still.losses == []
    assert np.abs(still(x, training=True) - first).max() > 0


def test_noise_moves_the_logits():
    x = inputs(batch=2000).astype(np.float32)
    gate = TopKGate(2, k=2, jitter=0.0, noise=0.3)
    clean = gate(x, training=False).numpy()
    noisy = gate(x, training=True).numpy()
    shift = np.log(noisy[:, 0] / noisy[:, 1]) - np.log(clean[:, 0] / clean[:, 1])
    # The difference of two draws of deviation 0.3; its standard error over 2,000 rows is 1.6 %.
    np.testing.assert_allclose(shift.std(), 0.3 * np.sqrt(2), rtol=0.08)


def test_jitter_multiplies_by_a_uniform_draw():
    gate = TopKGate(2, k=1, jitter=0.25)
    found = gate._jitter(tf.ones((200, 100)), training=True).numpy()
    assert found.min() >= 0.75
    assert found.max() <= 1.25
    np.testing.assert_allclose(found.var(), 0.5**2 / 12, rtol=0.05)


def test_two_replicas_have_the_losses_of_the_whole_batch(two_replicas):
    x = inputs(batch=8).astype(np.float32)
    with two_replicas.scope():
        gate = TopKGate(3, k=1, prior=[0.5, 0.25, 0.25], jitter=0.0)
        gate(x)
    gate(x, training=True)
    whole = [float(loss) for loss in gate.losses]

    def replica(block):
        gate(block, training=True)
        return [tf.identity(loss) for loss in gate.losses]

    halves = two_replicas.experimental_distribute_dataset(tf.data.Dataset.from_tensors(x).unbatch().batch(8))
    found = tf.function(lambda block: two_replicas.run(replica, (block,)))(next(iter(halves)))
    for expected, per_replica in zip(whole, found, strict=True):
        np.testing.assert_allclose(two_replicas.experimental_local_results(per_replica), [expected] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 6}, r"k must be in 1 \.\. 5, the number of experts; got 6"),
        ({"k": 0}, r"k must be in 1 \.\. 5"),
        ({"k": []}, r"k must be in 1 \.\. 5"),
        ({"k": [(10, 5), (20, 6)]}, r"k must be in 1 \.\. 5"),
        ({"k": [(10, 5), (10, 1)]}, "steps of k must be positive and rise"),
        ({"k": [(0, 5)]}, "steps of k must be positive and rise"),
        ({"k": [(10, 5, 1)]}, r"k must be a whole number, or pairs \(step, k\); got \[\(10, 5, 1\)\]"),
        ({"k": [3, 2]}, r"k must be a whole number, or pairs \(step, k\); got \[3, 2\]"),
        ({"k": 2.5}, r"k must be a whole number, or pairs \(step, k\); got 2.5"),
        ({"prior": [0.5, 0.5]}, r"prior must be 5 positive shares of sum 1, got \[0.5, 0.5\]"),
        ({"prior": [0.3] * 5}, "prior must be 5 positive shares of sum 1"),
        ({"prior": [0.5, 0.5, 0.0, 0.0, 0.0]}, "prior must be 5 positive shares of sum 1"),
        ({"num_experts": 0}, "num_experts must be >= 1, got 0"),
        ({"jitter": 1.5}, r"jitter must be in \[0, 1\], got 1.5"),
        ({"noise": -1.0}, "noise must be >= 0 and finite, got -1.0"),
        ({"balance_weight": float("nan")}, "balance_weight must be >= 0 and finite, got nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TopKGate(**{"num_experts": 5, "k": 2, **arguments})


def test_an_input_of_unknown_size():
    with pytest.raises(ValueError, match=r"TopKGate: inputs must have shape \(batch, n\), n static"):
        TopKGate(3, k=1).build((None, None))
