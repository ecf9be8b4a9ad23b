"""Working block by block changes nothing but the time."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.layers import PIN
from xdeepint_ext.utils import blocks


def _run(function, x):
    @tf.function(input_signature=[tf.TensorSpec((None, *x.shape[1:]), x.dtype)])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = blocks.by_blocks(function, x)
        return y, tape.gradient(y, x, tf.cos(y))

    return run(x)


@pytest.mark.parametrize("rows", [1, 3, 8, 21])
def test_values_and_gradients_are_those_of_the_whole(rows, monkeypatch):
    x = tf.constant(np.random.default_rng(rows).normal(size=(rows, 3, 4)), tf.float64)
    expected = _run(lambda x: tf.sin(x) * x, x)
    calls = []

    def function(x):
        calls.append(x.shape)
        return tf.sin(x) * x

    monkeypatch.setattr(blocks, "LEAST_BYTES", 0)
    found = _run(function, x)
    assert len(calls) == blocks.NUM_BLOCKS
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_of_unknown_size_counts_as_4096_examples():
    for width, calls in ((256, 1), (257, blocks.NUM_BLOCKS)):
        seen = []
        _run(lambda x, seen=seen: seen.append(1) or x, tf.ones((2, width)))
        assert len(seen) == calls


def test_a_small_batch_is_not_divided():
    seen = []
    blocks.by_blocks(lambda x: seen.append(len(x)) or x, tf.ones((16, 3)))
    assert seen == [16]


def test_a_large_batch_is_divided():
    seen = []
    blocks.by_blocks(lambda x: seen.append(len(x)) or x, tf.ones((1 << 18, 5)))
    assert seen == [1 << 15] * 8


def test_xla_gets_the_whole():
    seen = []

    @tf.function(jit_compile=True)
    def run(x):
        return blocks.by_blocks(lambda x: seen.append(1) or 2 * x, x)

    run(tf.ones((1 << 18, 5)))
    assert seen == [1]


@pytest.mark.parametrize("options", [{}, {"residual": False}, {"activation": "tanh"}])
def test_training_a_pin_on_blocks_equals_the_whole(options, monkeypatch):
    x = tf.constant(np.random.default_rng(0).normal(size=(37, 5, 4)), tf.float64)
    pin = PIN(2, 2, dtype=tf.float64, **options)

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = pin(x, training=True)
        return [y, *tape.gradient(y, [x, *pin.kernels], tf.sin(y))]

    expected = gradients()
    monkeypatch.setattr(blocks, "LEAST_BYTES", 0)
    for a, b in zip(gradients(), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
