"""Runs in memory: they learn, stop when they should, and refuse what does not fit."""

import dataclasses
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext import metrics
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.experiments import execute
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.training import Schedule


@pytest.fixture(scope="module")
def learned(small_config):
    """A run of eight epochs."""
    return execute(small_config.replace(epochs=8, slices=("tab", "tags", "age")))


def test_a_run_learns_the_interaction_and_reports_exact_metrics(learned):
    predictions = learned.predictions["test"]
    labels, logits = predictions.labels["click"], predictions.logits["click"]
    assert len(labels) == learned.metrics["test.rows"] == 300
    assert learned.metrics["test.auc"] == metrics.auc(labels, logits) > 0.75
    assert learned.metrics["test.logloss"] == metrics.log_loss(labels, logits)
    assert learned.metrics["test.gauc"] == metrics.gauc(labels, logits, predictions.groups).value
    assert learned.metrics["parameters"] == sum(np.prod(w.shape) for w in learned.model.weights)
    assert learned.metrics["multiply_adds"] > 0


def test_slices_have_readable_names(learned):
    predictions = learned.predictions["test"]
    names = {key.split("slice.")[1].rpartition(".")[0] for key in learned.metrics if "slice." in key}
    assert {"tab=home", "tab=search", "tags=t0"} <= names
    assert sum(name.startswith("age=[") for name in names) == 4
    tab = learned.inputs.schema["tab"]
    home = predictions.ids["tab"][:, 0] == 1 + tab.num_oov  # the most frequent value is the vocabulary's first
    expected = metrics.auc(predictions.labels["click"][home], predictions.logits["click"][home])
    assert learned.metrics["test.slice.tab=home.auc"] == expected
    assert learned.metrics["test.slice.tab=home.rows"] == home.sum()
    tagged = (predictions.ids["tags"] == 1 + learned.inputs.schema["tags"].num_oov).any(axis=1)
    with open(f"{learned.inputs.vocabulary_dir}/tags.txt") as stream:
        first = stream.readline().strip()
    assert learned.metrics[f"test.slice.tags={first}.rows"] == tagged.sum()


def test_the_best_weights_are_restored_and_patience_counts_steps(small_config):
    options = {"learning_rate": 0.3, "early_stopping": "logloss", "epochs": 50, "eval_every": 4, "patience": 8}
    finished = execute(small_config.replace(**options))
    history = {entry["step"]: entry for entry in finished.state.now.history}
    best = min(history.values(), key=lambda entry: entry["valid_logloss"])
    assert finished.metrics["best_step"] == best["step"] == finished.metrics["steps"] - 8
    assert finished.metrics["valid.logloss"] == pytest.approx(best["valid_logloss"], rel=1e-6)
    assert finished.metrics["finished"] == "no better logloss on the valid split for 8 steps"


def test_without_early_stopping_all_steps_are_done_and_the_last_weights_stay(small_config, data_dirs):
    options = {"early_stopping": "none", "evaluate": ("test",), "max_steps": 5, "cache": False}
    now = execute(small_config.replace(data_dir=data_dirs["without_valid"], **options)).state.now
    assert (now.step, now.best_step, now.finished) == (5, None, "all steps done")
    assert "valid_auc" not in now.history[-1]


def test_no_valid_split_is_an_error_that_says_what_to_do(small_config, data_dirs):
    with pytest.raises(DataError, match=r"early_stopping=auc needs a valid split.*--early_stopping=none"):
        execute(small_config.replace(data_dir=data_dirs["without_valid"]))


def test_an_absent_split_is_named_before_training(small_config, data_dirs):
    changed = small_config.replace(data_dir=data_dirs["without_valid"], early_stopping="none")
    with pytest.raises(DataError, match="split 'valid' is empty or absent"):
        execute(changed)


def test_a_diverging_loss_is_an_error(small_config):
    with pytest.raises(FloatingPointError, match=r"training loss is (nan|inf) after step \d+: lower the learning rate"):
        execute(small_config.replace(learning_rate=1e30, optimizer="adagrad"))


@pytest.mark.parametrize("cache", [False, True])
def test_a_damaged_record_is_named_or_counted(small_config, data_dirs, tmp_path, cache):
    broken = tmp_path / "data"
    shutil.copytree(data_dirs["one"], broken)
    file = sorted(broken.glob("train-*"))[1]
    content = bytearray(file.read_bytes())
    content[20] ^= 0xFF
    file.write_bytes(content)
    changed = small_config.replace(data_dir=str(broken), max_steps=12, cache=cache)
    with pytest.raises(DataError, match=rf"{file.name}, record 0: its checksum does not match"):
        execute(changed)
    found = execute(changed.replace(max_bad_records=1)).metrics
    assert found["bad_records_skipped"] == 1
    assert found["notes"][0] == "train: 1 damaged records were skipped"


def test_several_tasks_have_metrics_each_and_missing_labels_are_left_out(small_config, data_dirs):
    finished = execute(small_config.replace(data_dir=data_dirs["two"], max_steps=12))
    likes = finished.predictions["test"].labels["like"]
    assert 0 < finished.metrics["test.like.rows"] == (likes >= 0).sum() < 300 == finished.metrics["test.click.rows"]
    mean = (finished.metrics["test.click.auc"] + finished.metrics["test.like.auc"]) / 2
    assert finished.metrics["test.mean.auc"] == pytest.approx(mean)


def test_a_slice_by_a_column_that_has_no_ids_is_refused(small_config):
    with pytest.raises(ValueError, match="slices: 'click' is no input with ids; there are"):
        execute(small_config.replace(slices=("click",)))


def test_features_can_be_chosen(small_config):
    finished = execute(small_config.replace(max_steps=1, features=("user", "ta*")))
    assert [feature.name for feature in finished.inputs.schema.inputs] == ["user", "tab", "tags"]
    with pytest.raises(ValueError, match="features: 'usr' fits no input"):
        execute(small_config.replace(features=("usr",)))


@pytest.mark.parametrize(("model", "options"), [("lr", {}), ("fm", {"width": 4})])
def test_baselines_run(config_of, model, options):
    assert execute(config_of(model=model, model_options=options, max_steps=3)).metrics["model"] == model


@pytest.mark.slow
def test_mirrored_on_two_devices_equals_one_device(small_config):
    changed = small_config.replace(max_steps=20, optimizer="paper", learning_rate=0.05, eval_every=20)
    one, two = (execute(changed.replace(strategy=name)) for name in ("one_device", "mirrored"))
    of_one, of_two = one.predictions["test"], two.predictions["test"]
    np.testing.assert_array_equal(of_two.labels["click"], of_one.labels["click"])
    np.testing.assert_allclose(of_two.logits["click"], of_one.logits["click"], atol=1e-5)
    losses = [found.state.now.history[0]["train_loss"] for found in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("wrong", [{"strategy": "multi_worker"}, {"strategy": "mirrored", "jit_compile": True}])
def test_weights_in_host_memory_are_for_one_machine_without_xla(small_config, wrong):
    with pytest.raises(ValueError, match=r"embedding_device=cpu is for the strategies \('auto', .*got strategy=m"):
        small_config.replace(embedding_device="cpu", **wrong)


def test_a_last_batch_smaller_than_the_replicas_is_trained_on(small_config, monkeypatch):
    everything = Inputs._arrays

    def one_less(inputs, split):
        return tf.nest.map_structure(lambda x: x[:1199] if split == "train" else x, everything(inputs, split))

    monkeypatch.setattr(Inputs, "_arrays", one_less)
    changed = small_config.replace(strategy="mirrored", batch_size=1198, max_steps=2, eval_every=2)
    assert math.isfinite(execute(changed).state.now.history[0]["train_loss"])


def test_a_batch_that_the_replicas_cannot_share_is_refused(small_config):
    with pytest.raises(ValueError, match=r"batch_size is that of all replicas .* by their number, 2; got 99"):
        execute(small_config.replace(strategy="mirrored", batch_size=99))


def test_clusters_without_their_variable_are_refused(small_config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("multi_worker", "parameter_server"):
        with pytest.raises(ValueError, match=f"--strategy={name} needs the variable TF_CONFIG"):
            execute(small_config.replace(strategy=name))


def test_workers_with_unequal_files_are_refused_or_take_as_many_steps(small_config):
    inputs = Inputs(small_config.replace(sharding="files", cache=False))
    inputs.divide_among(2)
    largest = max(shard.records for shard in inputs.manifest.splits["train"])
    assert inputs.steps_per_epoch == -(-largest // 50)
    shards = [
        dataclasses.replace(shard, records=records)
        for shard, records in zip(inputs.manifest.splits["train"], (1000, 200), strict=True)
    ]
    inputs.manifest.splits["train"] = shards
    with pytest.raises(ValueError, match=r"2 files of train give the 2 workers \[1000, 200\] records"):
        inputs.divide_among(2)
    with pytest.raises(ValueError, match="sharding=files reads files, and cache keeps"):
        Inputs(small_config.replace(sharding="files")).divide_among(2)


@pytest.mark.parametrize(
    "options",
    [
        {"mixed_precision": "mixed_float16"},
        pytest.param({"mixed_precision": "mixed_bfloat16"}, marks=pytest.mark.slow),
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_mixed_precision_and_xla_run_and_leave_the_process_as_it_was(small_config, options):
    found = execute(small_config.replace(max_steps=4, **options))
    assert math.isfinite(found.metrics["test.logloss"])
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    assert not tf.keras.backend.experimental.is_tf_random_generator_enabled()


def test_the_schedule_meets_every_evaluation_and_checkpoint(small_config):
    schedule = Schedule(small_config.replace(eval_every=10, checkpoint_every=4, max_steps=25), steps_per_epoch=12)
    steps, step = [], 0
    while step < schedule.total:
        step += schedule.steps_until_event(step)
        steps.append(step)
    assert steps == [4, 8, 10, 12, 16, 20, 24, 25]
    assert [s for s in steps if schedule.evaluates(s)] == [10, 20, 25]


def test_what_cannot_be_written_is_refused_before_training(small_config):
    for name in ("export", "save_predictions"):
        with pytest.raises(ValueError, match=f"{name} needs a model_dir"):
            execute(small_config.replace(**{name: True}))
