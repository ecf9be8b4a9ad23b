"""The report holds its parts, for every kind of run, and needs nothing from elsewhere."""

import base64
import builtins
import re

import numpy as np
import pytest

from xdeepint_ext.experiments import artifacts, execute, plots, report, run
from xdeepint_ext.experiments.weights import pin_kernels, sparsity, zero_rows_by_table
from xdeepint_ext.metrics import calibration_table
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.schema import Feature, Schema


def pictures(page):
    """The SVG texts of a page, by description."""
    found = re.findall(r'<img alt="([^"]+)" src="data:image/svg\+xml;base64,([^"]+)">', page)
    return {name: base64.b64decode(data).decode() for name, data in found}


@pytest.fixture(scope="module")
def finished(config_of, data_dirs):
    """A run with two tasks and slices."""
    return execute(config_of(data_dir=data_dirs["two"], max_steps=8, eval_every=4, slices=("tab",)))


def test_a_run_writes_a_page_that_stands_alone(config_of, tmp_path):
    run(config_of(max_steps=2, report=True, model_dir=str(tmp_path / "run")))
    page = (tmp_path / "run/report.html").read_text()
    assert "xdeepint on csv" in page and "--batch_size=100" in page
    outside = [link for link in re.findall(r'(?:src|href)="([^"]*)"', page) if not link.startswith("data:")]
    assert outside == [] and "http" not in re.sub(r'base64,[^"]*"', "", page)
    names = {"Log loss and AUC against steps", "ROC curve", "Reliability diagram"}
    names |= {"Share of zero embedding rows by table", "Interaction weights of layer 1"}
    assert set(pictures(page)) == names
    assert all(svg.rstrip().endswith("</svg>") for svg in pictures(page).values())


def test_the_page_of_several_tasks_has_metrics_curves_and_slices_of_each(finished, tmp_path):
    report.write(finished, str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert f"{finished.metrics['test.like.auc']:.5f}" in page
    assert "<td>like</td><td>tab</td><td>home</td>" in page
    assert f'<td class="number">{finished.metrics["test.like.rows"]:.0f}</td>' in page
    assert len(pictures(page)) == 7  # two of them for the slices


def test_names_from_the_data_are_escaped(finished, tmp_path):
    finished.metrics["test.slice.tab=<script>.auc"] = 0.5
    report.write(finished, str(tmp_path / "report.html"))
    del finished.metrics["test.slice.tab=<script>.auc"]
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_a_model_without_interaction_layers_has_no_heat_map(config_of, tmp_path):
    finished = execute(config_of(model="lr", model_options={}, max_steps=1))
    assert pin_kernels(finished.model) == {}
    report.write(finished, str(tmp_path / "report.html"))
    assert "Interaction weights" not in (tmp_path / "report.html").read_text()


def test_without_matplotlib_the_error_names_the_extra_before_training(config_of, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(artifacts, "event_writer", None)  # nothing is trained
    with pytest.raises(ImportError, match=r'pip install "xdeepint-ext\[plots\]"'):
        run(config_of(report=True, model_dir=str(tmp_path / "run")))


def test_calibration_and_curves_of_one_point_can_be_drawn():
    one = calibration_table([0, 1], [0.5, 0.5])
    assert plots.calibration({"a": one}).count("<svg") == 1
    assert plots.learning_curves([{"step": 1.0, "train_loss": 0.5, "train_auc": 0.5}], None).count("<svg") == 1
    assert plots.zero_rows({"a": (0, 0), "b": (3, 4)}).count("<svg") == 1


@pytest.fixture
def model():
    user, item = Feature("user", num_values=5), Feature("item", num_values=3, width=2)
    schema = Schema([user, item, Feature("also", table="user", num_values=5)])
    model = XDeepInt(schema, width=4, num_layers=2, num_subspaces=2)
    model.build_from_schema()
    return model


def test_zero_rows_are_counted_table_by_table(model):
    table = np.ones((7, 4), np.float32)
    table[[0, 2, 6]] = 0.0  # row 0 stands for missing values and is not counted
    model.embedding.tables[(4, True)].assign(table)
    model.embedding.tables[(2, True)].assign(np.ones((5, 2)))
    assert zero_rows_by_table(model.embedding) == {"user": (2, 6), "item": (0, 4)}
    assert sparsity(model)["zero_embedding_rows"] == 2 / 10


def test_zero_interaction_weights_are_those_of_kernels_head_and_projection(model):
    for variable in (*model.pin.kernels, model.heads["label"].kernel, model.heads["label"].bias):
        variable.assign(np.zeros(variable.shape))
    total = 2 * 6 * 6 + 3 + 1 + 2 * 4
    assert sparsity(model)["zero_interaction_weights"] == (total - 2 * 4) / total


def test_heat_maps_are_means_over_the_blocks_of_the_sub_spaces(model):
    kernel = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    model.pin.kernels[1].assign(kernel)
    expected = [
        [np.mean([abs(kernel[a * 3 + i, b * 3 + j]) for a in range(2) for b in range(2)]) for j in range(3)]
        for i in range(3)
    ]
    np.testing.assert_allclose(pin_kernels(model)["layer 2"], expected, rtol=1e-6)
