"""`compare`: from models to a table, resumed, split between processes, and broken off."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest

from xdeepint_ext.experiments import sweep as sweeps
from xdeepint_ext.experiments.choosing import Choice
from xdeepint_ext.experiments.compare import Comparison, Options, compare, run
from xdeepint_ext.experiments.rendering import as_markdown
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.summary import Difference, Line
from xdeepint_ext.experiments.sweep import Sweep


@pytest.fixture(scope="module")
def compared(config_of, tmp_path_factory):
    """(comparison, its table): a model that learns and two that hardly do."""
    folder = tmp_path_factory.mktemp("compare")
    rows = {
        "lr": config_of(model="lr", model_options={}, max_steps=2),
        "xdeepint": config_of(max_steps=60),
        "fm": config_of(model="fm", model_options={"width": 2}, max_steps=2),
    }
    out = str(folder / "out")
    sweep = Sweep(rows, (0, 1), str(folder / "results.csv"), predictions_dir=f"{out}/predictions")
    choices = {name: Choice(config, f"of {name}", 3) for name, config in rows.items()}
    comparison = Comparison(sweep, out, choices=choices)
    return comparison, compare(comparison)


def test_a_table_has_every_row_its_ensemble_costs_and_differences(compared):
    _, text = compared
    lines = text.splitlines()
    heads = ["", "seeds", "trials", "AUC", "GAUC", "log loss", "parameters", "multiply-adds", "examples/s"]
    heads += ["AUC − xdeepint's (95 %)", "GAUC − xdeepint's (95 %)"]
    assert lines[0] == f"| {' | '.join(heads)} |"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:8]]
    names = [name for row in ("lr", "xdeepint", "fm") for name in (row, f"{row}, ensemble")]
    assert [row[0] for row in cells] == names
    assert cells[0][1:3] == ["2", "3"] and cells[1][1:3] == ["2", "–"]
    assert cells[2][-2:] == ["–", "–"] and cells[0][-2].startswith("-0.")
    assert "Reference: xdeepint, the best mean valid AUC" in text and "- fm: of fm\n" in text
    # Fields user, item, tab, tags, age, width 4, h = 2: a kernel (10, 10) on two columns, and the head.
    assert cells[2][7] == str(10 * 10 * 2 + 10 * 2 + 5)


def test_csv_and_plot_stand_beside(compared):
    comparison, _ = compared
    with open(f"{comparison.output_dir}/models.csv", newline="") as stream:
        rows = {(row["row"], row["ensemble"]): row for row in csv.DictReader(stream)}
    results = Results(comparison.sweep.results)
    expected = sum(float(row["test.auc"]) for row in results if row["row"] == "lr" and row["data"]) / 2
    row = rows["lr", "False"]
    assert float(row["auc"]) == pytest.approx(expected) and float(row["auc_low"]) < float(row["auc_high"]) < 0
    assert row["auc_significant"] == "True" and "model=lr" in row["settings"]
    assert float(row["auc_difference"]) == pytest.approx(expected - float(rows["xdeepint", "False"]["auc"]), abs=1e-6)
    with open(f"{comparison.output_dir}/models.png", "rb") as stream:
        assert stream.read(8) == b"\x89PNG\r\n\x1a\n"


def test_what_is_finished_is_not_repeated_even_without_predictions(compared, monkeypatch, tmp_path):
    comparison, text = compared
    monkeypatch.setattr(sweeps, "execute", None)
    elsewhere = Sweep(**{**vars(comparison.sweep), "predictions_dir": str(tmp_path)})
    moved = Comparison(**{**vars(comparison), "sweep": elsewhere, "output_dir": str(tmp_path)})
    assert compare(moved) == text
    with pytest.raises(TypeError):  # another reference wants differences, so predictions, so runs
        compare(Comparison(**{**vars(moved), "reference": "fm"}))
    without = compare(Comparison(**{**vars(moved), "reference": "fm", "differences": False, "plot": False}))
    assert "fm's (95 %)" not in without and "Reference: fm, named by --reference" in without


def test_what_cannot_be_compared_is_refused(compared, config_of, data_dirs, tmp_path):
    comparison, _ = compared
    with pytest.raises(ValueError, match="reference: 'dnn' is none of the rows"):
        compare(Comparison(**{**vars(comparison), "reference": "dnn"}))
    two = Sweep({"a": config_of(data_dir=data_dirs["two"])}, (0,), str(tmp_path / "results.csv"))
    with pytest.raises(ValueError, match=r"needs data with one label, and .* has \('click', 'like'\)"):
        compare(Comparison(two, str(tmp_path)))


def test_an_interval_without_zero_is_marked():
    found = {
        "below": Difference(-0.1, -0.2, -0.01),
        "above": Difference(0.1, 0.01, 0.2),
        "around": Difference(0.1, -0.01, 0.2),
    }
    values = {"auc": [0.75], "gauc": [], "logloss": [0.5], "parameters": [], "multiply_adds": []}
    values["examples_per_second"] = []
    lines = [Line(name, "", False, 1, values, {"auc": difference}) for name, difference in found.items()]
    rows = as_markdown(lines, "r", (), {}).splitlines()[2:]
    assert rows[0] == r"| below | 1 | 0.75000 | 0.50000 | – | – | – | -0.10000 (-0.20000 … -0.01000) \* |"
    assert [row.endswith(r"\* |") for row in rows] == [True, True, False]


def start(data_dir, folder, *arguments):
    command = [sys.executable, "-m", "xdeepint_ext.experiments.compare", "--models=lr,fm", "--searches=none"]
    command += [f"--data_dir={data_dir}", "--seeds=2", f"--results={folder}/all.csv", f"--output_dir={folder}/out"]
    command += ["--batch_size=100", "--optimizer=adam", "--width=4", "--max_steps=20", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out


@pytest.mark.slow
def test_two_processes_share_a_file_and_a_killed_one_loses_only_its_run(data_dirs, tmp_path):
    path = f"{tmp_path}/all.csv"
    killed = start(data_dirs["one"], tmp_path, "--only=lr")
    other = start(data_dirs["one"], tmp_path, "--only=f*")
    deadline = time.monotonic() + 300
    while not (os.path.exists(path) and Results(path).all({"model": "lr"})):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    finish(other)
    before = [(row["model"], row["seed"]) for row in Results(path)]
    assert ("lr", "0") in before and {("fm", "0"), ("fm", "1")} <= set(before)
    assert not os.path.exists(f"{tmp_path}/out/models.md")
    table = finish(start(data_dirs["one"], tmp_path))
    runs = [(row["model"], row["seed"]) for row in Results(path)]
    assert sorted(runs) == [(model, seed) for model in ("fm", "lr") for seed in ("0", "0+1", "1")]  # each once
    with open(f"{tmp_path}/out/models.md") as stream:
        assert table.endswith(stream.read())


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"models": ("lr",), "results": ""}, {}, "--results must be given"),
        ({"models": ("lr",), "table": "adult_layers"}, {}, "give either --models or --table, got"),
        ({}, {}, "give either --models or --table, got"),
        ({"models": ("lr", "svm")}, {}, r"--models: 'svm' is none of \['adaensemble', "),
        ({"table": "adult"}, {}, r"--table: 'adult' is none of \['', 'adult_activation', "),
        ({"models": ("lr",), "seeds": 0}, {}, "--seeds must be >= 1, got 0"),
        ({"models": ("lr",), "choose_by": "nce"}, {}, "choose_by must be one of"),
        ({"models": ("lr",)}, {}, "--data_dir must name a directory"),
        ({"models": ("lr", "fm"), "only": ("d*",)}, {"data_dir": "d"}, r"--only: d\* fits none of \['lr', 'fm'\]"),
    ],
)
def test_the_command_says_what_is_wrong(options, given, message):
    with pytest.raises(ValueError, match=message):
        run(Options(**{"results": "r", "output_dir": "o", **options}), given)
