"""Recall, hit rate and NDCG of lists against loops over all orders of tied items, scikit-learn and TF-Ranking."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from tests.metrics import reference
from xdeepint_ext.metrics import HitRateAtK, NDCGAtK, RecallAtK
from xdeepint_ext.utils.tf_ranking import import_tensorflow_ranking

VARIANTS = {
    "recall": (RecallAtK, {}),
    "pooled recall": (RecallAtK, {"average": "pooled"}),
    "hit_rate": (HitRateAtK, {}),
    "ndcg": (NDCGAtK, {}),
    "linear ndcg": (NDCGAtK, {"gain": "linear"}),
    "legacy ndcg": (NDCGAtK, {"legacy": True}),
}
ERRORS = (ValueError, tf.errors.InvalidArgumentError)


def value(name, k, *args, **kwargs):
    cls, options = VARIANTS[name]
    metric = cls(k, dtype="float64", **options)
    metric.update_state(*args, **kwargs)
    return float(metric.result())


def expected(name, k, labels, scores, weights=None):
    return reference.top_k(name.split()[-1], labels, scores, k, weights, **VARIANTS[name][1])


def drawn(seed, lists, length, levels=3, weighting=None):
    """Labels with padding and grades, scores of few values so that many tie, weights some of which are 0."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, (lists, length)).astype(np.float64)
    scores = rng.integers(0, levels, (lists, length)) / 2
    weights = {
        None: None,
        "lists": rng.integers(0, 3, lists) / 2,
        "items": rng.integers(0, 4, (lists, length)) / 2,
    }[weighting]
    return labels, scores, weights


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    name=st.sampled_from(list(VARIANTS)),
    seed=st.integers(0, 2**32 - 1),
    lists=st.integers(1, 4),
    length=st.integers(1, 6),
    k=st.integers(1, 6),
    levels=st.integers(1, 9),
    weighting=st.sampled_from([None, "lists", "items"]),
)
def test_equals_loops_over_all_orders_of_ties(name, seed, lists, length, k, levels, weighting):
    k = min(k, length)
    labels, scores, weights = drawn(seed, lists, length, levels, weighting)
    by_item = np.broadcast_to(weights[:, np.newaxis], labels.shape) if weighting == "lists" else weights
    np.testing.assert_allclose(
        value(name, k, labels, scores, sample_weight=weights), expected(name, k, labels, scores, by_item), atol=1e-10
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_batches_in_any_order_equal_all_at_once(name):
    labels, scores, weights = drawn(1, 12, 5, weighting="items")
    cls, options = VARIANTS[name]
    metric, parts = cls(3, dtype="float64", **options), [slice(7, 12), slice(0, 1), slice(1, 7)]
    for part in parts:
        metric.update_state(labels[part], scores[part], weights[part])
    np.testing.assert_allclose(float(metric.result()), expected(name, 3, labels, scores, weights), rtol=1e-12)
    metric.reset_state()
    metric.update_state(labels[:5], scores[:5])
    np.testing.assert_allclose(float(metric.result()), expected(name, 3, labels[:5], scores[:5]), rtol=1e-12)


def test_ndcg_equals_sklearn_which_averages_ties_too():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 5, (30, 12)), rng.integers(0, 6, (30, 12))
    labels[:, 0] = 1  # scikit-learn counts a list without positives as 0, here it is left out
    weights = rng.uniform(0.5, 2, 30)
    for k in (1, 5, 12):
        found = value("linear ndcg", k, labels, scores, sample_weight=weights)
        np.testing.assert_allclose(found, ndcg_score(labels, scores, k=k, sample_weight=weights), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_ndcg_and_recall_equal_tf_ranking_where_nothing_ties(weighted):
    tfr = import_tensorflow_ranking().keras.metrics
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, (20, 9)).astype(np.float32)
    labels[:, 0] = 1  # TF-Ranking gives lists without positives a weight of their own
    scores = rng.normal(size=(20, 9)).astype(np.float32)
    weights = rng.uniform(0.5, 2, (20, 9)).astype(np.float32) if weighted else None
    theirs = tfr.NDCGMetric(topn=4)(labels, scores, weights)
    np.testing.assert_allclose(value("ndcg", 4, labels, scores, sample_weight=weights), theirs, rtol=1e-5)
    if not weighted:
        np.testing.assert_allclose(
            value("recall", 4, labels, scores), tfr.RecallMetric(topn=4)(labels, scores), rtol=1e-5
        )


@pytest.mark.parametrize("name", VARIANTS)
def test_a_constant_score_is_as_good_as_chance_wherever_the_positives_are(name):
    ends = [value(name, 2, [labels], [[0.5] * 4]) for labels in ([1, 0, 0, 0], [0, 0, 0, 1])]
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)
    if "ndcg" not in name:
        assert ends[0] == pytest.approx(2 / 4, rel=1e-12)


def test_legacy_ndcg_forgets_the_positives_that_were_missed():
    labels, scores = [[1, 0, 1, 1]], [[4.0, 3.0, 2.0, 1.0]]
    assert value("legacy ndcg", 2, labels, scores) == 1.0
    np.testing.assert_allclose(value("ndcg", 2, labels, scores), 1 / (1 + 1 / math.log2(3)), rtol=1e-12)


def test_a_tie_of_many_items_stays_exact():
    """One positive among 10,000 ties."""
    labels = np.zeros((1, 10_000))
    labels[0, 77] = 1
    for name in ("recall", "hit_rate"):
        np.testing.assert_allclose(value(name, 500, labels, np.zeros_like(labels)), 500 / 10_000, rtol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_and_weight_0_change_nothing(name):
    labels, scores, _ = drawn(3, 6, 5)
    alone = expected(name, 3, labels, scores)
    for padding in (-np.inf, np.nan, 1e4):
        longer = np.c_[np.full((6, 2), padding), scores]
        padded = np.c_[np.full((6, 2), -1), labels]
        np.testing.assert_allclose(value(name, 3, padded, longer), alone, rtol=1e-12)
        weights = np.c_[np.zeros((6, 2)), np.ones((6, 5))]
        unweighted = np.c_[np.full((6, 2), 1), labels]
        np.testing.assert_allclose(value(name, 3, unweighted, longer, sample_weight=weights), alone, rtol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_infinite_scores_are_scores(name):
    labels = [[-1, 1, 0, 1], [1, 0, 0, -1]]
    scores = [[5.0, -np.inf, -np.inf, np.inf], [-np.inf, np.inf, 0.0, 0.0]]
    np.testing.assert_allclose(value(name, 2, labels, scores), expected(name, 2, labels, scores), rtol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_nan_is_not_hidden(name):
    for labels, scores in (([[0, 1], [0, 0]], [[1, 2], [np.nan, 0]]), ([[np.nan, 0], [0, 1]], [[1, 2], [2, 1]])):
        assert math.isnan(value(name, 1, labels, scores))


@pytest.mark.parametrize("name", VARIANTS)
def test_ragged_lists_are_padded(name):
    labels = tf.ragged.constant([[1.0, 0.0], [0.0, 1.0, 2.0], [0.0]])
    scores = tf.ragged.constant([[1.0, 2.0], [3.0, 3.0, 1.0], [0.0]])
    dense = labels.to_tensor(-1).numpy(), scores.to_tensor(0).numpy()
    for k in (2, 7):
        np.testing.assert_allclose(value(name, k, labels, scores), expected(name, k, *dense), rtol=1e-12)
    weights = tf.ragged.constant([[2.0, 1.0], [0.0, 1.0, 1.0], [1.0]])
    found = value(name, 2, labels, scores, sample_weight=weights)
    np.testing.assert_allclose(found, expected(name, 2, *dense, weights.to_tensor(0).numpy()), rtol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_half_precision_and_unknown_shapes(name):
    labels, scores, _ = drawn(4, 6, 5)
    alone = expected(name, 3, labels, scores)
    for dtype in (tf.float16, tf.bfloat16):
        np.testing.assert_allclose(value(name, 3, tf.cast(labels, dtype), tf.cast(scores, dtype)), alone, rtol=1e-12)
    cls, options = VARIANTS[name]
    metric = cls(3, **options)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float64)] * 2)
    def update(labels, scores):
        metric.update_state(labels, scores)

    update(labels, scores)
    np.testing.assert_allclose(metric.result(), alone, rtol=1e-6)
    with pytest.raises(ERRORS, match="must be at most the length of the lists"):
        update(labels[:, :2], scores[:, :2])
    with pytest.raises(ERRORS, match="y_pred must have the shape of y_true"):
        update(labels, scores[:, :4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "recall_at_0: k must be an integer >= 1, got 0"),
        ({"k": 2.0}, "k must be an integer >= 1, got 2.0"),
        ({"k": 2, "average": "users"}, r"average must be one of \('lists', 'pooled'\), got 'users'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RecallAtK(**options)


def test_a_bad_gain_is_named():
    with pytest.raises(ValueError, match=r"gain must be one of \('exponential', 'linear'\), got 'log'"):
        NDCGAtK(3, gain="log")


SQUARE = np.ones((2, 3))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((SQUARE[0], SQUARE[0]), r"y_true must have shape \(B, L\), got \(3,\)"),
        ((SQUARE, SQUARE[:, :2]), r"y_pred must have the shape of y_true, \(2, 3\), got \(2, 2\)"),
        ((SQUARE[:, :1], SQUARE[:, :1]), "k=2 must be at most the length of the lists, got 1"),
        ((SQUARE, SQUARE, [1.0] * 3), r"sample_weight must have the shape of y_true, \(2, 1\), got \(3, 1\)"),
        ((SQUARE, SQUARE, SQUARE[:, :2]), r"sample_weight must have the shape of y_true, \(2, 3\), got \(2, 2\)"),
        ((SQUARE, SQUARE, SQUARE[np.newaxis]), r"sample_weight must have shape \(B,\), \(B, 1\) or \(B, L\), got"),
        ((SQUARE, SQUARE, [-1.0, 1.0]), "sample_weight must be numbers >= 0, got"),
        ((tf.ragged.constant([[1, 0]]), tf.ragged.constant([[1.0], [2.0]])), "y_pred"),
        ((tf.ragged.constant([[1, 0], [1]]), tf.ragged.constant([[1.0], [1.0, 2.0]])), "must be as long"),
    ],
)
def test_bad_input_is_named(args, message):
    with pytest.raises(ERRORS, match=message):
        RecallAtK(2).update_state(*args)
