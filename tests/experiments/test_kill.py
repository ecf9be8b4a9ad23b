"""kill -9 in the middle of an epoch, start again: the same numbers and weights, bit for bit."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

FLAGS = [
    *("--batch_size=50", "--epochs=3", "--eval_every=20", "--checkpoint_every=7", "--seed=3", "--noreport"),
    *("--deterministic", "--width=4", "--num_layers=1", "--num_subspaces=2", "--dropout=0.2", "--dnn_units=5"),
    *("--dnn_dropout=0.1", "--optimizer=paper", "--learning_rate=0.05"),
]


def start(data_dir, model_dir):
    command = [sys.executable, "-m", "xdeepint_ext.experiments.xdeepint", f"--data_dir={data_dir}"]
    log = open(f"{model_dir}.log", "a")  # noqa: SIM115 - the process writes to it
    return subprocess.Popen([*command, f"--model_dir={model_dir}", *FLAGS], stdout=log, stderr=log)


def finish(process, model_dir):
    code = process.wait(timeout=300)
    assert code == 0, pathlib.Path(f"{model_dir}.log").read_text()[-3000:]


def latest(model_dir):
    """Step of the latest checkpoint; 0 before the first."""
    found = tf.train.latest_checkpoint(os.path.join(model_dir, "checkpoints"))
    return int(found.rpartition("-")[2]) if found else 0


def kill_between(process, model_dir, first, last):
    """Kills the process when its latest checkpoint is of a step in that range."""
    deadline = time.monotonic() + 300
    while latest(model_dir) < first:
        running = process.poll() is None and time.monotonic() < deadline
        assert running, pathlib.Path(f"{model_dir}.log").read_text()[-3000:]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first <= latest(model_dir) < last


def weights(model_dir):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(os.path.join(model_dir, "checkpoints")))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "state" not in name}


def test_a_killed_run_ends_bit_for_bit_as_an_undisturbed_one(data_dirs, tmp_path):
    undisturbed, killed = str(tmp_path / "undisturbed"), str(tmp_path / "killed")
    steps = 3 * 1200 // 50
    other = start(data_dirs["one"], undisturbed)
    kill_between(start(data_dirs["one"], killed), killed, 7, steps)
    at = latest(killed)
    assert not os.path.exists(os.path.join(killed, "metrics.json"))
    finish(start(data_dirs["one"], killed), killed)
    finish(other, undisturbed)
    assert f"goes on from step {at}" in pathlib.Path(f"{killed}.log").read_text()
    found = [json.loads(pathlib.Path(folder, "metrics.json").read_text()) for folder in (undisturbed, killed)]
    for metrics in found:
        assert metrics["steps"] == steps
        del metrics["examples_per_second"]
    assert found[0] == found[1]
    one, two = weights(undisturbed), weights(killed)
    assert one.keys() == two.keys() and len(one) > 20
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)
