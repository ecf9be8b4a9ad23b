"""`--calibration` of a run: fitted on the validation part, measured before and after, exported, and in the report."""

import json
import os

import numpy as np
import pytest

from tests.experiments.conftest import clicks, schema
from xdeepint_ext.data import DataError
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments import Config, execute, run
from xdeepint_ext.experiments.calibrating import as_served, stages
from xdeepint_ext.experiments.inputs import sample_rows
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.run_directory import read_flags
from xdeepint_ext.metrics import expected_calibration_error
from xdeepint_ext.serving import Calibration, CalibrationError, fit_calibration
from xdeepint_ext.serving.query import query
from xdeepint_ext.serving.skew import compare
from xdeepint_ext.serving.statistics_file import load_statistics


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory):
    """Clicks, and likes of items that have an even number, on most of the clicks."""
    raw = tmp_path_factory.mktemp("raw")
    for number, (split, rows) in enumerate({"train": 1500, "valid": 900, "test": 900}.items()):
        frame = clicks(number, rows)
        likes = np.random.default_rng(number + 9).uniform(size=rows) < np.where(frame["item"] % 2, 0.2, 0.8)
        frame["like"] = np.where(frame["click"] == 1, likes.astype(int).astype(str), "")
        frame.to_csv(raw / f"{split}.csv", index=False)
    schema("click", "like").save(raw)
    prepare("csv", raw_dir=raw, output_dir=raw / "data")
    return str(raw / "data")


@pytest.mark.parametrize("method", [pytest.param("platt", marks=pytest.mark.slow), "isotonic"])
def test_probabilities_of_every_task_are_better_and_auc_the_same(config_of, two_tasks, method):
    finished = execute(config_of(data_dir=two_tasks, max_steps=30, calibration=method))
    found = finished.metrics
    assert set(finished.calibrations) == {"click", "like"}
    for task in ("click", "like"):
        before, after = (f"test.{task}.{stage}" for stage in ("uncalibrated", "calibrated"))
        assert found[f"{before}.auc"] == found[f"{after}.auc"] == found[f"test.{task}.auc"]
        assert found[f"{before}.ece"] == found[f"test.{task}.ece"]
        # On the part that it was fitted on it cannot be worse than what it could have left alone.
        before, after = (f"valid.{task}.{stage}" for stage in ("uncalibrated", "calibrated"))
        assert found[f"{after}.logloss"] < found[f"{before}.logloss"] + 0.005


@pytest.mark.slow
def test_the_export_answers_with_calibrated_scores_and_the_report_shows_them(config_of, data_dirs, tmp_path):
    options = {"max_steps": 12, "calibration": "platt", "slices": ("tab",), "export": True, "report": True}
    config = config_of(**options, model_dir=str(tmp_path / "run"), save_predictions=True)
    found = run(config)
    rows = sample_rows(data_dirs["one"], schema("click"), "test", 300)
    base = str(tmp_path / "run/saved_model")
    served = query(base, rows)
    raw = Predictions.load(str(tmp_path / "run/predictions-test.npz"))
    labels = raw.labels["click"]
    ece = expected_calibration_error(labels, served["probability"][:, 0].astype(np.float64))
    assert ece == pytest.approx(found["test.calibrated.ece"], abs=5e-3)  # a row at a bin's edge may change sides
    manifest = json.loads((tmp_path / "run/saved_model/1/manifest.json").read_text())
    slope = manifest["notes"]["export"]["calibration"]["click"]["low_slope"]
    np.testing.assert_allclose(np.ptp(served["logit"]), slope * np.ptp(raw.logits["click"]), rtol=1e-5)
    page = (tmp_path / "run/report.html").read_text()
    assert "Calibration on test" in page and "Before and after: click" in page
    assert "Reliability by slice on test" in page and "Reliability of click by tab" in page
    assert f"{found['test.slice.tab=home.ece']:.5f}" in page
    assert read_flags(str(tmp_path / "run/flags.txt"))["calibration"] == "platt"
    columns, _ = load_statistics(os.path.join(base, "1/statistics.pbtxt"))
    assert columns["prediction:probability"].rows == 300
    assert not compare(base, [data_dirs["one"]], splits=["test"], min_rows=1).failed


@pytest.fixture(scope="module")
def down_sampled(tmp_path_factory):
    """Data of which a quarter of the negatives was kept, but for the test part, which is whole."""
    raw = tmp_path_factory.mktemp("raw")
    for number, (split, rows) in enumerate({"train": 3000, "valid": 1500, "test": 3000}.items()):
        frame = clicks(number, rows).drop(columns="like")
        if split != "test":
            dropped = np.random.default_rng(number).uniform(size=rows) > 0.25
            frame = frame[(frame["click"] == 1) | ~dropped]
        frame.to_csv(raw / f"{split}.csv", index=False)
    schema("click").save(raw)
    prepare("csv", raw_dir=raw, output_dir=raw / "data")
    return str(raw / "data")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["none", "isotonic"])
def test_down_sampling_is_corrected(config_of, down_sampled, method):
    config = config_of(data_dir=down_sampled, max_steps=40, negative_sampling_rate=0.25, calibration=method)
    finished = execute(config)
    whole, calibration = finished.predictions["test"], finished.calibrations["click"]
    errors = {}
    for stage, labels, logits, weights in stages(calibration, whole, "click", 1.0):  # nothing was dropped from test
        errors[stage] = expected_calibration_error(labels, 1 / (1 + np.exp(-logits.astype(np.float64))), weights)
    assert errors["uncalibrated"] > 0.12 and errors["calibrated"] < errors["uncalibrated"] / 2
    assert finished.metrics["valid.calibrated.ece"] < finished.metrics["valid.uncalibrated.ece"] / 2


def test_scores_as_served_are_those_of_the_rows_as_they_are():
    """Calibrated scores are of the whole log; of rows whose negatives were thinned, odds are higher."""
    labels, logits = np.array([0.0, 1.0]), np.array([-1.0, 2.0], np.float32)
    raw = Predictions({"click": labels, "like": labels}, {"click": logits, "like": logits})
    only_rate = fit_calibration("none", (), (), negative_sampling_rate=0.25)
    bent = Calibration((0.0,), (1.0,), 2.0, 0.5)
    found = as_served(raw, {"click": only_rate, "like": bent}, 0.25)
    np.testing.assert_allclose(found.logits["click"], logits, rtol=1e-6)
    np.testing.assert_allclose(found.logits["like"], np.array([-1.0, 2.0]) - np.log(0.25))
    np.testing.assert_array_equal(as_served(raw, {}, 1.0).logits["like"], logits)


def test_what_cannot_be_calibrated_is_said_before_training(config_of, data_dirs):
    options = {"data_dir": data_dirs["without_valid"], "early_stopping": "none", "evaluate": ("test",), "max_steps": 1}
    with pytest.raises(DataError, match="calibration=platt is fitted on the valid split"):
        execute(config_of(**options, calibration="platt"))
    finished = execute(config_of(**options, negative_sampling_rate=0.5))
    assert finished.calibrations["click"]([0.0])[0] == np.log(0.5)
    for rate in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="negative_sampling_rate must be in"):
            Config(data_dir="x", negative_sampling_rate=rate)
    with pytest.raises(ValueError, match="calibration must be one of"):
        Config(data_dir="x", calibration="beta")


def test_a_validation_part_of_one_class_names_the_task(config_of, tmp_path):
    for split, rows in {"train": 200, "valid": 50, "test": 50}.items():
        frame = clicks(0, rows).drop(columns="like")
        (frame.assign(click=1) if split == "valid" else frame).to_csv(tmp_path / f"{split}.csv", index=False)
    schema("click").save(tmp_path)
    prepare("csv", raw_dir=tmp_path, output_dir=tmp_path / "data")
    config = config_of(data_dir=str(tmp_path / "data"), max_steps=1, early_stopping="logloss", calibration="isotonic")
    with pytest.raises(CalibrationError, match="task 'click' of the valid split: all 50 labels are 1"):
        execute(config)
