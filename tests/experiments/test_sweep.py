"""Sweeps: rows of settings over seeds, resumed; their ensembles and differences."""

import dataclasses
import os

import numpy as np
import pytest

from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments import sweep as sweeps
from xdeepint_ext.experiments.comparing import comparisons_file, ensemble
from xdeepint_ext.experiments.differences import make_differences, rows_without
from xdeepint_ext.experiments.inputs import record_keys
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.scores import sigmoid
from xdeepint_ext.experiments.summary import summarize
from xdeepint_ext.experiments.sweep import Sweep, run_sweep


@pytest.fixture(scope="module")
def swept(config_of, tmp_path_factory):
    """Two rows, two seeds, with predictions: (sweep, results)."""
    folder = tmp_path_factory.mktemp("sweep")
    rows = {"LR": config_of(model="lr", model_options={}, max_steps=2), "xDeepInt": config_of(max_steps=2)}
    sweep = Sweep(rows, (0, 1), str(folder / "results.csv"), "test", str(folder / "predictions"))
    return sweep, run_sweep(sweep)


def test_every_row_is_run_with_every_seed(swept):
    _, results = swept
    runs = [(row["row"], row["seed"]) for row in results if row["data"]]
    assert runs == [("LR", "0"), ("xDeepInt", "0"), ("LR", "1"), ("xDeepInt", "1")]
    assert all(0 < float(row["test.auc"]) < 1 and row["configuration"] and row["settings"] for row in results)
    assert all("/" not in row["settings"] for row in results)  # no places


def test_a_sweep_goes_on_behind_what_is_finished(swept, monkeypatch):
    sweep, results = swept
    monkeypatch.setattr(sweeps, "execute", None)  # nothing is run
    assert list(run_sweep(sweep, with_predictions=True)) == list(Results(sweep.results))
    lost = sweep.prediction_path(next(iter(results)))
    os.rename(lost, f"{lost}.away")
    run_sweep(sweep)  # the results are there
    with pytest.raises(TypeError):
        run_sweep(sweep, with_predictions=True)
    with pytest.raises(FileNotFoundError, match="row 'LR', seed 0: no predictions at"):
        make_differences(sweep, ["LR"], "LR")
    os.rename(f"{lost}.away", lost)


def test_runs_of_a_cluster_are_refused(swept):
    sweep, _ = swept
    for strategy in ("multi_worker", "parameter_server"):
        rows = {name: config.replace(strategy=strategy) for name, config in sweep.settings.items()}
        with pytest.raises(ValueError, match=f"strategy={strategy} is for a single run.*use one of .*'one_device'"):
            run_sweep(dataclasses.replace(sweep, settings=rows))


def test_ensembles_and_differences_are_made_once(swept):
    sweep, _ = swept
    assert rows_without(sweep, "LR") == ["LR", "xDeepInt"]
    make_differences(sweep, ["LR", "xDeepInt"], "LR")
    make_differences(sweep, ["LR", "xDeepInt"], "LR")  # which replaces, and adds no second line
    assert rows_without(sweep, "LR") == []
    assert rows_without(sweep, "xDeepInt") == ["LR"]
    results, comparisons = Results(sweep.results), Results(comparisons_file(sweep.results))
    (together,) = results.all({"settings": sweep.settings["xDeepInt"].settings(), "seed": "0+1"})
    rows = [row for row in results if row["row"] == "xDeepInt" and row["data"]]
    members = [Predictions.load(sweep.prediction_path(row)) for row in rows]
    mean = np.mean([sigmoid(member.logits["click"]) for member in members], axis=0)
    np.testing.assert_allclose(sigmoid(ensemble(members).logits["click"]), mean, rtol=1e-9)
    kinds = {(kind, metric) for kind in ("seeds", "ensemble") for metric in ("auc", "gauc", "logloss")}
    assert {(row["kind"], row["metric"]) for row in comparisons} == kinds
    lines = {(line.name, line.ensemble): line for line in summarize(sweep, "LR")}
    assert list(lines) == [("LR", False), ("LR", True), ("xDeepInt", False), ("xDeepInt", True)]
    line = lines["xDeepInt", False]
    values = [float(row["test.auc"]) for row in rows]
    assert line.mean("auc") == np.mean(values) and line.deviation("auc") == np.std(values, ddof=1)
    assert lines["xDeepInt", True].values["auc"] == [float(together["test.auc"])]
    of_reference = lines["LR", False].values["auc"]
    assert line.differences["auc"].value == pytest.approx(np.mean(np.subtract(values, of_reference)), abs=1e-6)
    assert not lines["LR", False].differences and not lines["LR", True].differences


@pytest.mark.slow
def test_a_run_made_anew_takes_what_was_made_of_the_old_one_with_it(config_of, tmp_path):
    rows = {name: config_of(model="lr", model_options={}, max_steps=n) for n, name in enumerate("abc", 1)}
    sweep = Sweep(rows, (0, 1), str(tmp_path / "results.csv"), predictions_dir=str(tmp_path / "predictions"))
    results = run_sweep(sweep)
    make_differences(sweep, list(rows), "a")
    os.remove(sweep.prediction_path(sweep.find(results, "b", 1)))
    run_sweep(sweep, with_predictions=True)
    assert rows_without(sweep, "a") == ["b"]
    assert len(Results(sweep.results).all({"row": "b", "seed": "1"})) == 1
    assert not [row for row in Results(comparisons_file(sweep.results)) if row["row"] == "b"]


def test_missing_runs_are_named(swept, config_of):
    sweep, _ = swept
    with pytest.raises(FileNotFoundError, match="row 'other', seed 0: no finished run in"):
        make_differences(Sweep({"other": config_of(max_steps=1)}, (0,), sweep.results), ["other"], "other")


def test_validation_only_leaves_the_test_part_alone(config_of, tmp_path, monkeypatch):
    evaluated = []
    execute = sweeps.execute

    def watched(config):
        evaluated.append(config.evaluate)
        return execute(config)

    monkeypatch.setattr(sweeps, "execute", watched)
    path = str(tmp_path / "results.csv")
    rows = {"a": config_of(model="lr", model_options={}, max_steps=1)}
    (row,) = run_sweep(Sweep(rows, (0,), path, "valid"))
    assert "valid.auc" in row and not any(name.startswith("test.") for name in row)
    run_sweep(Sweep(rows, (0,), path, "test"))
    assert evaluated == [("valid",), ("valid", "test")]
    assert len(Results(path).all({"seed": 0}, "test.auc")) == 1


def test_a_run_that_diverges_ends_a_sweep_or_is_written_down(config_of, tmp_path, monkeypatch):
    path = str(tmp_path / "results.csv")
    rows = {"a": config_of(learning_rate=1e30, optimizer="adagrad")}
    with pytest.raises(FloatingPointError):
        run_sweep(Sweep(rows, (0,), path))
    sweep = Sweep(rows, (0,), path, may_fail=True)
    (row,) = run_sweep(sweep)
    assert row["finished"].startswith("failed: the training loss is") and sweep.find(Results(path), "a", 0) is None
    monkeypatch.setattr(sweeps, "execute", None)
    run_sweep(sweep)  # is not tried again


def test_records_have_one_fingerprint_however_they_were_prepared(data_dirs, tmp_path):
    for seed in (1, 2):
        options = {"rows": 300, "fields": 3, "ids_per_field": 4, "order": 2, "interactions": 1}
        prepare("synthetic", output_dir=tmp_path / str(seed), num_shards=seed, seed=1, **options)
    one, two = (np.sort(record_keys(str(tmp_path / name), "train")) for name in "12")
    np.testing.assert_array_equal(one, two)
    assert len(record_keys(data_dirs["one"], "test")) == 300


def test_an_ensemble_needs_the_same_records():
    a, b = (Predictions({"y": np.array(labels)}, {"y": np.zeros(2)}) for labels in ([0.0, 1.0], [1.0, 0.0]))
    with pytest.raises(ValueError, match="must have the same records"):
        ensemble([a, b])
    with pytest.raises(ValueError, match="at least one member"):
        ensemble([])
