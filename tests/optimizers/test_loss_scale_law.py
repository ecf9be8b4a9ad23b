"""The law, on both optimizers it is for, and the presets that rest on it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers import reference
from xdeepint_ext.optimizers import GroupFtrl, ftrl_for_mean_loss, group_ftrl_for_mean_loss, paper_optimizers

BATCH = 4096  # a power of two, by which division is exact: the weights then agree in every bit


def train(optimizer, gradients, scale):
    rng = np.random.default_rng(0)
    table = tf.Variable(rng.normal(size=(6, 4)).astype(np.float32))
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant((gradient * scale).astype(np.float32)), table)])
    return table.numpy()


def gradients():
    return np.random.default_rng(1).normal(size=(5, 6, 4)) * 30


def test_group_ftrl_on_the_mean_equals_the_sum():
    """G4."""
    on_sum = train(GroupFtrl(0.02, 1.0, 10.0, 10.0), gradients(), 1)
    on_mean = train(GroupFtrl.from_sum_loss(global_batch=BATCH), gradients(), 1 / BATCH)
    np.testing.assert_array_equal(on_mean, on_sum)
    assert np.any(on_sum != 0)


def test_ftrl_on_the_mean_equals_the_sum():
    constants = {"l1_regularization_strength": 0.5, "l2_regularization_strength": 0.1, "beta": 0.25}
    on_sum = train(tf.keras.optimizers.Ftrl(0.02, **constants), gradients(), 1)
    converted = ftrl_for_mean_loss(global_batch=BATCH, **constants)
    on_mean = train(tf.keras.optimizers.Ftrl(0.02, **converted), gradients(), 1 / BATCH)
    np.testing.assert_allclose(on_mean, on_sum, rtol=1e-5)
    unconverted = train(tf.keras.optimizers.Ftrl(0.02, **constants), gradients(), 1 / BATCH)
    assert not np.allclose(unconverted, on_sum, rtol=0.1)


def test_ftrl_worked_example():
    """F1 of the specification: the formula that the preset's FTRL has."""
    constants = {"learning_rate": 0.02, "l1": 0.1, "l2": 0.1}
    w, n, z = [0.5, -0.25, 0.1], [0.1] * 3, [0.0] * 3
    variable = tf.Variable(w)
    optimizer = tf.keras.optimizers.Ftrl(0.02, l1_regularization_strength=0.1, l2_regularization_strength=0.1)
    expected = [
        [0.32702094, -0.09544038, 0],
        [0.32328858, -0.10180474, 0],
        [0.32328858, -0.10180474, 0.01914027],
    ]
    for g, after in zip([[1, -0.5, 0.01], [0.2, 0.2, 0], [0, 0, -3]], expected, strict=True):
        w, n, z = reference.ftrl(w, n, z, g, **constants)
        np.testing.assert_allclose(w, after, atol=5e-9)
        optimizer.apply_gradients([(tf.constant(g, tf.float32), variable)])
        np.testing.assert_allclose(variable, after, rtol=2e-6, atol=1e-8)


def test_presets_hold_the_papers_constants():
    """X1 and X2 of the specification."""
    for preset, rate in (("code", 0.02), ("paper", 0.01)):
        optimizers = paper_optimizers(1024, preset=preset)
        assert list(optimizers) == ["embedding", "interaction", "default"]
        embedding, interaction = optimizers["embedding"].get_config(), optimizers["interaction"].get_config()
        assert {
            "alpha": rate,
            "beta": 1 / 1024,
            "lambda1": 10 / 1024,
            "lambda2": 10 / 1024,
        }.items() <= embedding.items()
        assert interaction["learning_rate"] == pytest.approx(rate)
        assert interaction["learning_rate_power"] == -0.5
        assert interaction["l1_regularization_strength"] == 0.1 / 1024
        assert interaction["l2_regularization_strength"] == 0.1 / 1024
        assert interaction["initial_accumulator_value"] == 0.1 / 1024**2
        assert isinstance(optimizers["default"], tf.keras.optimizers.Adam)
        assert optimizers["default"].get_config()["learning_rate"] == pytest.approx(0.001)


def test_defaults_are_the_authors_at_their_batch():
    assert GroupFtrl().get_config() == GroupFtrl.from_sum_loss(global_batch=4096).get_config()


@pytest.mark.parametrize("batch", [0, -4, 2.5, True, None])
def test_a_batch_size_that_is_none(batch):
    message = f"global_batch must be a positive integer, got {batch!r}"
    with pytest.raises(ValueError, match=message):
        group_ftrl_for_mean_loss(global_batch=batch, beta=1.0, lambda1=1.0, lambda2=1.0)
    with pytest.raises(ValueError, match=message):
        ftrl_for_mean_loss(global_batch=batch)


def test_an_unknown_preset():
    with pytest.raises(ValueError, match=r"preset must be one of \['code', 'paper'\], got 'papr'"):
        paper_optimizers(1024, preset="papr")
