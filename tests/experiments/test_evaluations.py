"""Evaluation beside training: what coordinator and evaluator say to each other, and what a cluster with one leaves."""

import dataclasses
import functools
import json
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.experiments.equal_weights import config_of
from tests.experiments.test_preemption import killed_cluster, metrics_of
from tests.experiments.test_strategies import FLAGS, LEARNING
from xdeepint_ext.experiments import run, running
from xdeepint_ext.experiments.checkpoints import best_weights
from xdeepint_ext.experiments.cluster_config import ClusterConfig
from xdeepint_ext.experiments.evaluations import EvaluationsBeside, serve_evaluations
from xdeepint_ext.experiments.local_cluster import LocalCluster, free_ports


@pytest.fixture
def cluster():
    ports = iter(free_ports(4))
    jobs = {job: (f"127.0.0.1:{next(ports)}",) for job in ("chief", "worker", "ps", "evaluator")}
    return ClusterConfig("parameter_server", jobs, "evaluator", 0)


def model_of(weights):
    layer = tf.keras.layers.Dense(2, use_bias=False)
    model = tf.keras.Sequential([layer])
    model.build((None, 4))
    layer.kernel.assign(weights)
    return model


def write(prefix, value):
    """Weights in two parts, as two servers hold them."""
    parts = [tf.Variable(np.full((2, 2), value, np.float32)), tf.Variable(np.full((2, 2), -value, np.float32))]
    tf.train.Checkpoint(weights=parts).write(prefix)


def test_requests_are_answered_in_order_with_their_weights(cluster, tmp_path):
    directory, model = str(tmp_path / "evaluations"), model_of(np.zeros((4, 2)))
    seen = []

    def evaluate():
        kernel = model.layers[0].kernel.numpy()
        seen.append(kernel)
        return {"auc": np.float32(kernel[0, 0])}

    lost = EvaluationsBeside(directory, cluster, timeout=5)
    lost.start([])
    lost.ask(5)
    evaluations = EvaluationsBeside(directory, cluster, timeout=5)
    evaluations.start([20])  # pending in the checkpoint that it goes on from
    evaluations.ask(3)
    for step in (3, 20):
        write(str(tmp_path / f"best-{step}"), step)
    weights = lambda step: str(tmp_path / f"best-{step}")  # noqa: E731
    serve_evaluations(directory, weights, cluster, model, evaluate, iter([True, True, False]).__next__)
    np.testing.assert_array_equal(seen[0], [[3, 3], [3, 3], [-3, -3], [-3, -3]])
    assert [evaluations.answer(step) for step in (3, 20, 5)] == [{"auc": 3.0}, {"auc": 20.0}, None]
    assert lost.answer(5) is None
    assert evaluations.answer(3) is None, "an answer is given once"


def test_weights_that_are_gone_are_an_error_of_a_request_that_stands(cluster, tmp_path):
    directory = str(tmp_path / "evaluations")
    EvaluationsBeside(directory, cluster, timeout=5).start([7])
    model, goes_on = model_of(np.zeros((4, 2))), iter([True, False]).__next__
    with pytest.raises((tf.errors.OpError, ValueError), match="best-7"):
        serve_evaluations(directory, lambda step: str(tmp_path / f"best-{step}"), cluster, model, dict, goes_on)

    def taken_back(step):
        EvaluationsBeside(directory, cluster, timeout=5).start([])
        return str(tmp_path / f"best-{step}")

    goes_on = iter([True, False]).__next__
    serve_evaluations(directory, taken_back, cluster, model, dict, goes_on)


def test_an_evaluator_that_does_not_come_is_named(cluster, tmp_path):
    evaluations = EvaluationsBeside(str(tmp_path / "evaluations"), cluster, timeout=0.3)
    evaluations.start([1])
    time.sleep(0.5)
    evaluations.wait()  # nobody asked for it so far: only now does it begin to be missed
    ended = threading.Event()

    def goes_on():
        return not ended.wait(0.05)

    arguments = (str(tmp_path / "none"), str, cluster, model_of(np.zeros((4, 2))), dict, goes_on)
    serving = threading.Thread(target=serve_evaluations, args=arguments)
    serving.start()
    for _ in range(4):
        evaluations.wait()  # longer than the timeout, but it listens
    ended.set()
    serving.join()
    with pytest.raises(TimeoutError, match=r"evaluator 0 \(127.0.0.1:\d+\) owes an evaluation .* 0.3 s"):
        for _ in range(4):
            evaluations.wait()


def test_training_goes_on_meanwhile_and_ends_with_the_same_weights(cluster, data_dirs, tmp_path, monkeypatch):
    config = config_of("xdeepint", data_dirs["one"], evaluate=("valid",), early_stopping="auc", eval_every=10)
    here = run(config.replace(model_dir=str(tmp_path / "here")))
    config = config.replace(model_dir=str(tmp_path / "beside"))
    beside = functools.partial(EvaluationsBeside, cluster=cluster, timeout=60)
    place = dataclasses.replace(running.make_placement(config), beside=beside)
    monkeypatch.setattr(running, "make_placement", lambda _: place)
    model, evaluate = running._evaluated(config)
    ended = threading.Event()
    weights = functools.partial(best_weights, str(tmp_path / "beside/checkpoints"))
    arguments = (str(tmp_path / "beside/evaluations"), weights, cluster, model, evaluate, lambda: not ended.is_set())
    serving = threading.Thread(target=serve_evaluations, args=arguments)
    serving.start()
    try:
        found = run(config)
    finally:
        ended.set()
        serving.join()
    same = ("steps", "best_step", "finished", "valid.auc", "valid.logloss")
    assert {name: found[name] for name in same} == {name: here[name] for name in same}
    left = {path.name.partition(".")[0] for path in (tmp_path / "beside/checkpoints/best").iterdir()}
    assert left == {f"best-{found['best_step']}"}


def test_only_parameter_servers_have_an_evaluator():
    with pytest.raises(ValueError, match="evaluator: only a cluster with parameter servers has one, and ps is 0"):
        LocalCluster(["true"], workers=2, evaluator=True)


@pytest.mark.slow
@pytest.mark.long
def test_a_cluster_whose_evaluator_is_killed_keeps_the_weights_that_it_found_best(data_dirs, tmp_path):
    run = str(tmp_path / "run")
    flags = [f"--data_dir={data_dirs['one']}", f"--model_dir={run}", "--strategy=parameter_server", *FLAGS]
    flags += [*LEARNING, "--early_stopping=auc", "--patience=160", "--cluster_timeout=60"]
    killed_cluster(flags, ["evaluator 0"], run, workers=1, ps=2, evaluator=True)
    found = metrics_of(run)
    assert found["steps"] == 8 * 1200 // 60 and found["test.auc"] > 0.7
    state = tf.train.load_checkpoint(f"{run}/checkpoints").get_tensor("state/.ATTRIBUTES/py_state")
    history = json.loads(state)["history"]
    assert [entry["step"] for entry in history] == [20.0 * n for n in range(1, 9)]
    best = max(history, key=lambda entry: entry["valid_auc"])
    assert best["step"] == found["best_step"] and best["valid_auc"] == pytest.approx(found["valid.auc"], abs=1e-6)
