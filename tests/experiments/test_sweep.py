"""Sweeps: rows of settings over seeds, resumed, compared and rendered."""

import os

import numpy as np
import pytest

from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments import sweep as sweeps
from xdeepint_ext.experiments.comparing import comparisons_file, ensemble
from xdeepint_ext.experiments.inputs import record_keys
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.rendering import render
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.scores import sigmoid
from xdeepint_ext.experiments.settings import make_config, parse_grid, settings_of_table
from xdeepint_ext.experiments.sweep import Sweep, compare_rows, run_sweep
from xdeepint_ext.experiments.tables import TABLES, Table


@pytest.fixture(scope="module")
def swept(config_of, data_dirs, tmp_path_factory):
    """Two rows, two seeds, with predictions: (sweep, results)."""
    folder = tmp_path_factory.mktemp("sweep")
    rows = {"LR": config_of(model="lr", model_options={}, max_steps=2), "xDeepInt": config_of(max_steps=2)}
    sweep = Sweep(rows, (0, 1), str(folder / "results.csv"), "test", str(folder / "predictions"))
    return sweep, run_sweep(sweep)


def test_every_row_is_run_with_every_seed(swept):
    _, results = swept
    assert [(row["row"], row["seed"]) for row in results] == [
        ("LR", "0"),
        ("xDeepInt", "0"),
        ("LR", "1"),
        ("xDeepInt", "1"),
    ]
    assert all(0 < float(row["test.auc"]) < 1 and row["configuration"] and row["settings"] for row in results)
    assert all("/" not in row["settings"] for row in results)  # no places


def test_a_sweep_goes_on_behind_what_is_finished(swept, monkeypatch):
    sweep, results = swept
    monkeypatch.setattr(sweeps, "execute", None)  # nothing is run
    assert list(run_sweep(sweep)) == list(results)
    lost = sweeps.prediction_path(sweep, next(iter(results)))
    os.rename(lost, f"{lost}.away")
    with pytest.raises(TypeError):
        run_sweep(sweep)  # predictions are wanted too
    os.rename(f"{lost}.away", lost)


def test_comparing_adds_ensembles_and_differences_that_are_rendered(swept):
    sweep, _ = swept
    compare_rows(sweep, "LR")
    compare_rows(sweep, "LR")  # which replaces, and adds no second line
    results, comparisons = Results(sweep.results), Results(comparisons_file(sweep.results))
    (together,) = results.all({"settings": sweep.settings["xDeepInt"].settings(), "seed": "0+1"})
    rows = [row for row in results if row["row"] == "xDeepInt" and row["data"]]
    members = [Predictions.load(sweeps.prediction_path(sweep, row)) for row in rows]
    mean = np.mean([sigmoid(member.logits["click"]) for member in members], axis=0)
    np.testing.assert_allclose(sigmoid(ensemble(members).logits["click"]), mean, rtol=1e-9)
    assert {(row["kind"], row["metric"]) for row in comparisons} >= {("seeds", "auc"), ("ensemble", "gauc")}
    text = render(sweep.settings, ("auc", "gauc"), results, comparisons, "test", "LR")
    lines = text.splitlines()
    assert lines[0] == "|  | seeds | AUC | GAUC | AUC − LR's (95 %) |"
    names = ["LR", "LR, ensemble", "xDeepInt", "xDeepInt, ensemble"]
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in names]
    values = [float(row["test.auc"]) for row in rows]
    assert f"| xDeepInt | 2 | {np.mean(values):.5f} ± {np.std(values, ddof=1):.5f} |" in text
    assert f"{float(together['test.auc']):.5f}" in text
    found = comparisons.find({"kind": "seeds", "metric": "auc"})
    assert f"{float(found['value']):+.5f} ({float(found['low']):+.5f} … {float(found['high']):+.5f})" in lines[4]


def test_missing_runs_and_predictions_are_named(swept, config_of, tmp_path):
    sweep, _ = swept
    with pytest.raises(FileNotFoundError, match="row 'other', seed 0: no finished run in"):
        compare_rows(Sweep({"other": config_of(max_steps=1)}, (0,), sweep.results), "")
    with pytest.raises(FileNotFoundError, match="row 'LR', seed 0: no predictions at"):
        compare_rows(Sweep({"LR": sweep.settings["LR"]}, (0,), sweep.results, "test", str(tmp_path)), "")


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


def test_a_grid_multiplies_the_rows():
    assert parse_grid("learning_rate=0.1,1 residual=true,false dnn_units=4+5,") == {
        "learning_rate": [0.1, 1.0],
        "residual": [True, False],
        "dnn_units": [(4, 5), ()],
    }
    table = Table({"a": {}, "b": {"model": "lr"}}, base={"epochs": 2})
    settings = settings_of_table(table, {"data_dir": "d"}, parse_grid("learning_rate=0.1,1"))
    rates = ("learning_rate=0.1", "learning_rate=1.0")
    assert list(settings) == [f"{row} {rate}" for row in "ab" for rate in rates]
    assert settings["b learning_rate=1.0"].model == "lr"
    assert settings["a learning_rate=0.1"].epochs == 2
    with pytest.raises(ValueError, match="expected FLAG=VALUE,VALUE with a flag of a run, got 'rate=1'"):
        parse_grid("rate=1")


def test_settings_of_other_models_are_left_out_and_unknown_ones_refused():
    assert make_config({"data_dir": "d", "model": "lr", "num_layers": 3}).settings() == "model=lr"
    with pytest.raises(ValueError, match="'num_layer' is no flag of any run"):
        make_config({"data_dir": "d", "num_layer": 3})


@pytest.mark.parametrize("name", TABLES)
def test_every_table_makes_configs(name):
    settings = settings_of_table(TABLES[name], {"data_dir": "d"}, {})
    assert len({config.settings() for config in settings.values()}) == len(settings) or "models" in name
    assert TABLES[name].reference in ("", *settings)


def test_results_keep_old_rows_when_columns_are_added(tmp_path):
    path = str(tmp_path / "results.csv")
    Results(path).add({"seed": 1, "settings": "a=0.50 model=lr"}, {"x": 0.25})
    results = Results(path)
    results.add({"seed": 2, "settings": "model=lr"}, {"y": 1})
    again = Results(path)
    assert again.find({"settings": "model=lr a=.5", "seed": "1"})["x"] == "0.25"
    assert again.find({"seed": 1}, needs="y") is None
    assert [row["y"] for row in again] == ["", "1"]
