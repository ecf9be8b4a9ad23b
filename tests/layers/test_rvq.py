"""The quantiser against loops and the specification's numbers: codes, gradients, averages, start, expiry."""

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import rvq_reference as loops
from xdeepint_ext.layers import ResidualVectorQuantizer
from xdeepint_ext.layers.nearest_code import nearest_codes

FAR = (9.0, 9.0)
GIVEN = np.array([[(1, 0), (0, 1), FAR], [(0.2, 0), (0, -0.1), (0, 0)]])  # the specification's C1 and C2
STATE = ("codebooks", "cluster_counts", "cluster_sums", "step")


def vectors(rows=40, width=3, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width))


def quantizer(levels=2, size=4, **options):
    return ResidualVectorQuantizer(levels, size, **{"init": "random_normal", "dtype": "float64", **options})


def given():
    return quantizer(2, 3, init=tf.keras.initializers.Constant(GIVEN))


def state(layer):
    return {name: getattr(layer, name).numpy() for name in STATE}


def same(found, expected, **tolerance):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name, **{"rtol": 0, "atol": 0, **tolerance})


@pytest.mark.parametrize("search", ["fast", "exact"])
def test_the_specification_s_example(search):
    layer = quantizer(2, 3, init=tf.keras.initializers.Constant(GIVEN), search=search)
    found = layer(tf.constant([(1.15, -0.02), (0.3, 0.9)], tf.float64))
    assert found["codes"].numpy().tolist() == [[0, 0], [1, 0]]
    np.testing.assert_allclose(found["quantized"], [(1.2, 0), (0.2, 1.0)])
    squares = (found["residuals"].numpy() ** 2).sum(axis=-1)
    np.testing.assert_allclose(squares, [(1.3229, 0.0229, 0.0029), (0.9, 0.1, 0.02)])


def test_the_gradient_goes_straight_through():
    layer, e = given(), tf.constant([(0.3, 0.9)], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(e)
        loss = tf.reduce_sum(tf.square(layer(e)["quantized"]))
    np.testing.assert_allclose(tape.gradient(loss, e), [(0.4, 2.0)])


def test_nothing_reaches_moving_codebooks():
    layer, e = given(), tf.constant(vectors(width=2))
    with tf.GradientTape() as tape:
        tape.watch(e)
        found = layer(e, training=True)
        loss = sum(tf.reduce_sum(found[name]) for name in ("quantized", "residuals", "perplexity"))
    assert layer.trainable_variables == [] and not layer.losses
    gradients = tape.gradient(loss, [e, *layer.variables[:3]])
    np.testing.assert_array_equal(gradients[0], 1.0)
    assert gradients[1:] == [None] * 3


@pytest.mark.parametrize("search", ["fast", "exact"])
def test_searches_equal_loops_and_take_the_lowest_of_equals(search):
    x, codebook = vectors(60, 4), vectors(7, 4, seed=1)
    expected = [np.argmin(((row - codebook) ** 2).sum(axis=1)) for row in x]
    np.testing.assert_array_equal(nearest_codes(tf.constant(x), tf.constant(codebook), search), expected)
    ties = tf.constant([[2.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    assert nearest_codes(tf.constant([[0.0, 3.0], [1.0, 1.0]]), ties, search).numpy().tolist() == [1, 2]


@pytest.mark.parametrize("jit", [False, True])
def test_averages_equal_loops(jit):
    layer, decay, epsilon = quantizer(decay=0.8, epsilon=0.01, expire_below=0.0), 0.8, 0.01
    call = tf.function(layer, jit_compile=jit)
    layer.build((None, 3))
    codebooks, counts, sums = layer.codebooks.numpy(), None, None
    for batch in range(4):
        x = vectors(seed=batch)
        codes, residuals = loops.quantize(x, codebooks)
        found = call(tf.constant(x), training=True)
        np.testing.assert_array_equal(found["codes"], codes)
        np.testing.assert_allclose(found["residuals"], residuals, rtol=1e-9, atol=1e-12)
        codebooks, counts, sums = loops.moved(x, codebooks, counts, sums, decay, epsilon)
        expected = {"codebooks": codebooks, "cluster_counts": counts, "cluster_sums": sums, "step": batch + 1}
        same(state(layer), expected, rtol=1e-9, atol=1e-12)


def test_perplexity_is_that_of_the_batch():
    layer = given()
    x = tf.constant([(1.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, 1.0)], tf.float64)
    for training in (False, True):
        np.testing.assert_allclose(layer(x, training=training)["perplexity"], [2.0, 1.0])  # all take C2's zero


def test_inference_changes_nothing():
    layer = quantizer(init="kmeans")
    layer(vectors(), training=True)
    before = state(layer)
    layer(vectors(seed=1))
    layer(vectors(seed=2), training=False)
    same(state(layer), before)
    fresh = quantizer(init="kmeans")
    assert not fresh(vectors())["quantized"].numpy().any()  # no codebooks yet


def test_the_start_fits_every_level_to_the_first_batch():
    x = vectors(200)
    layer = quantizer(3, 8, init="kmeans", decay=0.9)
    found = layer(x, training=True)
    squares = (found["residuals"].numpy() ** 2).sum(axis=-1).mean(axis=0)
    assert (np.diff(squares) < 0).all() and squares[-1] < 0.1 * squares[0]
    counts = [np.bincount(codes, minlength=8) for codes in found["codes"].numpy().T]
    same(state(layer), {"cluster_counts": counts, "step": 1}, rtol=1e-12)
    assert np.all(counts)
    started = layer.codebooks.numpy()
    layer(x, training=True)
    assert np.abs(layer.codebooks.numpy() - started).max() < 0.05  # moved on, not started anew


@pytest.mark.parametrize("init", ["kmeans", "random_normal"])
def test_a_later_start_is_a_start_with_a_later_batch(init):
    late, fresh = quantizer(init=init, start_step=2), quantizer(init=init)
    late(vectors(seed=1))
    built = state(late)
    for seed in (1, 2):
        late(vectors(seed=seed), training=True)
    same(state(late), {**built, "step": 2})
    fresh(vectors())
    fresh.set_weights(late.get_weights())
    fresh.step.assign(0)
    for seed in (3, 4):
        ends = [layer(vectors(seed=seed), training=True)["quantized"] for layer in (late, fresh)]
        np.testing.assert_array_equal(*ends)
    same(state(late), {**state(fresh), "step": 4})


def test_kmeans_finds_clusters_that_are_there():
    centres = np.array([(0, 0), (5, 0), (0, 5), (5, 5.0)])
    x = np.repeat(centres, 10, axis=0) + 0.01 * vectors(40, 2)
    layer = quantizer(1, 4, init="kmeans")
    codes = layer(x, training=True)["codes"].numpy().reshape(4, 10)
    assert (codes == codes[:, :1]).all() and len(set(codes[:, 0])) == 4
    means = x.reshape(4, 10, 2).mean(axis=1)
    np.testing.assert_allclose(layer.codebooks.numpy()[0][codes[:, 0]], means, rtol=1e-5, atol=1e-5)


def test_a_codebook_with_zero_never_adds_error():
    layer = quantizer(3, 5)
    layer.build((None, 3))
    codebooks = layer.codebooks.numpy()
    codebooks[:, 2] = 0
    layer.codebooks.assign(codebooks)
    squares = (layer(vectors(300))["residuals"].numpy() ** 2).sum(axis=-1)
    assert (np.diff(squares, axis=1) <= 0).all()


def around_ten(seed):
    return 10 + vectors(40, 2, seed)


def expiring(decay=0.5, **options):
    """Two codes near `around_ten` and two far from it, which become the zero vector, as far from it."""
    codebook = np.array([[(10, 10), (11, 11), (50, 50), (-50, 50.0)]])
    return quantizer(1, 4, init=tf.keras.initializers.Constant(codebook), decay=decay, **options)


def test_a_code_that_hardly_any_row_has_becomes_a_row_of_the_batch():
    layer, batches = expiring(expire_below=0.05), [around_ten(seed) for seed in range(3)]
    for x in batches[:2]:  # 1 / (1 - decay) = 2 steps
        layer(x, training=True)
        assert not layer.codebooks.numpy()[0, 2:].any() and not layer.cluster_counts.numpy()[0, 2:].any()
    found = layer(batches[2], training=True)
    moved, counts, sums = (layer.codebooks.numpy()[0], layer.cluster_counts.numpy()[0], layer.cluster_sums.numpy()[0])
    places = [np.flatnonzero((batches[2] == code).all(axis=1)) for code in moved]
    assert [len(found) for found in places] == [0, 0, 1, 1] and places[2] != places[3]
    np.testing.assert_allclose(counts[2:], 0.05 * 40 / 4)  # all counts are 40 in sum, so the mean is 10
    np.testing.assert_allclose(sums[2:], counts[2:, None] * moved[2:])
    np.testing.assert_array_equal(found["codes"].numpy() < 2, True)  # quantised before they moved


def test_expiry_takes_the_residuals_of_its_own_level():
    layer = quantizer(2, 30, decay=0.0, expire_below=0.9)
    layer(vectors(), training=True)
    before = layer.codebooks.numpy()
    found = layer(vectors(seed=1), training=True)
    for level in range(2):
        residuals = found["residuals"].numpy()[:, level]
        replaced = [code for code in layer.codebooks.numpy()[level] if (residuals == code).all(axis=1).any()]
        assert len(replaced) > 5
    assert not (layer.codebooks.numpy() == before).all()


@pytest.mark.parametrize(("options", "expires"), [({"expire_below": 0.0}, False), ({}, True), ({"decay": 0.9}, False)])
def test_when_codes_expire(options, expires):
    layer = expiring(**options)
    for seed in range(6):
        layer(around_ten(seed), training=True)
    assert layer.cluster_counts.numpy()[0, 2:].all() == expires


def test_a_seed_decides_what_expired_codes_become():
    ends = []
    for seed in (3, 3, 4):
        layer = expiring(seed=seed)
        for batch in range(4):
            layer(around_ten(batch), training=True)
        ends.append(layer.codebooks.numpy())
    np.testing.assert_array_equal(ends[0], ends[1])
    assert (ends[0] != ends[2]).any()


def test_trained_codebooks_follow_vq_vae_s_losses():
    layer = quantizer(codebook_update="gradient", commitment_weight=0.25)
    x = tf.constant(vectors())
    layer.build((None, 3))
    codebooks = layer.codebooks.numpy()
    codes, residuals = loops.quantize(x.numpy(), codebooks)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        found = layer(x, training=True)
        losses = layer.losses
    gaps = residuals[:, 1:]
    expected = [weight * (gaps**2).mean(axis=(0, 2)).sum() for weight in (1, 0.25)]
    np.testing.assert_allclose([float(loss) for loss in losses], expected)
    expected = np.zeros_like(codebooks)
    for row, level in np.ndindex(*codes.shape):
        expected[level, codes[row, level]] -= 2 * gaps[row, level] / x.shape.num_elements()
    np.testing.assert_allclose(tape.gradient(losses[0], layer.codebooks), expected, rtol=1e-9)
    assert tape.gradient(losses[0], x) is None and tape.gradient(losses[1], layer.codebooks) is None
    np.testing.assert_allclose(tape.gradient(losses[1], x), 0.25 * 2 * gaps.sum(axis=1) / x.shape.num_elements())
    np.testing.assert_array_equal(tape.gradient(found["quantized"], x), 1.0)
    assert [v.name.split("/")[-1] for v in layer.trainable_variables] == ["codebooks:0"]
    np.testing.assert_array_equal(layer.codebooks, codebooks)


def test_metrics_tell_how_the_codes_fare():
    layer = expiring(decay=0.5)
    for seed in range(3):
        layer(around_ten(seed), training=True)
    layer(around_ten(9))
    found = {metric.name: float(metric.result()) for metric in layer._metrics}
    assert set(found) == {"perplexity_1", "dead_codes_1", "expired_codes_1"}
    assert 1 < found["perplexity_1"] <= 2
    np.testing.assert_allclose([found["dead_codes_1"], found["expired_codes_1"]], [0.5, 0.5 / 3])
    for metric in layer._metrics:
        metric.reset_state()
    for seed in range(3, 8):
        layer(around_ten(seed), training=True)
    assert float(layer._metrics[1].result()) == 0  # what had expired has rows now
