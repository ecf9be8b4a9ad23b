"""The array metrics against scikit-learn and against loops written straight from the definitions."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from xdeepint_ext import metrics
from xdeepint_ext.metrics.evaluation import group_aucs


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    scores = np.round(random.normal(size=400) + labels, 1)  # rounded, so that there are ties
    weights = random.integers(0, 4, 400) / 2
    groups = random.integers(0, 60, 400)
    return labels, scores, weights, groups


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_auc_counts_a_tie_as_one_half(rows):
    labels, scores, _, _ = rows
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative).sum() + (positive[:, None] == negative).sum() / 2
    assert metrics.auc(labels, scores) == pytest.approx(wins / (len(positive) * len(negative)), rel=1e-12)


def test_auc_with_weights_equals_sklearn(rows):
    labels, scores, weights, _ = rows
    expected = sklearn_metrics.roc_auc_score(labels, scores, sample_weight=weights)
    assert metrics.auc(labels, scores, weights) == pytest.approx(expected, rel=1e-12)


def test_auc_of_one_class_is_nan(rows):
    _, scores, _, _ = rows
    assert math.isnan(metrics.auc(np.ones(400), scores))
    assert math.isnan(metrics.auc([0, 1], [0.1, 0.2], weights=[1, 0]))


def test_log_loss_equals_sklearn(rows):
    labels, logits, weights, _ = rows
    expected = sklearn_metrics.log_loss(labels, sigmoid(logits), sample_weight=weights)
    assert metrics.log_loss(labels, logits, weights) == pytest.approx(expected, rel=1e-12)


def test_log_loss_stays_exact_for_large_logits():
    assert metrics.log_loss([0, 1], [1e4, -1e4]) == 1e4


def test_normalized_cross_entropy_of_the_base_rate_is_one():
    labels = np.array([1, 0, 0, 0])
    logits = np.full(4, np.log(0.25 / 0.75))
    assert metrics.normalized_cross_entropy(labels, logits) == pytest.approx(1.0, rel=1e-12)
    assert math.isnan(metrics.normalized_cross_entropy([1, 1], [0.3, 0.2]))


@pytest.mark.parametrize("weight", ["rows", "positives", "uniform"])
def test_gauc_is_the_weighted_mean_of_the_groups(rows, weight):
    labels, scores, weights, groups = rows
    values, by_group, out, rows_out = [], [], 0, 0
    for group in np.unique(groups):
        inside = groups == group
        y, w = labels[inside], weights[inside]
        if (w * y).sum() == 0 or (w * (1 - y)).sum() == 0:
            out, rows_out = out + 1, rows_out + inside.sum()
            continue
        values.append(sklearn_metrics.roc_auc_score(y, scores[inside], sample_weight=w))
        by_group.append({"rows": w.sum(), "positives": (w * y).sum(), "uniform": 1.0}[weight])
    found = metrics.gauc(labels, scores, groups, weight, weights)
    assert found.value == pytest.approx(np.average(values, weights=by_group), rel=1e-12)
    assert (found.groups, found.groups_left_out, found.rows_left_out) == (len(values), out, rows_out)
    assert out > 0


def test_gauc_without_a_group_of_both_classes_is_nan():
    found = metrics.gauc([1, 0], [0.1, 0.2], ["a", "b"])
    assert math.isnan(found.value)
    assert found[1:] == (0, 2, 2)


def test_group_aucs_keep_the_order_of_the_groups():
    values, weights, rows = group_aucs([0, 1, 1, 0], [1.0, 2.0, 1.0, 2.0], ["b", "b", "a", "a"])
    assert values.tolist() == [0.0, 1.0]
    assert weights.tolist() == rows.tolist() == [2, 2]


def test_roc_curve_has_the_area_of_the_auc(rows):
    labels, scores, weights, _ = rows
    false, true = metrics.roc_curve(labels, scores, weights)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(metrics.auc(labels, scores, weights), rel=1e-12)


def test_roc_curve_is_thinned():
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 2, 20_000), random.normal(size=20_000)
    false, true = metrics.roc_curve(labels, scores, max_points=200)
    assert len(false) <= 202
    assert np.trapezoid(true, false) == pytest.approx(metrics.auc(labels, scores), abs=1e-4)


@pytest.mark.parametrize("binning", ["mass", "width"])
def test_expected_calibration_error_is_the_mean_gap(rows, binning):
    labels, scores, weights, _ = rows
    probabilities = sigmoid(scores)
    edges = np.linspace(0, 1, 6) if binning == "width" else np.quantile(probabilities, np.linspace(0, 1, 6))
    error = 0.0
    for i in range(5):
        inside = (probabilities > edges[i]) & (probabilities <= edges[i + 1])
        inside |= (i == 0) & (probabilities == edges[0])
        w = weights[inside]
        if w.sum():
            gap = np.average(labels[inside], weights=w) - np.average(probabilities[inside], weights=w)
            error += w.sum() / weights.sum() * abs(gap)
    found = metrics.expected_calibration_error(labels, probabilities, weights, bins=5, binning=binning)
    assert found == pytest.approx(error, rel=1e-9)


def test_calibration_table_keeps_every_row(rows):
    labels, scores, _, _ = rows
    table = metrics.calibration_table(labels, sigmoid(scores))
    assert table.weight.sum() == len(labels)
    assert (table.weight * table.observed).sum() == pytest.approx(labels.sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0.1]), "one length"),
        (([0, 1], [0.1, math.nan]), "scores must be numbers, got NaN in 1 rows, first in row 1"),
        (([0, 2], [0.1, 0.2]), r"labels must be in \[0, 1\]"),
        (([0, 0.5], [0.1, 0.2]), "labels must be 0 or 1"),
        (([0, 1], [0.1, 0.2], [1, -1]), "weights must be numbers >= 0"),
        (([0, 1], [0.1, 0.2], [1]), "one entry for each of the 2 labels"),
        (([], []), "one length > 0"),
    ],
)
def test_auc_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.auc(*arguments)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="weight must be one of"):
        metrics.gauc([0, 1], [0.1, 0.2], [1, 1], weight="clicks")
    with pytest.raises(ValueError, match="binning must be one of"):
        metrics.calibration_table([0, 1], [0.1, 0.2], binning="log")
    with pytest.raises(ValueError, match="probabilities must be in"):
        metrics.calibration_table([0, 1], [0.1, 1.2])
    with pytest.raises(ValueError, match="metric must be one of"):
        metrics.paired_bootstrap([0, 1], [0.1, 0.2], [0.1, 0.2], metric="ndcg")
    with pytest.raises(ValueError, match="needs groups"):
        metrics.paired_bootstrap([0, 1], [0.1, 0.2], [0.1, 0.2], metric="gauc")


@pytest.mark.parametrize("metric", ["auc", "log_loss", "gauc"])
def test_bootstrap_of_a_model_against_itself_is_zero(rows, metric):
    labels, scores, _, groups = rows
    assert metrics.paired_bootstrap(labels, scores, scores, metric, n=20, groups=groups) == (0, 0, 0, 0)


def test_bootstrap_over_rows_agrees_with_resampling_by_hand(rows):
    labels, scores, _, _ = rows
    other = scores + np.random.default_rng(3).normal(size=400)
    found = metrics.paired_bootstrap(labels, scores, other, "auc", n=300, seed=1)
    random = np.random.default_rng(7)
    by_hand = []
    for _ in range(300):
        drawn = random.integers(0, 400, 400)
        by_hand.append(metrics.auc(labels[drawn], scores[drawn]) - metrics.auc(labels[drawn], other[drawn]))
    assert found.value == metrics.auc(labels, scores) - metrics.auc(labels, other)
    assert found.deviation == pytest.approx(np.std(by_hand), rel=0.2)
    assert found.low == pytest.approx(np.quantile(by_hand, 0.025), abs=3 * found.deviation / math.sqrt(300) * 2)
    assert found == metrics.paired_bootstrap(labels, scores, other, "auc", n=300, seed=1)


def test_bootstrap_over_users_is_wider_where_rows_of_a_user_agree():
    random = np.random.default_rng(5)
    users = np.repeat(np.arange(50), 40)
    labels = random.integers(0, 2, 2000)
    skill = np.repeat(random.normal(size=50), 40)
    a, b = labels * skill + random.normal(size=2000), random.normal(size=2000)
    over_rows = metrics.paired_bootstrap(labels, a, b, n=200)
    over_users = metrics.paired_bootstrap(labels, a, b, n=200, groups=users)
    assert over_users.deviation > 1.5 * over_rows.deviation


def test_bootstrap_of_gauc_equals_a_bootstrap_of_group_means():
    labels = np.array([0, 1, 0, 1, 0, 1])
    groups = np.array([0, 0, 1, 1, 2, 2])
    good = labels.astype(float)
    found = metrics.paired_bootstrap(labels, good, -good, "gauc", n=50, groups=groups)
    assert found == (1.0, 1.0, 1.0, 0.0)
