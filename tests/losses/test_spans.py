"""Likelihoods of taggings and spans against their sums."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.losses.spans import span_log_likelihood, tagging_log_likelihood

B, N, TAGS = 4, 5, 3


@pytest.fixture
def case():
    random = np.random.default_rng(2)
    logits = random.normal(size=(B, N, TAGS))
    log_probs = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    taggings = random.integers(0, TAGS, (B, 3, N))
    taggings[1, 2] = taggings[2, 1:] = -1
    mask = random.uniform(size=(B, N)) < 0.7
    return log_probs, taggings, mask


def totals(log_probs, taggings, mask):
    """(B, K): the log-probability of each tagging."""
    value = np.zeros(taggings.shape[:2])
    for b, k, t in np.ndindex(*taggings.shape):
        if taggings[b, k, 0] < 0:
            value[b, k] = -np.inf
        elif mask[b, t]:
            value[b, k] += log_probs[b, t, taggings[b, k, t]]
    return value


@pytest.mark.parametrize(
    ("over", "reduce"),
    [
        ("marginal", lambda sums: np.log(np.exp(sums).sum(axis=1))),
        ("hard_em", lambda sums: sums.max(axis=1)),
        ("first", lambda sums: sums[:, 0]),
    ],
)
def test_log_likelihood(case, over, reduce):
    found = tagging_log_likelihood(*map(tf.constant, case), over)
    np.testing.assert_allclose(found, reduce(totals(*case)))


def test_one_tagging_is_the_sum_of_the_tokens_cross_entropies(case):
    log_probs, taggings, mask = case
    tokens = tf.keras.losses.sparse_categorical_crossentropy(np.maximum(taggings[:, 0], 0), np.exp(log_probs))
    found = tagging_log_likelihood(log_probs, taggings[:, :1], mask)
    np.testing.assert_allclose(-found, (tokens.numpy() * mask).sum(axis=1), rtol=1e-5)


def test_another_tagging_never_raises_the_loss(case):
    log_probs, taggings, mask = case
    losses = [-tagging_log_likelihood(log_probs, taggings[:, :k], mask).numpy() for k in (1, 2, 3)]
    assert (np.diff(losses, axis=0) <= 1e-12).all()


def test_gradient_of_the_marginal(case):
    log_probs, taggings, mask = case
    theory, numeric = tf.test.compute_gradient(
        lambda x: tagging_log_likelihood(tf.nn.log_softmax(x), taggings, mask), [tf.constant(log_probs)]
    )
    np.testing.assert_allclose(theory[0], numeric[0], rtol=1e-5, atol=1e-7)


def test_half_precision_computes_in_float32(case):
    log_probs, taggings, mask = case
    found = tagging_log_likelihood(tf.cast(log_probs, tf.float16), taggings, mask)
    assert found.dtype == tf.float32 and np.isfinite(found).all()


def test_unknown_reduction(case):
    with pytest.raises(ValueError, match="over must be one of"):
        tagging_log_likelihood(*case, "mean")


def test_spans():
    random = np.random.default_rng(3)
    log_probs = np.log(random.dirichlet(np.ones(4), (2, 2)).transpose(0, 2, 1))
    spans = np.array([[[0, 1], [2, 2]], [[1, 3], [-1, -1]]])
    p = np.exp(log_probs)
    expected = [p[0, 0, 0] * p[0, 1, 1] + p[0, 2, 0] * p[0, 2, 1], p[1, 1, 0] * p[1, 3, 1]]
    np.testing.assert_allclose(np.exp(span_log_likelihood(tf.constant(log_probs), spans)), expected)
