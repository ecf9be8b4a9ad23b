"""ARF against loops."""

import numpy as np
import pytest
import tensorflow as tf

from tests.losses import reference
from xdeepint_ext.losses import ARFLoss

RANDOM = np.random.default_rng(0)
LOGITS, LABELS = RANDOM.normal(size=(5, 6)), RANDOM.integers(0, 4, (5, 6)).astype(float)
LABELS[1] = 0.0  # does not count
LABELS[2, 1:4] = -1.0  # three items are left: not more than m
LABELS[3, 0] = -1.0
WEIGHTS = RANDOM.uniform(0.5, 2.0, (5, 6))


def expected(normalize: bool, log_weight: float = 0.0, weights=None) -> float:
    found = []
    for y, s, w in zip(LABELS, LOGITS, np.ones_like(LOGITS) if weights is None else weights, strict=True):
        there = y >= 0
        if (y > 0).any():
            relaxed, total = reference.arf(y[there], s[there], w[there], 2, 3, 0.7, 0.3, normalize)
            found.append(relaxed + total / (2 * np.exp(2 * log_weight)) + log_weight)
    return float(np.mean(found))


def make(normalize: bool) -> ARFLoss:
    return ARFLoss(2, 3, temperature=0.7, label_temperature=0.3, normalize=normalize, dtype="float64")


@pytest.mark.parametrize("normalize", [True, False])
def test_loops(normalize: bool):
    np.testing.assert_allclose(make(normalize)(LOGITS, LABELS), expected(normalize), rtol=1e-9)
    np.testing.assert_allclose(make(normalize)(LOGITS, LABELS, WEIGHTS), expected(normalize, 0.0, WEIGHTS), rtol=1e-9)


def test_the_scalar_is_learned():
    layer = make(True)
    layer(LOGITS, LABELS)
    layer.log_weight.assign(0.4)
    with tf.GradientTape() as tape:
        value = layer(LOGITS, LABELS)
    np.testing.assert_allclose(value, expected(True, 0.4), rtol=1e-9)
    slope = (expected(True, 0.4 + 1e-5) - expected(True, 0.4 - 1e-5)) / 2e-5
    np.testing.assert_allclose(tape.gradient(value, layer.log_weight), slope, rtol=1e-6)


def test_ragged_lists():
    lengths = np.array([6, 2, 4, 5, 0])
    dense = np.where(np.arange(6) < lengths[:, None], np.abs(LABELS), -1.0)
    logits, labels = (tf.RaggedTensor.from_tensor(x, lengths) for x in (LOGITS, np.abs(LABELS)))
    np.testing.assert_allclose(make(True)(logits, labels), make(True)(LOGITS, dense), rtol=1e-12)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
def test_finite_on_bad_lists(dtype: tf.DType, jit: bool):
    for normalize in (True, False):
        layer = ARFLoss(1, 2, normalize=normalize)
        layer(tf.zeros((1, 4)), tf.zeros((1, 4)))

        @tf.function(jit_compile=jit)
        def run(logits, labels, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = layer(logits, labels)
            return value, *tape.gradient(value, [logits, layer.log_weight])

        for labels in ([-1.0] * 4, [1.0, -1, -1, -1], [1.0] * 4, [0.0] * 4, [1.0, 0, 1, 0]):
            for logits in ([0.5] * 4, [1e4, 1e4, -1e4, -1e4]):
                for found in run(tf.constant([logits], dtype), tf.constant([labels])):
                    assert np.isfinite(found.numpy()).all(), (labels, logits)


def test_nan_is_not_hidden():
    assert np.isnan(ARFLoss(1, 2)(tf.constant([[np.nan, 0.0, 1.0]]), tf.constant([[1.0, 0.0, 0.0]])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0, "supply_m": 2}, "1 <= top_k <= supply_m"),
        ({"top_k": 3, "supply_m": 2}, "1 <= top_k <= supply_m"),
        ({"top_k": 1, "supply_m": 2, "temperature": 0.0}, "temperature must be > 0"),
        ({"top_k": 1, "supply_m": 2, "label_temperature": -1.0}, "label_temperature must be > 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ARFLoss(**options)


def test_lists_must_be_longer_than_what_is_supplied():
    with pytest.raises(ValueError, match="supply_m must be below the lists' length 3, got 3"):
        ARFLoss(1, 3)(tf.zeros((2, 3)), tf.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"logits must be \(B, L\), got \(3,\)"):
        ARFLoss(1, 2)(tf.zeros(3), tf.zeros(3))
