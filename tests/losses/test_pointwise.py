"""LogLoss against a loop, on ordinary and on bad input."""

import math

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.losses import LogLoss, log_loss


def one(label, logit):
    """-y log(p) - (1 - y) log(1 - p), p the sigmoid, with the logarithms written so that no p is 0."""
    return label * math.log1p(math.exp(-logit)) + (1 - label) * math.log1p(math.exp(logit))


LABELS = [1.0, 0.0, 0.3, 1.0]
LOGITS = [0.5, -2.0, 3.0, -0.1]
WEIGHTS = [0.5, 2.0, 1.0, 0.0]
LOSSES = [one(label, logit) for label, logit in zip(LABELS, LOGITS, strict=True)]


@pytest.mark.parametrize("label_shape", [(4,), (4, 1)])
@pytest.mark.parametrize("logit_shape", [(4,), (4, 1)])
@pytest.mark.parametrize("weight_shape", [None, (4,), (4, 1)])
def test_mean_in_every_shape(label_shape, logit_shape, weight_shape):
    labels, logits = np.reshape(LABELS, label_shape), np.reshape(LOGITS, logit_shape)
    weights = None if weight_shape is None else np.reshape(WEIGHTS, weight_shape)
    expected = np.mean(np.array(LOSSES) * (1.0 if weights is None else WEIGHTS))
    np.testing.assert_allclose(LogLoss()(labels, tf.constant(logits), weights), expected, rtol=1e-12)
    np.testing.assert_allclose(log_loss(labels, tf.constant(logits), sample_weight=weights), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("sum", sum(LOSSES)), ("none", LOSSES), ("sum_over_batch_size", np.mean(LOSSES)), ("auto", np.mean(LOSSES))],
)
def test_reductions(reduction, expected):
    loss = LogLoss(reduction=reduction)(tf.constant(LABELS, tf.float64), tf.constant(LOGITS, tf.float64))
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_weights_without_reduction():
    found = LogLoss(reduction="none")(np.array(LABELS), tf.constant(LOGITS, tf.float64), np.array(WEIGHTS))
    np.testing.assert_allclose(found, np.array(LOSSES) * WEIGHTS, rtol=1e-12)


def test_labels_below_0_are_missing():
    labels = np.array([1.0, -1.0, 0.3, -1.0])
    logits = tf.Variable(np.array(LOGITS))
    with tf.GradientTape() as tape:
        loss = LogLoss()(labels, logits)
    np.testing.assert_allclose(loss, (LOSSES[0] + LOSSES[2]) / 2, rtol=1e-12)
    assert [bool(g) for g in tape.gradient(loss, logits).numpy()] == [True, False, True, False]
    np.testing.assert_allclose(LogLoss(reduction="none")(labels, logits), [LOSSES[0], 0, LOSSES[2], 0], rtol=1e-12)
    [(_, total, count)] = LogLoss().parts(labels, logits, np.array(WEIGHTS))
    np.testing.assert_allclose(total, LOSSES[0] * WEIGHTS[0] + LOSSES[2] * WEIGHTS[2], rtol=1e-12)
    assert float(count) == 2


def test_nothing_valid_is_0_with_gradient_0():
    logits = tf.Variable([np.inf, 1e4])
    with tf.GradientTape() as tape:
        loss = LogLoss()(tf.constant([-1.0, -1.0]), logits)
    assert float(loss) == 0.0
    np.testing.assert_array_equal(tape.gradient(loss, logits), [0.0, 0.0])


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
def test_large_logits_stay_finite_in_any_precision(dtype):
    logits = tf.Variable(tf.constant([1e4, -1e4, 1e4, -1e4], dtype))
    with tf.GradientTape() as tape:
        loss = LogLoss()(tf.constant([1.0, 0.0, 0.0, 1.0]), logits)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, float(tf.cast(logits[0], tf.float32)) / 2, rtol=1e-6)
    np.testing.assert_array_equal(tf.cast(tape.gradient(loss, logits), tf.float32), [0, 0, 0.25, -0.25])


@pytest.mark.parametrize(("label", "logit", "weight"), [(np.nan, 0.0, 1.0), (1.0, np.nan, 1.0), (1.0, 0.0, np.nan)])
def test_nan_gives_nan(label, logit, weight):
    loss = LogLoss()(tf.constant([label, 1.0]), tf.constant([logit, 1.0]), tf.constant([weight, 1.0]))
    assert np.isnan(float(loss))


def test_whole_number_labels():
    np.testing.assert_allclose(LogLoss()(tf.constant([1, 0]), tf.constant([0.0, 0.0])), math.log(2), rtol=1e-6)


def test_group_ids_change_nothing():
    loss = log_loss(tf.constant(LABELS), tf.constant(LOGITS), group_ids=tf.constant([1, 1, 2, 2]))
    np.testing.assert_allclose(loss, np.mean(LOSSES), rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        (np.ones(3), None, r"y_true must have the shape of y_pred, \(4, 1\), got \(3, 1\)"),
        (np.ones((4, 2)), None, r"y_true must have the shape of y_pred"),
        (np.ones(4), np.ones(5), r"sample_weight must have the shape of y_pred, \(4, 1\), got \(5, 1\)"),
    ],
)
def test_shapes_that_do_not_fit(labels, weights, message):
    with pytest.raises(ValueError, match=message):
        LogLoss()(labels, tf.constant(LOGITS)[:, tf.newaxis], weights)


def test_a_weight_of_positives():
    expected = [
        5 * label * one(1, logit) + (1 - label) * one(0, logit) for label, logit in zip(LABELS, LOGITS, strict=True)
    ]
    loss = LogLoss(pos_weight=5)
    np.testing.assert_allclose(loss(np.array(LABELS), tf.constant(LOGITS, tf.float64)), np.mean(expected), rtol=1e-12)
    again = LogLoss.from_config(loss.get_config())
    np.testing.assert_allclose(again(np.array(LABELS), tf.constant(LOGITS, tf.float64)), np.mean(expected), rtol=1e-12)


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf])
def test_a_weight_of_no_use_is_named(wrong):
    with pytest.raises(ValueError, match="pos_weight must be > 0 and finite, got"):
        LogLoss(pos_weight=wrong)
