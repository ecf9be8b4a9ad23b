"""Runs on lists: from the command's flags to metrics, report and tables."""

import math
import shutil

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from tests.experiments import short_videos
from xdeepint_ext.data.lists import ListSizes, write_lists
from xdeepint_ext.data.loaders.kuairand import KuaiRand
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.experiments import Config, execute, run
from xdeepint_ext.experiments.command_line import config_of_models, summary
from xdeepint_ext.experiments.compare import Comparison, compare
from xdeepint_ext.experiments.flags import define_flags
from xdeepint_ext.experiments.list_inputs import ListInputs, open_inputs
from xdeepint_ext.experiments.named_losses import LOSSES, make_loss
from xdeepint_ext.experiments.ranktower import COMPETITORS, DEFAULTS
from xdeepint_ext.experiments.ranktower_lists import Options, make_lists
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.run_directory import read_flags
from xdeepint_ext.experiments.settings import settings_of_table
from xdeepint_ext.experiments.sweep import Sweep
from xdeepint_ext.experiments.tables import TABLES
from xdeepint_ext.losses.base import LossLayer

SMALL = {
    "ranktower": {"width": 4, "units": (6,), "num_heads": (2,), "head_dim": 4},
    "twotower": {"width": 4, "units": (6, 4)},
    "inttower": {"width": 4, "units": (6, 4), "num_heads": (2,), "head_dim": 4},
    "dat": {"width": 4, "units": (6, 4)},
    "cold": {"width": 4, "units": (6,)},
    "lr": {},
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Raw and prepared rows, and lists with a teacher's scores."""
    folder = tmp_path_factory.mktemp("short_videos")
    raw = short_videos.write(folder / "raw")
    short_videos.prepared(raw, folder / "rows")
    make_lists(
        Options(
            data_dir=str(folder / "rows"),
            raw_dir=str(raw),
            output_dir=str(folder / "lists"),
            impressions=3,
            candidates=5,
            random=4,
            pool=8,
            teacher_model="lr",
            teacher_setting="epochs=2 batch_size=64 optimizer=adam learning_rate=0.02",
            warm_days=4,
            refit_days=2,
            factors=4,
        )
    )
    return folder


@pytest.fixture(scope="session")
def make_config(folder):
    """A function that makes the config of a run of a second or two, in memory."""

    def make(model="ranktower", **changes):
        values = {"data_dir": str(folder / "lists"), "batch_size": 16, "epochs": 4, "learning_rate": 0.02}
        values |= {"early_stopping": "ndcg", "optimizer": "adam", "cache": True, "progress": False, "report": False}
        return Config(model=model, **{**values, "model_options": SMALL[model], **changes})

    return make


@pytest.fixture(scope="session")
def trained(make_config, tmp_path_factory):
    """(a finished run's directory, its metrics)."""
    path = tmp_path_factory.mktemp("run") / "model"
    return path, run(make_config(model_dir=str(path), report=True, save_predictions=True))


def test_the_teacher_has_learned_of_the_days_before(folder):
    manifest = Manifest.load(folder / "lists")
    assert min(manifest.notes["teacher"]["auc"].values()) > 0.7
    assert "model=lr" in manifest.notes["teacher"]["settings"]
    assert not (folder / "lists.parts").exists()


def test_a_run_has_the_metrics_of_three_test_sets(trained):
    _, found = trained
    for name, ks in (("impressions", (1, 2)), ("candidates", (5, 10, 20, 50)), ("catalogue", (5, 10, 20, 50))):
        for metric in [f"{measure}_at_{k}" for measure in ("recall", "ndcg") for k in ks]:
            assert 0 <= found[f"test.{name}.{metric}"] <= 1
        assert found[f"test.{name}.lists"] > 0 and found[f"test.{name}.items_median"] > 1
    assert found["dataset"] == "kuairand_lists" and "valid.catalogue.lists" not in found
    assert found["test.candidates.recall_at_50"] == 1.0  # lists are shorter
    assert found["multiply_adds"] > found["multiply_adds_online"] > 0
    assert "auc" not in "".join(found)


def test_it_learns_what_is_clicked(trained):
    """A list has a positive in most places; chance would put it first in half of the lists, or less."""
    _, found = trained
    assert found["test.impressions.recall_at_1"] * found["test.impressions.positives_mean"] > 0.7


def test_the_report_is_about_lists(trained):
    path, found = trained
    page = (path / "report.html").read_text()
    assert f"{found['test.catalogue.ndcg_at_50']:.5f}" in page and "Recall@20" in page
    assert "impressions of a list: mean" in page and "Rankings on test" in page
    assert "training steps of 16 lists" in page and "NDCG@10 on impressions and candidates against steps" in page
    assert "ROC" not in page and "Calibration" not in page and "AUC" not in page


def test_the_summary_names_what_decides(trained):
    path, found = trained
    text = summary(str(path), found)
    assert text.startswith("ranktower on kuairand_lists: ") and "  test.candidates.ndcg_at_10 " in text
    assert "test.catalogue.recall_at_50" in text and "recall_at_5 " not in text


def test_a_finished_run_is_not_repeated(trained, make_config, monkeypatch):
    path, found = trained
    monkeypatch.setattr("xdeepint_ext.experiments.running._execute", None)
    again = run(make_config(model_dir=str(path), report=True, save_predictions=True))
    assert {n: v for n, v in again.items() if v == v} == {n: v for n, v in found.items() if v == v}


@pytest.mark.parametrize(
    "model",
    [name if name in ("cold", "twotower") else pytest.param(name, marks=pytest.mark.slow) for name in COMPETITORS],
)
def test_a_competitor_trains_on_the_same_lists(model, make_config, trained):
    loss = "arf_50" if model == "twotower" else "logloss"
    finished = execute(make_config(model, loss=loss, max_steps=4))
    found = finished.metrics
    assert found["test.catalogue.lists"] == trained[1]["test.catalogue.lists"]
    assert found["test.impressions.items_mean"] == trained[1]["test.impressions.items_mean"]
    assert not math.isnan(found["multiply_adds"])
    assert ("multiply_adds_online" in found) == (model in ("twotower", "inttower", "dat"))
    if model == "twotower":
        [scalar] = finished.model.loss_layers
        assert float(scalar.log_weight) != 0.0


def test_stages_are_left_out_of_training_and_of_nothing_else(make_config):
    whole, shown = (ListInputs(make_config(stages=stages)) for stages in (("impression", "random"), ("impression",)))
    for inputs, wanted in ((whole, {0, 2}), (shown, {0})):
        features, labels = next(iter(inputs.train(0)))
        found = features["stages"].numpy()[labels.numpy() >= 0]
        assert set(found.tolist()) == wanted
        assert labels.shape[1] <= (7 if 2 in wanted else 3)  # most impressions, and random items
        assert labels.numpy().max(axis=0).min() >= 0 and features["item_ids"].shape == labels.shape
    for split in ("valid", "test"):
        for (one, y), (other, z) in zip(whole.batches(split), shown.batches(split), strict=True):
            np.testing.assert_array_equal(y, z)
            np.testing.assert_array_equal(one["item_ids"], other["item_ids"])
            assert {0, 1} <= set(np.unique(one["stages"]).tolist()) <= {-1, 0, 1}


def test_lists_are_read_from_files_as_from_memory(make_config):
    epochs = []
    for cache in (True, False):
        inputs = open_inputs(make_config(cache=cache))
        batches = list(inputs.train(0).take(inputs.steps_per_epoch))
        epochs.append(sorted(tuple(row[row >= 0]) for features, _ in batches for row in _items(features)))
        assert len(list(inputs.train(1).take(1))) == 1
    assert epochs[0] == epochs[1] and len(epochs[0]) == inputs.records
    fixed = open_inputs(make_config(jit_compile=True)).train(0).element_spec
    assert fixed[1].shape[1] == 12  # XLA wants one shape


@pytest.mark.slow
def test_lists_with_one_item_or_without_teacher(folder, make_config, tmp_path):
    """Impressions alone: lists of one item teach nothing and break nothing; a loss on a teacher is refused."""
    days = {"train_until": short_videos.TRAIN_UNTIL, "valid_until": short_videos.VALID_UNTIL}
    interactions = KuaiRand(history=True, history_length=4).interactions(folder / "raw")
    few = {"order": ("is_click",), "sizes": ListSizes(1, 0, 0), "min_items": 1, "min_positives": 0}
    manifest = write_lists(folder / "rows", interactions, tmp_path / "lists", **few, **days)
    assert manifest.lists["statistics"]["train"]["length"]["max"] == 1
    config = make_config("lr", data_dir=str(tmp_path / "lists"), max_steps=3)
    with pytest.raises(DataError, match=r"loss=default needs \['teacher'\], but the lists have only .*undistilled"):
        execute(config)
    finished = execute(config.replace(loss="undistilled", early_stopping="none"))
    assert finished.metrics["test.impressions.lists"] == 0 and finished.state.now.step == 3
    assert any("test.impressions: no list is in this set" in note for note in finished.metrics["notes"])
    positives = manifest.lists["statistics"]["test"]["grades"]["1"]
    assert finished.metrics["test.candidates.lists"] == positives  # the others have none


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ("candidate",)}, "stages must be impression, which has the labels, and some of"),
        ({"stages": ("impression", "shown")}, "stages must be impression, .* got"),
        ({"slices": ("user_id",)}, "slices are of single examples, but .* holds lists"),
        (
            {"early_stopping": "auc"},
            r"early_stopping must be one of \('ndcg', 'recall', 'none'\) where the data are lists",
        ),
        ({"loss": "hinge"}, "loss must be one of"),
    ],
)
def test_what_does_not_fit_lists_is_named(make_config, changes, message):
    with pytest.raises(ValueError, match=message):
        execute(make_config(**changes))


def test_what_does_not_fit_single_examples_is_named(folder, config_of):
    for changes, message in (
        ({"loss": "hybrid"}, "loss=hybrid is for lists, but .* holds single examples"),
        ({"early_stopping": "ndcg"}, r"early_stopping must be one of \('auc', 'gauc', 'logloss', 'none'\)"),
    ):
        with pytest.raises(ValueError, match=message):
            execute(config_of(**changes))


def test_stages_absent_are_named(folder, make_config, tmp_path):
    overlay = "features:\n  stage: {kind: ignore}\n"
    shutil.copytree(folder / "lists", tmp_path / "lists")
    (tmp_path / "lists" / "roles.yaml").write_text(overlay)
    with pytest.raises(DataError, match=r"the test sets need stages \['stages'\], but the lists have only"):
        open_inputs(make_config(data_dir=str(tmp_path / "lists")))


def _items(features):
    """A tuple for each list: its user and items."""
    return np.concatenate([features["group_ids"].numpy()[:, np.newaxis], np.sort(features["item_ids"].numpy())], axis=1)


def flags_of(*arguments):
    values = flags.FlagValues()
    models = ["ranktower", *COMPETITORS]
    define_flags(models, values)
    flags.DEFINE_enum("model", "ranktower", models, "", flag_values=values)
    values(["ranktower", *arguments])
    return config_of_models(models, DEFAULTS, values)


def test_the_command_s_flags(trained):
    config = flags_of("--data_dir=d")
    assert (config.model, config.early_stopping, config.batch_size) == ("ranktower", "ndcg", 64)
    assert config.options == type(config.options)()
    dat = flags_of("--data_dir=d", "--model=dat", "--loss=logloss", "--stages=impression,random", "--batch_size=8")
    assert dat.options.units == (256, 128, 32) and dat.stages == ("impression", "random") and dat.batch_size == 8
    with pytest.raises(ValueError, match="--num_heads is no flag of model dat, which has"):
        flags_of("--data_dir=d", "--model=dat", "--num_heads=2")
    path, _ = trained
    assert read_flags(str(path / "flags.txt"))["model"] == "ranktower"


def test_another_model_s_run_is_repeated_by_the_same_command(make_config, tmp_path):
    run(make_config("lr", loss="logloss", max_steps=1, model_dir=str(tmp_path / "run")))
    lines = (tmp_path / "run/flags.txt").read_text().splitlines()
    assert lines[0] == "# python -m xdeepint_ext.experiments.ranktower --flagfile=flags.txt"
    assert lines[1] == "--model=lr" and "--loss=logloss" in lines
    assert read_flags(str(tmp_path / "run/flags.txt"))["model"] == "lr"


@pytest.mark.slow
def test_a_table_of_lists(make_config, tmp_path, monkeypatch):
    rows = {"hybrid": make_config("lr", max_steps=8), "clicks": make_config("lr", loss="logloss", max_steps=1)}
    out = str(tmp_path / "out")
    sweep = Sweep(rows, (0, 1), str(tmp_path / "results.csv"), predictions_dir=f"{out}/predictions")
    comparison = Comparison(sweep, out, "ranktower", "ndcg", "hybrid")
    text = compare(comparison)
    lines = text.splitlines()
    assert lines[0].startswith("|  | seeds | candidates NDCG@10 | candidates Recall@10 | catalogue NDCG@50 |")
    assert lines[0].endswith("| candidates NDCG@10 − hybrid's (95 %) | catalogue NDCG@50 − hybrid's (95 %) |")
    assert [line.split("|")[1].strip() for line in lines[2:4]] == list(rows) and "ensemble" not in text
    assert "paired bootstrap over users" in text and "Lists/s: of training" in text
    assert "Impressions: the impressions of lists" in text and "| Recall@5 | NDCG@5 |" in text
    results = list(Results(sweep.results))
    assert len(results) == 4 and {row["dataset"] for row in results} == {"kuairand_lists"}
    expected = np.mean([float(row["test.catalogue.recall_at_20"]) for row in results if row["row"] == "clicks"])
    assert f"{expected:.5f} ± " in text
    monkeypatch.setattr("xdeepint_ext.experiments.sweep.execute", None)  # nothing is repeated
    assert compare(comparison) == text


def test_the_tables_rows_are_the_paper_s(folder):
    given = {"data_dir": str(folder / "lists")}
    settings = {name: settings_of_table(TABLES[f"ranktower_{name}"], given) for name in ("sampling", "losses")}
    assert [config.stages for config in settings["sampling"].values()] == [
        ("impression", "candidate", "random"),
        ("impression", "candidate"),
        ("impression", "random"),
        ("impression",),
    ]
    assert settings["losses"]["hybrid"].settings() == settings["sampling"]["full-stage"].settings()
    assert {config.early_stopping for config in settings["losses"].values()} == {"ndcg"}


@pytest.mark.parametrize("name", LOSSES)
def test_a_named_loss_sees_what_it_should(name):
    """It is finite and has a finite gradient, none for padding, on lists without positives or of one item, too."""
    labels = np.zeros((3, 24))
    labels[0, 0], labels[2, 0], labels[2, 1:] = 2.0, 1.0, -1.0
    stages = np.tile(np.arange(24) % 3, (3, 1))
    logits = tf.constant(np.random.default_rng(0).normal(size=(3, 24)))
    loss = make_loss(name)
    side = {"label": labels, "stages": stages, "teacher": np.random.default_rng(1).normal(size=(3, 24))}
    target = {n: side[n] for n in ("label", *loss.side_inputs)} if loss.side_inputs else labels
    if isinstance(loss, LossLayer):
        loss.build(None)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = tf.add_n([part.weight * part.total for part in loss.parts(target, logits)])
    slopes = tape.gradient(value, logits).numpy()
    assert np.isfinite(value) and np.isfinite(slopes).all() and np.abs(slopes[0]).max() > 0
    assert not slopes[2, 1:].any()
