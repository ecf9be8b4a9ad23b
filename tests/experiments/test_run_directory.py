"""Runs in a directory: they go on where they broke off, end once, and refuse other flags, data and directories."""

import dataclasses
import json
import math
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext import metrics
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.experiments import run, running
from xdeepint_ext.experiments.checkpoints import CheckpointStore
from xdeepint_ext.experiments.placement import make_placement


class Killed(Exception):
    pass


def kill_after(monkeypatch, saves):
    """Makes the process die behind its n-th checkpoint."""
    save, count = CheckpointStore.save, [0]

    def dying(self):
        save(self)
        count[0] += 1
        if count[0] == saves:
            raise Killed

    monkeypatch.setattr(CheckpointStore, "save", dying)


@pytest.fixture(scope="module")
def finished(config_of, data_dirs, tmp_path_factory):
    """A finished run of three steps, in a directory of its own: (config, metrics)."""
    folder = tmp_path_factory.mktemp("finished")
    config = config_of(data_dir=data_dirs["without_valid"], max_steps=3, early_stopping="none", evaluate=("test",))
    config = config.replace(model_dir=str(folder / "run"))
    return config, run(config)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it."""
    config, found = finished
    shutil.copytree(config.model_dir, tmp_path / "copy")
    return config.replace(model_dir=str(tmp_path / "copy")), found


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "device"), [("one_device", "auto"), ("mirrored", "auto"), ("mirrored", "cpu")])
def test_a_run_that_broke_off_goes_on_and_ends_with_the_same_numbers(
    small_config, tmp_path, monkeypatch, strategy, device
):
    options = {"dropout": 0.2, "dnn_units": (5,)}
    changed = small_config.replace(epochs=2, eval_every=10, checkpoint_every=4, model_options=options)
    changed = changed.replace(strategy=strategy, embedding_device=device)
    undisturbed = run(changed.replace(model_dir=str(tmp_path / "a")))
    interrupted = changed.replace(model_dir=str(tmp_path / "b"))
    for saves in (1, 3):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_after(patch, saves)
            run(interrupted)
    assert not (tmp_path / "b/metrics.json").exists()
    again = run(interrupted)
    # Summation order may differ between two runs without --deterministic; a lost state shows in the third digit.
    for name in ("valid.auc", "valid.logloss", "test.auc", "test.logloss"):
        assert again[name] == pytest.approx(undisturbed[name], abs=1e-5), name
    assert (again["steps"], again["best_step"]) == (undisturbed["steps"], undisturbed["best_step"])
    assert len(list((tmp_path / "b/checkpoints/best").glob("*.index"))) == 1


def test_a_finished_run_is_not_repeated(copied, capsys):
    config, found = copied
    path = pathlib.Path(config.model_dir, "metrics.json")
    written = path.stat().st_mtime_ns
    assert run(config.replace(progress=True)) == found
    assert path.stat().st_mtime_ns == written
    assert "holds this run, finished: nothing to do" in capsys.readouterr().err


def test_a_finished_run_is_evaluated_anew_without_training(copied, monkeypatch):
    config, found = copied
    monkeypatch.setattr("xdeepint_ext.experiments.step_loops.make_steps", None)
    again = run(config.replace(slices=("tab",), save_predictions=True))
    assert again["test.auc"] == found["test.auc"]
    assert "test.slice.tab=home.auc" in again
    with np.load(pathlib.Path(config.model_dir, "predictions-test.npz")) as arrays:
        assert sorted(arrays) == ["groups", "label:click", "logit:click"]
        assert metrics.auc(arrays["label:click"], arrays["logit:click"]) == found["test.auc"]
    assert "--slices=tab" in pathlib.Path(config.model_dir, "flags.txt").read_text()
    assert "test.slice.tab: all labels are equal, so there is no AUC, for rare" in again["notes"]
    undefined = [name for name, value in again.items() if isinstance(value, float) and math.isnan(value)]
    assert undefined == ["test.slice.tab=rare.auc", "test.slice.tab=rare.gauc"]
    stored = json.loads(pathlib.Path(config.model_dir, "metrics.json").read_text())
    assert all(stored[name] is None for name in undefined)


def test_other_flags_are_refused_and_named(copied):
    config, _ = copied
    message = r"other flags:\n  --batch_size: 100 there, 50 here\n  --num_layers: 1 there, 2 here"
    with pytest.raises(ValueError, match=message):
        run(config.replace(batch_size=50, model_options={"num_layers": 2}))
    run(config.replace(checkpoint_every=7))  # which changes no number


def test_a_run_that_never_began_does_not_stand_in_the_way(small_config, tmp_path):
    config = small_config.replace(model_dir=str(tmp_path / "run"), max_steps=1)
    with pytest.raises(ValueError, match="num_subspaces must divide"):
        run(config.replace(model_options={"num_subspaces": 3}))
    run(config)


def test_another_model_is_refused(copied, config_of):
    config, _ = copied
    options = {"max_steps": 3, "early_stopping": "none", "evaluate": ("test",), "model_dir": config.model_dir}
    with pytest.raises(ValueError, match="--model: xdeepint there, lr here"):
        run(config_of(data_dir=config.data_dir, model="lr", model_options={}, **options))


def test_other_data_are_refused_and_named(copied, data_dirs):
    config, _ = copied
    with pytest.raises(DataError, match=r"other data than .*split 'valid'"):
        run(config.replace(data_dir=data_dirs["one"]))


def test_a_directory_of_something_else_is_refused(small_config, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"is no run's directory: it holds \['thesis.tex'\]"):
        run(small_config.replace(model_dir=str(tmp_path)))
    assert sorted(os.listdir(tmp_path)) == ["thesis.tex"]


def test_a_directory_that_cannot_be_made_is_an_error(small_config, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        run(small_config.replace(model_dir=str(tmp_path / "file" / "model")))


def test_checkpoints_that_cannot_be_written_are_an_error(small_config, tmp_path):
    model_dir = tmp_path / "run"

    def full(self, *arguments, **keywords):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.train.CheckpointManager, "save", full)
        with pytest.raises(
            OSError, match=r"no checkpoint can be written to .*/run/checkpoints: No space left on device"
        ):
            run(small_config.replace(max_steps=1, early_stopping="none", model_dir=str(model_dir)))
    assert not (model_dir / "metrics.json").exists()


def test_a_checkpoint_of_other_replicas_is_refused_with_both_numbers(copied, monkeypatch):
    config, _ = copied
    pathlib.Path(config.model_dir, "metrics.json").unlink()
    here = dataclasses.replace(make_placement(config), topology="2 parameter servers")
    monkeypatch.setattr(running, "make_placement", lambda _: here)
    with pytest.raises(ValueError, match=r"ckpt-3 was made by one device, but this run has 2 parameter servers"):
        run(config)


def test_two_processes_in_one_directory_are_refused(copied):
    fcntl = pytest.importorskip("fcntl")
    config, _ = copied
    with open(os.path.join(config.model_dir, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is running in"):
            run(config)


def test_a_checkpoint_that_does_not_fit_is_an_error(copied):
    config, _ = copied
    folder = pathlib.Path(config.model_dir)
    (folder / "metrics.json").unlink()
    for path in folder.glob("checkpoints/ckpt-3.*"):
        path.write_bytes(b"broken")
    with pytest.raises(ValueError, match="ckpt-3 does not fit the model"):
        run(config)


def test_a_run_leaves_what_repeats_and_explains_it(finished):
    config, found = finished
    folder = pathlib.Path(config.model_dir)
    names = {path.name for path in folder.iterdir()}
    assert {"flags.txt", "checkpoints", "tensorboard", "metrics.json", "data_manifest.json"} <= names
    assert list(folder.glob("tensorboard/*/events*"))
    assert json.loads((folder / "metrics.json").read_text()).keys() == found.keys()
    assert {"test.auc", "test.logloss", "examples_per_second", "zero_embedding_rows", "parameters"} <= set(found)
