"""The streaming GAUC against loops over pairs, the array function and scikit-learn."""

import math

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tests.metrics import reference
from xdeepint_ext import metrics
from xdeepint_ext.metrics import GAUC

NUM_GROUPS = 8
MODES = {"exact": {}, "binned": {"mode": "binned", "num_groups": NUM_GROUPS}}
ALL_MODES = pytest.mark.parametrize("mode", list(MODES))
WEIGHTS = ("rows", "positives", "uniform")
ERRORS = (ValueError, tf.errors.InvalidArgumentError)


def made(mode, **options):
    return GAUC(**{"dtype": "float64", **MODES[mode], **options})


def value(metric, *args, **kwargs):
    metric.update_state(*args, **kwargs)
    return float(metric.result())


def drawn(seed, size, groups=NUM_GROUPS, levels=6):
    """Labels, scores of few values so that many tie, group ids, weights of which some are 0."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels, levels + 1, size) / 4
    weights = rng.integers(0, 4, size) / 2
    return rng.integers(0, 2, size), scores.astype(np.float32), rng.integers(0, groups, size), weights


def test_the_worked_example():
    """Users A, B, C of the specification, §0.2."""
    labels, scores, groups = [1, 0, 0, 1, 0, 1, 1], [0.9, 0.8, 0.1, 0.2, 0.4, 0.3, 0.5], [0, 0, 0, 1, 1, 2, 2]
    for mode in MODES:
        assert value(made(mode), labels, scores, group_ids=groups) == pytest.approx(0.6, rel=1e-12)
        assert value(made(mode, weight="uniform"), labels, scores, group_ids=groups) == 0.5


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 40),
    groups=st.integers(1, NUM_GROUPS),
    weight=st.sampled_from(WEIGHTS),
    mode=st.sampled_from(list(MODES)),
    weighted=st.booleans(),
    cut=st.integers(0, 40),
)
def test_equals_loops_over_pairs(seed, size, groups, weight, mode, weighted, cut):
    """128 bins over (-8, 8) separate the scores drawn, so that the binned mode is exact too."""
    labels, scores, ids, weights = drawn(seed, size, groups)
    weights = weights if weighted else None
    metric = made(mode, weight=weight)
    for part in (slice(cut, None), slice(0, cut)):
        of_part = None if weights is None else weights[part]
        metric.update_state(labels[part], scores[part, np.newaxis], group_ids=ids[part], sample_weight=of_part)
    expected = reference.gauc(labels, scores, ids, weight, weights)
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-10)
    np.testing.assert_allclose(metrics.gauc(labels, scores, ids, weight, weights).value, expected, rtol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_group_is_the_auc_of_sklearn(weighted):
    labels, scores, _, weights = drawn(0, 300)
    weights = weights if weighted else np.ones(300)
    found = value(made("exact"), labels, scores, group_ids=np.zeros(300, int), sample_weight=weights)
    np.testing.assert_allclose(found, roc_auc_score(labels, scores, sample_weight=weights), rtol=1e-10)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_many_rows_equal_the_function_of_arrays_and_sklearn(weight):
    rng = np.random.default_rng(0)
    labels, ids = rng.integers(0, 2, 5000), rng.integers(-50, 50, 5000) * 2**55
    scores = (rng.normal(size=5000) * 10.0 ** rng.integers(-30, 30, 5000)).astype(np.float32)
    found = value(made("exact", weight=weight), labels, scores, group_ids=ids)
    np.testing.assert_allclose(found, metrics.gauc(labels, scores, ids, weight).value, rtol=1e-12)
    if weight == "uniform":
        by_group = [roc_auc_score(labels[ids == i], scores[ids == i]) for i in set(ids)]
        np.testing.assert_allclose(found, np.mean(by_group), rtol=1e-12)


def test_scores_of_both_signs_zeros_and_infinities():
    scores = np.float32([-np.inf, -1e30, -1.5, -1e-37, -0.0, 0.0, 1e-37, 1.5, 1e30, np.inf])
    pairs = np.array([(i, j) for i in range(10) for j in range(10)])
    for i, j in pairs:
        expected = 0.5 if scores[i] == scores[j] else float(scores[i] > scores[j])
        labels, ids = [1, 0], [5, 5]
        assert value(made("exact", capacity=2), labels, scores[[i, j]], group_ids=ids) == expected, (
            scores[i],
            scores[j],
        )


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    bins=st.integers(1, 20),
    deviation=st.sampled_from([0.1, 1.0, 30.0]),
    weight=st.sampled_from(WEIGHTS),
)
def test_the_exact_value_is_within_the_error_bound(seed, bins, deviation, weight):
    rng = np.random.default_rng(seed)
    labels, ids, weights = rng.integers(0, 2, 80), rng.integers(0, NUM_GROUPS, 80), rng.uniform(0, 2, 80)
    scores = np.float32(deviation * rng.normal(size=80) + labels)
    metric = made("binned", bins=bins, weight=weight, score_range=(-2, 2))
    found = value(metric, labels, scores, group_ids=ids, sample_weight=weights)
    exact, bound = metrics.gauc(labels, scores, ids, weight, weights).value, float(metric.error_bound())
    assert 0 <= bound <= 0.5
    assert abs(found - exact) <= bound + 1e-6


def test_the_error_bound_is_half_the_share_of_pairs_in_a_common_bin_and_is_reached():
    """Bins (-8, 0) and (0, 8): group 0 has 2 of 4 pairs in a common bin, group 1 has 1 of 1."""
    labels, scores, ids = [1, 0, 1, 0, 1, 0], [3.0, 2.0, -2.0, -3.0, 1.0, 0.5], [0, 0, 0, 0, 1, 1]
    metric = made("binned", bins=2)
    found, exact = value(metric, labels, scores, group_ids=ids), metrics.gauc(labels, scores, ids).value
    np.testing.assert_allclose(float(metric.error_bound()), (4 * (2 / 4) / 2 + 2 * 1 / 2) / 6, rtol=1e-12)
    np.testing.assert_allclose(exact - found, float(metric.error_bound()), rtol=1e-12)
    exactly = made("exact")
    exactly.update_state(labels, scores, group_ids=ids)
    assert float(exactly.error_bound()) == 0.0


@ALL_MODES
def test_absent_rows_change_nothing_and_take_no_place(mode):
    labels, scores, ids, _ = drawn(0, 30)
    expected = reference.gauc(labels, scores, ids)
    metric = made(mode, capacity=30)
    longer = np.r_[-1, 1, labels], np.r_[np.nan, np.nan, scores]
    found = value(metric, *longer, group_ids=np.r_[0, -77, ids], sample_weight=np.r_[1, 0, np.ones(30)])
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@ALL_MODES
def test_a_nan_is_not_hidden(mode):
    for labels, scores in (([0, 1, 0], [np.nan, 1.0, 0.0]), ([0, 1, np.nan], [0.5, 1.0, 0.0])):
        metric = made(mode)
        assert math.isnan(value(metric, labels, scores, group_ids=[0, 1, 1]))
        assert math.isnan(float(metric.error_bound()))
        metric.reset_state()
        assert value(metric, [0, 1], [0.5, 1.0], group_ids=[0, 0]) == 1.0


@ALL_MODES
def test_no_group_of_both_classes_is_nan_as_in_the_function_of_arrays(mode):
    assert math.isnan(float(made(mode).result()))
    assert math.isnan(value(made(mode), [1, 1, 0], [0.1, 0.2, 0.3], group_ids=[0, 0, 1]))
    assert math.isnan(metrics.gauc([1, 1, 0], [0.1, 0.2, 0.3], [0, 0, 1]).value)


@ALL_MODES
def test_half_precision_and_huge_scores(mode):
    labels, scores, ids, _ = drawn(5, 40)
    for dtype in (tf.float16, tf.bfloat16):
        found = value(made(mode), tf.cast(labels, dtype), tf.cast(scores, dtype), group_ids=tf.cast(ids, tf.int32))
        np.testing.assert_allclose(found, reference.gauc(labels, scores, ids), rtol=1e-10)
    assert value(made(mode), [1, 0, 1, 0], [1e4, 1e4, -1e4, -1e4], group_ids=[0] * 4) == 0.5


def test_more_rows_than_capacity_are_an_error_and_leave_the_state_alone():
    metric = made("exact", capacity=5)
    metric.update_state([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0], group_ids=[0, 0, 1, 1])
    metric.update_state([-1, 1], [0.0, 0.0], group_ids=[1, 0])
    before = float(metric.result())
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"more rows than capacity=5, 5 on each of 1 repl[\s\S]*5, 1"
    ):
        metric.update_state([0], [9.0], group_ids=[0])
    assert float(metric.result()) == before
    metric.reset_state()
    assert value(metric, [1, 0], [2.0, 1.0], group_ids=[3, 3]) == 1.0


def test_the_state_has_16_bytes_a_row_or_a_group_and_bin():
    exact, binned = made("exact", capacity=1000), made("binned", bins=50)
    size = {mode: sum(v.numpy().nbytes for v in metric.variables) for mode, metric in (("e", exact), ("b", binned))}
    assert size["e"] == 16 * (1000 + 1) + 8
    assert size["b"] == 16 * NUM_GROUPS * 50 + 8


@ALL_MODES
def test_merging_what_others_have_seen(mode):
    labels, scores, ids, weights = drawn(3, 60)
    parts = []
    for part in (slice(0, 20), slice(20, 25), slice(25, 60)):
        parts.append(made(mode))
        parts[-1].update_state(labels[part], scores[part], ids[part], weights[part])
    parts[0].merge_state(parts[1:])
    expected = reference.gauc(labels, scores, ids, weights=weights)
    np.testing.assert_allclose(float(parts[0].result()), expected, rtol=1e-10)


def test_metrics_of_other_arguments_do_not_merge():
    with pytest.raises(ValueError, match="cannot merge bins=4 into bins=128"):
        made("binned").merge_state([made("binned", bins=4)])
    with pytest.raises(ValueError, match="cannot merge mode='exact' into mode='binned'"):
        made("binned").merge_state([made("exact")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "users"}, r"gauc: weight must be one of \('rows', 'positives', 'uniform'\), got 'users'"),
        ({"mode": "hashed"}, r"mode must be one of \('exact', 'binned'\), got 'hashed'"),
        ({"capacity": 0}, "capacity must be an integer >= 1, got 0"),
        ({"mode": "binned"}, r"num_groups \(of mode='binned'\) must be an integer >= 1, got None"),
        ({"num_groups": 5}, "num_groups belongs to mode='binned'"),
        ({"mode": "binned", "num_groups": 2, "bins": 0}, "bins must be an integer >= 1, got 0"),
        ({"mode": "binned", "num_groups": 2, "score_range": (1, 1)}, r"score_range must be \(low, high\)"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GAUC(**options)


@ALL_MODES
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([1, 0], [0.5, 0.5]), "update_state needs group_ids; RankingModel passes"),
        (([1, 0], [0.5, 0.5], [0.0, 1.0]), "group_ids must be integers, got float32"),
        (([1, 0], [0.5, 0.5], ["a", "b"]), "group_ids must be integers, got string; hash strings first"),
        (([1, 0], [0.5, 0.5], [0]), r"group_ids must have the shape of y_true, \(2,\), got \(1,\)"),
        (([1, 0], [0.5, 0.5], [[0, 1]]), r"group_ids must have shape \(B,\) or \(B, 1\), got \(1, 2\)"),
        (([1, 0.5], [0.5, 0.5], [0, 1]), r"y_true must be 0, 1 or below 0 \(absent\), got"),
        (([1, 0], [0.5, 0.5], [0, 1], [1.0, -1.0]), "sample_weight must be numbers >= 0, got"),
    ],
)
def test_bad_input_is_named(mode, args, message):
    with pytest.raises(ERRORS, match=message):
        made(mode).update_state(*args)


@pytest.mark.parametrize("group", [-1, NUM_GROUPS])
def test_groups_beyond_num_groups_are_refused(group):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"group_ids must be in \[0, num_groups={NUM_GROUPS}\), got.\s*{group}$"
    ):
        made("binned").update_state([1, 1], [0.5, 0.5], [3, group])
