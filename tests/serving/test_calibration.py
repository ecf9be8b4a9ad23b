"""Calibrations: formulas, order and ties, what cannot be calibrated, and exports that carry them."""

import json
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving import c_api, cases
from xdeepint_ext import metrics, serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.models import TwoTower
from xdeepint_ext.serving import Calibration, CalibrationError, fit_calibration
from xdeepint_ext.serving.rows import examples, typed

METHODS = ("platt", "isotonic")


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64)))


def miscalibrated(rows, seed, slope=0.5, bias=-1.0):
    """Logits z whose labels have the logit `slope z + bias`."""
    random = np.random.default_rng(seed)
    z = random.normal(scale=2.0, size=rows).astype(np.float32)
    return (random.uniform(size=rows) < sigmoid(slope * z + bias)).astype(np.float64), z


def test_the_rate_of_down_sampling_is_corrected_as_printed():
    rate, z = 0.1, np.linspace(-4, 4, 9)
    p = sigmoid(z)
    found = fit_calibration("none", (), (), negative_sampling_rate=rate)
    np.testing.assert_allclose(sigmoid(found(z)), p / (p + (1 - p) / rate), rtol=1e-12)
    assert fit_calibration("none", (), ())(z).tolist() == z.tolist()


def test_platt_is_the_least_log_loss_of_the_smoothed_labels():
    labels, z = miscalibrated(3000, 0)
    found = fit_calibration("platt", labels, z)
    a, b = found.low_slope, found([0.0])[0]
    ones, zeros = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    gap = sigmoid(a * z + b) - targets
    assert abs(gap.mean()) < 1e-6 and abs((gap * z).mean()) < 1e-6  # the gradient is zero
    assert a == pytest.approx(0.5, abs=0.05) and b == pytest.approx(-1.0, abs=0.12)
    assert found.high_slope == a


def test_weights_are_as_good_as_repeated_rows():
    labels, z = miscalibrated(400, 1)
    for method in METHODS:
        twice = fit_calibration(method, np.tile(labels, 2), np.tile(z, 2))
        weighted = fit_calibration(method, np.tile(labels, 2), np.tile(z, 2), np.full(800, 7.0))
        np.testing.assert_allclose(weighted(z), twice(z), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_both_calibrate_rows_that_they_have_not_seen(method):
    labels, z = miscalibrated(20_000, 2)
    found = fit_calibration(method, labels, z)
    labels, z = miscalibrated(20_000, 3)
    before, after = (metrics.expected_calibration_error(labels, sigmoid(x)) for x in (z, found(z)))
    assert before > 0.15 and after < 0.02
    assert metrics.log_loss(labels, found(z)) < metrics.log_loss(labels, z) - 0.1


@pytest.mark.parametrize("method", METHODS)
def test_a_down_sampled_log_is_calibrated_for_the_whole_one(method):
    rate, random = 0.2, np.random.default_rng(5)
    labels, z = miscalibrated(60_000, 4, slope=1.0, bias=-2.0)
    kept = (labels == 1) | (random.uniform(size=len(labels)) < rate)
    found = fit_calibration(method, labels[kept], z[kept], negative_sampling_rate=rate)
    assert metrics.expected_calibration_error(labels, sigmoid(found(z))) < 0.01


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(40, 600), st.integers(1, 60))
def test_isotonic_never_changes_order_or_auc(seed, rows, values):
    """Few values make ties, few rows make regressions with long flat steps."""
    random = np.random.default_rng(seed)
    z = random.choice(random.normal(scale=3.0, size=values + 1), rows).astype(np.float32)
    labels = (random.uniform(size=rows) < sigmoid(z)).astype(float)
    try:
        found = fit_calibration("isotonic", labels, z)
    except CalibrationError:
        return
    distinct = np.unique(np.r_[z, random.normal(scale=9.0, size=99).astype(np.float32)])
    assert np.all(np.diff(found(distinct)) > 0)
    assert metrics.auc(labels, found(z)) == metrics.auc(labels, z)


def test_a_regression_with_steps_would_change_the_auc():
    """What the lines between knots are for."""
    labels, z = miscalibrated(500, 6)
    found = fit_calibration("isotonic", labels, z)
    steps = np.asarray(found.calibrated)[np.clip(np.searchsorted(found.logits, z), 0, len(found.logits) - 1)]
    assert metrics.auc(labels, found(z)) == metrics.auc(labels, z) != metrics.auc(labels, steps)


def test_the_graph_computes_the_same():
    labels, z = miscalibrated(2000, 7)
    found = fit_calibration("isotonic", labels, z)
    assert len(found.logits) > 3
    z = np.r_[z, np.float32([-50, 50, *found.logits])].reshape(-1, 1)
    np.testing.assert_allclose(tf.function(found.in_graph)(z).numpy(), found(z), rtol=1e-6, atol=1e-6)
    assert np.isnan(found.in_graph(tf.constant([np.nan], tf.float32)).numpy()).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([1, 1, 1], [0.0, 1.0, 2.0], "all 3 labels are 1"),
        ([], [], "no row with a label"),
        ([0, 1], [0.0, np.inf], "1 of 2 logits are not finite"),
        ([0, 1], [2.0, 2.0], "all 2 logits are 2"),
        ([0.5, 1], [0.0, 2.0], "labels must be 0 or 1, got 0.5"),
        (np.arange(200) < 100, np.linspace(-1, 1, 200), "the wrong way round"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(method, labels, logits, message):
    with pytest.raises(CalibrationError, match=message):
        fit_calibration(method, labels, logits)


def test_wrong_arguments_are_named():
    for rate in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="negative_sampling_rate must be in"):
            fit_calibration("none", (), (), negative_sampling_rate=rate)
    with pytest.raises(ValueError, match="method must be one of"):
        fit_calibration("beta", [0, 1], [0, 1])
    with pytest.raises(CalibrationError, match="calibrated must be finite numbers that ascend"):
        Calibration((0.0, 1.0), (0.0, math.inf))
    with pytest.raises(CalibrationError, match="low_slope must be > 0"):
        Calibration((0.0,), (0.0,), low_slope=0.0)


BENT = {"click": Calibration((-0.5, 0.1, 0.6), (-2.0, -1.0, 1.5), 0.7, 1.2), "like": Calibration((0.0,), (-1.0,), 2, 2)}


def test_every_scoring_signature_is_calibrated_in_python_and_in_c(tmp_path):
    case = cases.case(["click", "like"])
    model = case.model()
    folder = serving.export(model, case.preprocessor, tmp_path, calibration=BENT)
    columns = raw_signature(case.schema)
    rank = {name: value[:1] for name, value in typed(case.rows, columns).items()}
    requests = {
        "predict_raw": typed(case.rows, columns),
        "serving_default": {"examples": examples(case.rows, columns)},
        "rank": rank,
    }
    answers = c_api.run_signatures([(folder, name, inputs) for name, inputs in requests.items()])
    loaded = tf.saved_model.load(folder).signatures
    raw = case.scores(model)
    for (name, inputs), in_c in zip(requests.items(), answers, strict=True):
        in_python = loaded[name](**{key: tf.constant(value) for key, value in inputs.items()})
        for task, calibration in BENT.items():
            logit = calibration(raw[f"logit/{task}"])[: len(in_c[f"logit/{task}"])]
            np.testing.assert_allclose(in_c[f"logit/{task}"], logit, rtol=0, atol=5e-6)
            np.testing.assert_allclose(in_c[f"probability/{task}"], sigmoid(in_c[f"logit/{task}"]), rtol=0, atol=1e-6)
            for kind in ("logit", "probability"):
                output = f"{kind}/{task}"
                np.testing.assert_allclose(in_c[output], in_python[output].numpy(), rtol=0, atol=1e-6)
    noted = json.loads((pathlib.Path(folder) / "manifest.json").read_text())["notes"]["export"]["calibration"]
    assert Calibration(**noted["click"]) == BENT["click"]


@pytest.mark.slow
def test_towers_score_calibrated_and_make_no_index(tmp_path):
    case = cases.case(features=tuple(f for f in cases.FEATURES if f.roles))
    model = case.model(TwoTower, units=[4])
    folder = serving.export(model, case.preprocessor, tmp_path, calibration={"click": BENT["click"]})
    loaded = tf.saved_model.load(folder).signatures
    feed = {name: tf.constant(value) for name, value in typed(case.rows, raw_signature(case.schema)).items()}
    sides = {}
    for side in ("user", "item"):
        tower = loaded[f"{side}_tower"]
        sides[side] = tower(**{n: feed[n] for n in tower.structured_input_signature[1]})["representation"]
    scored = loaded["score"](user=sides["user"][:1], items=sides["item"][:1])["logit"].numpy()
    np.testing.assert_allclose(scored, loaded["predict_raw"](**feed)["logit"].numpy()[:1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(scored, BENT["click"](case.scores(model)["logit"][:1]), rtol=0, atol=1e-5)
    assert serving.LoadedTowers(folder).product_scale == {"click": None}


def test_an_unknown_task_is_refused(tmp_path):
    case = cases.case()
    with pytest.raises(ValueError, match="calibration: 'buy' is no task of the model; it has \\['click'\\]"):
        serving.export(case.model(), case.preprocessor, tmp_path, calibration={"buy": BENT["click"]})
