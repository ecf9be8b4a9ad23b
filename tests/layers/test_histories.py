"""Layers over histories against loops in float64."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.layers import CausalSelfAttention, RecencyPooling

BATCH, LENGTH, WIDTH, HEADS = 3, 5, 6, 2


@pytest.mark.parametrize("learned", [True, False])
def test_pooling_is_a_weighted_mean_of_what_is_there(learned):
    random = np.random.default_rng(0)
    x, lengths = random.normal(size=(4, LENGTH, WIDTH)), np.array([0, 1, 3, LENGTH])
    layer = RecencyPooling(learned, dtype="float64")
    layer([x, lengths])
    w = random.normal(size=LENGTH) if learned else np.zeros(LENGTH)
    if learned:
        layer.recency.assign(w)
    expected = np.zeros((4, WIDTH))
    for row, n in enumerate(lengths):
        a = np.array([np.exp(w[n - 1 - j]) for j in range(n)])
        expected[row] = sum((a[j] / a.sum() * x[row, j] for j in range(n)), np.zeros(WIDTH))
    np.testing.assert_allclose(layer([x, lengths]), expected, atol=1e-12)
    behind = np.where(np.arange(LENGTH)[:, None] < lengths[:, None, None], x, np.nan)
    np.testing.assert_array_equal(layer([behind, lengths]), layer([x, lengths]))
    there = x[np.arange(LENGTH) < lengths[:, None]]
    flat = RecencyPooling(learned, LENGTH, dtype="float64")
    flat([there, lengths])
    flat.set_weights(layer.get_weights())
    np.testing.assert_allclose(flat([there, lengths]), expected, atol=1e-12)
    for one, given in ((layer, x), (flat, there)):
        theory, numeric = tf.test.compute_gradient(lambda v, of=one: of([v, lengths]), [tf.constant(given)])
        np.testing.assert_allclose(theory[0], numeric[0], atol=1e-6)


def test_pooling_needs_its_number_of_places():
    with pytest.raises(ValueError, match="max_length must be >= 1, got 0"):
        RecencyPooling(max_length=0)
    with pytest.raises(ValueError, match="or max_length given"):
        RecencyPooling()([np.ones((2, 3)), np.array([1, 1])])
    with pytest.raises(ValueError, match="max_length is 2, but x has 3 places"):
        RecencyPooling(max_length=2)([np.ones((2, 3, 4)), np.array([1, 1])])


def norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def test_attention_is_the_formula():
    random = np.random.default_rng(1)
    x = random.normal(size=(BATCH, LENGTH, WIDTH))
    layer = CausalSelfAttention(HEADS, hidden=4, dtype="float64")
    layer(x)
    layer.set_weights([w + 0.3 * random.normal(size=w.shape) for w in layer.get_weights()])
    w = {v.name.split(":")[0].partition("/")[2]: v.numpy() for v in layer.weights}
    scale, offset = ([w[f"norm_{i}/{part}"] for i in range(2)] for part in ("gamma", "beta"))
    d = WIDTH // HEADS
    expected = np.zeros_like(x)
    for b in range(BATCH):
        n = norm(x[b]) * scale[0] + offset[0]
        joined = np.zeros((LENGTH, WIDTH))
        for h in range(HEADS):
            part = slice(h * d, (h + 1) * d)
            q, k, v = (n @ w[name][:, part] for name in ("query", "key", "value"))
            for i in range(LENGTH):
                a = np.exp([q[i] @ k[j] / np.sqrt(d) + w["distance_bias"][h, i - j] for j in range(i + 1)])
                joined[i, part] = (a / a.sum()) @ v[: i + 1]
        y = x[b] + joined @ w["output"]
        inner = np.maximum((norm(y) * scale[1] + offset[1]) @ w["inner/kernel"] + w["inner/bias"], 0)
        expected[b] = y + inner @ w["outer/kernel"] + w["outer/bias"]
    np.testing.assert_allclose(layer(x), expected, atol=1e-10)


def test_no_place_sees_a_later_one():
    x = np.random.default_rng(2).normal(size=(BATCH, LENGTH, WIDTH))
    layer = CausalSelfAttention(HEADS, dtype="float64")
    before = layer(x).numpy()
    x[:, 3] += 7.0
    np.testing.assert_array_equal(layer(x)[:, :3], before[:, :3])
    assert not np.allclose(layer(x)[:, 3:], before[:, 3:])


@pytest.mark.parametrize("arguments", [{"num_heads": 0}, {"hidden": 0}, {"dropout": 1.0}])
def test_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        CausalSelfAttention(**arguments)
    with pytest.raises(ValueError, match="num_heads=4 must divide the width 6"):
        CausalSelfAttention(4)(np.zeros((1, 2, 6)))
