"""SIGTERM saves and ends with the documented code; killed processes of all strategies go on from a checkpoint."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from tests.experiments.test_strategies import ENVIRONMENT, FLAGS, LEARNING, cluster_of
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments.preemption import PREEMPTED, LostProcess, StopRequest, names_lost_processes

XDEEPINT = "xdeepint_ext.experiments.xdeepint"
LONG = ("--epochs=30", "--early_stopping=none", "--evaluate=test", "--dropout=0.2")


def flags_of(data_dirs, model_dir, *more):
    return [f"--data_dir={data_dirs['one']}", f"--model_dir={model_dir}", *FLAGS, *LONG, *more]


def start(flags):
    log = open(f"{flags[1].partition('=')[2]}.log", "a")  # noqa: SIM115 - the process writes to it
    return subprocess.Popen([sys.executable, "-m", XDEEPINT, *flags], stdout=log, stderr=log, env=ENVIRONMENT)


def latest(model_dir):
    """Step of the latest checkpoint; 0 before the first."""
    found = tf.train.latest_checkpoint(os.path.join(model_dir, "checkpoints"))
    return int(found.rpartition("-")[2]) if found else 0


def wait_until(step, model_dir, alive):
    deadline = time.monotonic() + 600
    while latest(model_dir) < step and alive() and time.monotonic() < deadline:
        time.sleep(0.01)


def metrics_of(model_dir):
    found = json.loads(pathlib.Path(model_dir, "metrics.json").read_text())
    return {name: value for name, value in found.items() if name != "examples_per_second"}


def test_a_request_to_stop_is_noted_and_a_second_one_is_not():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest(active=True) as stop:
        assert not stop.came
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.came and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before
    with StopRequest(active=False):
        assert signal.getsignal(signal.SIGTERM) == before


def test_errors_of_connections_name_the_loss_of_a_process():
    error = tf.errors.UnavailableError(None, None, "Connection reset by peer")
    with pytest.raises(LostProcess, match=r"start all again.*Connection reset by peer"), names_lost_processes(True):
        raise error
    with pytest.raises(tf.errors.UnavailableError), names_lost_processes(False):
        raise error


@pytest.mark.slow
@pytest.mark.long
def test_sigterm_saves_and_the_same_command_goes_on(data_dirs, tmp_path):
    undisturbed, ended = str(tmp_path / "undisturbed"), str(tmp_path / "ended")
    process = start(flags_of(data_dirs, ended))
    wait_until(10, ended, lambda: process.poll() is None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == PREEMPTED
    log = pathlib.Path(f"{ended}.log").read_text()
    assert f"ended by SIGTERM after step {latest(ended)}, which is saved" in log
    for model_dir in (ended, undisturbed):
        assert start(flags_of(data_dirs, model_dir)).wait(timeout=600) == 0
    assert metrics_of(ended) == metrics_of(undisturbed)


@pytest.mark.slow
@pytest.mark.long
def test_ten_kills_of_a_local_run_lose_nothing(data_dirs, tmp_path):
    draw = random.Random(5)
    undisturbed, killed = str(tmp_path / "undisturbed"), str(tmp_path / "killed")
    assert start(flags_of(data_dirs, undisturbed)).wait(timeout=600) == 0
    at = 0
    for _ in range(10):
        process = start(flags_of(data_dirs, killed))
        wait_until(at + 10, killed, lambda process=process: process.poll() is None)
        seen = time.monotonic()
        wait_until(at + 20, killed, lambda process=process: process.poll() is None)
        # The time of some ten steps: however fast the machine is, the 600 steps are enough for all kills.
        time.sleep(draw.uniform(0, min(0.3, time.monotonic() - seen)))
        assert process.poll() is None, "ended too early to be killed"
        process.kill()
        process.wait()
        assert latest(killed) >= at, "a checkpoint was lost"
        at = latest(killed)
    assert start(flags_of(data_dirs, killed)).wait(timeout=600) == 0
    assert metrics_of(killed) == metrics_of(undisturbed)


def killed_cluster(flags, victims, model_dir, **options):
    """Runs a cluster that starts again what is killed, and kills the victims one after the other."""
    cluster, output = cluster_of(XDEEPINT, *flags, restarts=3 * len(victims), **options)
    cluster.start()
    codes = []
    waiting = threading.Thread(target=lambda: codes.append(cluster.wait()))
    waiting.start()
    seen = []
    for victim in victims:
        wait_until(latest(model_dir) + 10, model_dir, waiting.is_alive)
        assert waiting.is_alive(), output.getvalue()[-4000:]
        seen.append(latest(model_dir))
        cluster.processes[victim].kill()
        time.sleep(2)
    waiting.join(timeout=1800)
    assert codes == [0], output.getvalue()[-4000:]
    assert output.getvalue().count("starts ") >= len(victims)
    assert seen == sorted(seen), "a checkpoint was lost"


@pytest.mark.slow
@pytest.mark.long
def test_three_kills_of_several_workers_change_nothing(data_dirs, tmp_path):
    undisturbed, killed = str(tmp_path / "undisturbed"), str(tmp_path / "killed")
    strategy = "--strategy=multi_worker"
    cluster, output = cluster_of(XDEEPINT, *flags_of(data_dirs, undisturbed, strategy), workers=2)
    cluster.start()
    assert cluster.wait() == 0, output.getvalue()[-4000:]
    killed_cluster(flags_of(data_dirs, killed, strategy), ["worker 1", "worker 0", "worker 1"], killed, workers=2)
    assert metrics_of(killed) == metrics_of(undisturbed)


@pytest.mark.slow
@pytest.mark.long
def test_three_kills_of_parameter_servers_are_survived(data_dirs, tmp_path):
    killed = str(tmp_path / "killed")
    flags = flags_of(data_dirs, killed, "--strategy=parameter_server", *LEARNING, "--epochs=30")
    killed_cluster(flags, ["worker 0", "ps 0", "chief 0"], killed, workers=2, ps=2)
    assert metrics_of(killed)["test.auc"] > 0.7


@pytest.mark.slow
@pytest.mark.long
def test_parameter_servers_learn_real_clicks_as_one_device_though_a_worker_is_killed(shared_data, tmp_path):
    """Tables of KuaiRand are large enough to be divided among the servers, and G-FTRL trains them."""
    data_dir, one, several = (str(tmp_path / name) for name in ("data", "one", "several"))
    prepare("kuairand", raw_dir=shared_data("kuairand"), output_dir=data_dir, num_workers=1)

    def flags(model_dir):
        return [f"--data_dir={data_dir}", f"--model_dir={model_dir}", "--flagfile=xdeepint_kuairand", "--noreport"]

    assert start(flags(one)).wait(timeout=1800) == 0, pathlib.Path(f"{one}.log").read_text()[-4000:]
    servers = [*flags(several), "--strategy=parameter_server"]
    killed_cluster(servers, ["worker 0"], several, workers=2, ps=2, threads=1)
    assert metrics_of(several)["test.auc"] == pytest.approx(metrics_of(one)["test.auc"], abs=0.002)
