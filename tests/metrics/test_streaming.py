"""Log loss, normalised cross-entropy and calibration error, fed batch by batch, against the array functions."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tests.metrics import reference
from xdeepint_ext import metrics
from xdeepint_ext.metrics import ExpectedCalibrationError, LogLossMetric, NormalizedCrossEntropy

FUNCTIONS = {
    LogLossMetric: metrics.log_loss,
    NormalizedCrossEntropy: metrics.normalized_cross_entropy,
    ExpectedCalibrationError: lambda labels, logits, weights=None: metrics.expected_calibration_error(
        labels, reference.sigmoid(logits), weights, 15, "width"
    ),
}
CLASSES = pytest.mark.parametrize("cls", list(FUNCTIONS))
ERRORS = (ValueError, tf.errors.InvalidArgumentError)


def drawn(seed, size):
    """Labels, of which the first two differ, logits and weights, some of which are 0."""
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, size)]
    return labels, rng.normal(size=size + 2), np.r_[1, 1, rng.integers(0, 3, size)] / 2


def value(cls, *args, dtype="float64", **options):
    metric = cls(dtype=dtype, **options)
    metric.update_state(*args)
    return float(metric.result())


@CLASSES
@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), size=st.integers(0, 40), cut=st.integers(0, 42), column=st.booleans())
def test_batches_equal_the_function_of_arrays(cls, seed, size, cut, column):
    labels, logits, weights = drawn(seed, size)
    metric = cls(dtype="float64")
    for part in (slice(cut, None), slice(0, cut)):
        batch = [x[part, np.newaxis] if column else x[part] for x in (labels, logits, weights)]
        metric.update_state(*batch)
    np.testing.assert_allclose(float(metric.result()), FUNCTIONS[cls](labels, logits, weights), rtol=1e-10, atol=1e-14)
    metric.reset_state()
    metric.update_state(labels, logits)
    np.testing.assert_allclose(float(metric.result()), FUNCTIONS[cls](labels, logits), rtol=1e-10, atol=1e-14)


def test_log_loss_of_probabilities_equals_sklearn():
    labels, logits, weights = drawn(0, 50)
    found = value(LogLossMetric, labels, reference.sigmoid(logits), weights, from_logits=False)
    expected = sklearn_metrics.log_loss(labels, reference.sigmoid(logits), sample_weight=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@CLASSES
def test_logits_and_their_probabilities_agree(cls):
    labels, logits, weights = drawn(0, 50)
    found = value(cls, labels, reference.sigmoid(logits), weights, from_logits=False)
    np.testing.assert_allclose(found, value(cls, labels, logits, weights), rtol=1e-10)


def test_certain_probabilities_are_clipped():
    np.testing.assert_allclose(
        value(LogLossMetric, [1, 0], [0.0, 0.0], from_logits=False),
        (-math.log(1e-7) - math.log1p(-1e-7)) / 2,
        rtol=1e-9,
    )


@pytest.mark.parametrize("bins", [1, 2, 10])
def test_calibration_error_with_probabilities_on_the_edges(bins):
    """0, 1 and the edges between bins, each of which belongs to the bin below."""
    probabilities = np.r_[np.linspace(0, 1, bins + 1), 0.03, 0.97]
    labels = np.arange(len(probabilities)) % 2
    weights = 1.0 + np.arange(len(probabilities))
    found = value(ExpectedCalibrationError, labels, probabilities, weights, bins=bins, from_logits=False)
    expected = metrics.expected_calibration_error(labels, probabilities, weights, bins, "width")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found, reference.calibration_error(labels, probabilities, weights, bins), rtol=1e-12)


@CLASSES
def test_soft_labels(cls):
    labels, logits = np.array([0.2, 0.9, 0.5]), np.array([0.1, 1.0, -1.0])
    np.testing.assert_allclose(value(cls, labels, logits), FUNCTIONS[cls](labels, logits), rtol=1e-12)


@CLASSES
def test_absent_rows_change_nothing(cls):
    labels, logits, weights = drawn(1, 20)
    expected = FUNCTIONS[cls](labels, logits, weights)
    for logit in (np.nan, np.inf, -1e4):
        longer = np.r_[-1, labels, 1], np.r_[logit, logits, logit], np.r_[1, weights, 0]
        np.testing.assert_allclose(value(cls, *longer), expected, rtol=1e-10)


@CLASSES
def test_a_nan_is_not_hidden(cls):
    assert math.isnan(value(cls, [0, 1], [np.nan, 1.0]))
    assert math.isnan(value(cls, [0, np.nan], [0.5, 1.0]))


def test_what_one_class_or_no_row_gives():
    assert value(LogLossMetric, [-1, -1], [0.0, 1.0]) == 0.0
    assert value(ExpectedCalibrationError, [-1, -1], [0.0, 1.0]) == 0.0
    for labels in ([-1, -1], [1, 1], [0, 0]):
        assert math.isnan(value(NormalizedCrossEntropy, labels, [0.0, 1.0]))
    assert float(LogLossMetric().result()) == 0.0


@CLASSES
def test_half_precision_is_computed_in_full(cls):
    labels, logits, _ = drawn(2, 100)
    for dtype in (tf.float16, tf.bfloat16):
        half = tf.cast(logits, dtype)
        expected = FUNCTIONS[cls](labels, tf.cast(half, tf.float64).numpy())
        np.testing.assert_allclose(value(cls, tf.cast(labels, dtype), half), expected, rtol=1e-10)


def test_sums_do_not_stop_to_count():
    """float32 would lose every second row beyond 2^24."""
    metric = LogLossMetric(dtype="float64")
    metric.weight.assign(2.0**24)
    for _ in range(3):
        metric.update_state([1], [0.0])
    np.testing.assert_allclose(float(metric.result()), 3 * math.log(2) / (2**24 + 3), rtol=1e-12)


@CLASSES
def test_unknown_shapes_are_checked_when_it_runs(cls):
    metric = cls()

    @tf.function(input_signature=[tf.TensorSpec((None,)), tf.TensorSpec((None, 1))])
    def update(labels, logits):
        metric.update_state(labels, logits)

    labels, logits, _ = drawn(0, 20)
    update(labels.astype(np.float32), logits[:, np.newaxis].astype(np.float32))
    np.testing.assert_allclose(metric.result(), FUNCTIONS[cls](labels, np.float32(logits)), rtol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="y_pred must have the shape of y_true"):
        update(tf.zeros(3), tf.zeros((2, 1)))


@CLASSES
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([[1, 0]], [[0.5, 0.5]]), r"y_true must have shape \(B,\) or \(B, 1\), got \(1, 2\)"),
        (([1, 0], [0.5]), r"y_pred must have the shape of y_true, \(2,\), got \(1,\)"),
        (([1, 0], [0.5, 0.5], [1.0]), r"sample_weight must have the shape of y_true, \(2,\), got \(1,\)"),
        (([1, 0], [0.5, 0.5], [1.0, -1.0]), "sample_weight must be numbers >= 0, got"),
        (([1, 0], [0.5, 0.5], [1.0, math.nan]), "sample_weight must be numbers >= 0, got"),
        (([1, 2], [0.5, 0.5]), r"y_true must be in \[0, 1\], got"),
    ],
)
def test_bad_input_is_named(cls, args, message):
    with pytest.raises(ERRORS, match=message):
        cls().update_state(*args)


@CLASSES
def test_probabilities_out_of_range_are_named(cls):
    with pytest.raises(ERRORS, match=r"y_pred \(from_logits=False\) must be in \[0, 1\], got"):
        cls(from_logits=False).update_state([1, 0], [0.5, 1.5])


def test_bad_bins_are_named():
    with pytest.raises(ValueError, match="bins must be an integer >= 1, got 0"):
        ExpectedCalibrationError(bins=0)
