"""One device, two replicas and two workers train alike; parameter servers train as well; clusters end as documented."""

import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.experiments.equal_weights import SETTINGS, config_of
from tests.experiments.test_ranktower import folder  # noqa: F401 - a fixture
from xdeepint_ext.experiments import execute
from xdeepint_ext.experiments.local_cluster import LocalCluster

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "1"}


def cluster_of(module, *flags, **options):
    """A cluster of this module's processes, and what they print."""
    output = io.StringIO()
    command = [sys.executable, "-m", module, *flags]
    return LocalCluster(command, environment=ENVIRONMENT, output=output, **options), output


def two_workers(out, data_dirs):
    """Starts two workers on the settings of the given directories."""
    settings = [f"{name}={directory}" for name, directory in data_dirs.items()]
    cluster, output = cluster_of("tests.experiments.equal_weights", str(out), *settings, workers=2)
    cluster.start()
    return cluster, output


def weights_of(name, directory, strategy):
    return [w.numpy() for w in execute(config_of(name, directory, strategy=strategy)).model.weights]


def check_equal(out, data_dirs):
    """Trains all settings on two workers, two replicas and one device, and compares the weights."""
    cluster, output = two_workers(out, data_dirs)
    here = {n: [weights_of(n, d, s) for s in ("one_device", "mirrored")] for n, d in data_dirs.items()}
    assert cluster.wait() == 0, output.getvalue()[-4000:]
    for name, (one, two) in here.items():
        with np.load(out / f"{name}.npz") as arrays:
            workers = list(arrays.values())
        assert len(one) == len(two) == len(workers) > 2
        for i, weight in enumerate(one):
            np.testing.assert_allclose(two[i], weight, rtol=0, atol=1e-5, err_msg=f"{name}, replicas, {i}")
            np.testing.assert_allclose(workers[i], weight, rtol=0, atol=1e-5, err_msg=f"{name}, workers, {i}")


def test_two_workers_and_two_replicas_have_the_weights_of_one_device(data_dirs, tmp_path):
    check_equal(tmp_path, {"xdeepint": data_dirs["one"]})


@pytest.mark.slow
@pytest.mark.long
def test_so_have_gates_codebooks_and_towers(data_dirs, folder, tmp_path):  # noqa: F811
    lists = str(folder / "lists")
    found = {name: lists if name == "ranktower" else data_dirs["one"] for name in SETTINGS if name != "xdeepint"}
    check_equal(tmp_path, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["xdeepint", "groupce", pytest.param("adaensemble", marks=pytest.mark.long)])
def test_weights_in_host_memory_are_there_once_and_train_as_on_one_device(data_dirs, name):
    config = config_of(name, data_dirs["one"], strategy="mirrored", embedding_device="cpu", evaluate=("test",))
    one = execute(config.replace(strategy="one_device", embedding_device="auto"))
    found = execute(config)
    strategy = found.model.distribute_strategy
    assert strategy.num_replicas_in_sync == 2
    variables = [*found.model.weights, *found.model.optimizer.variables]
    assert all(len(strategy.experimental_local_results(variable)) == 1 for variable in variables)
    for weight, expected in zip(found.model.weights, one.model.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), expected.numpy(), rtol=0, atol=1e-5, err_msg=weight.name)
    assert found.metrics["test.logloss"] == pytest.approx(one.metrics["test.logloss"], abs=1e-6)


FLAGS = ("--batch_size=60", "--epochs=4", "--eval_every=20", "--checkpoint_every=10", "--noreport", "--width=4")
FLAGS += ("--num_layers=1", "--num_subspaces=2", "--optimizer=paper", "--learning_rate=0.05", "--deterministic")
LEARNING = ("--optimizer=adam", "--learning_rate=0.02", "--epochs=8", "--early_stopping=none")  # of so few records


@pytest.mark.slow
def test_parameter_servers_start_from_the_weights_of_one_device(data_dirs):
    command = [sys.executable, "-m", "tests.experiments.divided_weights", data_dirs["one"]]
    found = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0 and "equal" in found.stdout, found.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.long
def test_parameter_servers_train_evaluate_and_leave_a_run(data_dirs, tmp_path):
    flags = [f"--data_dir={data_dirs['one']}", f"--model_dir={tmp_path}/run", "--strategy=parameter_server", *FLAGS]
    flags += LEARNING
    cluster, output = cluster_of("xdeepint_ext.experiments.xdeepint", *flags, workers=1, ps=2)
    cluster.start()
    assert cluster.wait() == 0, output.getvalue()[-4000:]
    found = json.loads((tmp_path / "run/metrics.json").read_text())
    assert found["steps"] == 8 * 1200 // 60 and found["test.auc"] > 0.7
