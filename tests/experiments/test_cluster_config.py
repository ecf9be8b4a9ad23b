"""TF_CONFIG and the rendezvous: what is wrong with a cluster is said before TensorFlow waits for it."""

import json
import socket

import pytest

from xdeepint_ext.experiments.cluster_config import ClusterConfig
from xdeepint_ext.experiments.local_cluster import free_ports
from xdeepint_ext.experiments.rendezvous import check_port, wait_for_others

TWO = {"worker": ["a:1", "b:2"]}


def read(cluster, job="worker", index=0, strategy="multi_worker"):
    text = json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})
    return ClusterConfig.from_environment(strategy, {"TF_CONFIG": text})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "--strategy=multi_worker needs the variable TF_CONFIG, .*local_cluster"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG='{' is not of the form .*JSONDecodeError"),
        ({"TF_CONFIG": '{"cluster": {}}'}, "is not of the form .*KeyError: 'task'"),
    ],
)
def test_a_missing_or_broken_variable_is_explained(environment, message):
    with pytest.raises(ValueError, match=message):
        ClusterConfig.from_environment("multi_worker", environment)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"worker": ["a:1", "a:1"]},), "two processes have the address a:1"),
        (({"worker": ["a"]},), "'a' is no address host:port"),
        ((TWO, "worker", 2), r"the task is worker 2, but the cluster has \{'worker': 2\}"),
        (({**TWO, "ps": ["c:3"]},), r"the jobs of --strategy=multi_worker are \['chief', 'worker'\], got .*'ps'"),
        ((TWO, "worker", 0, "parameter_server"), "--strategy=parameter_server needs 1 of job chief, got 0"),
        (({}, "worker", 0), "the jobs of --strategy=multi_worker are"),
    ],
)
def test_a_cluster_that_the_strategy_cannot_use_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        read(*arguments)


def test_a_process_knows_its_place():
    cluster = read({"chief": ["a:1"], "worker": ["b:2", "c:3"]}, index=1)
    assert (cluster.name, cluster.address, cluster.is_chief) == ("worker 1", "c:3", False)
    assert (cluster.number, cluster.training) == (2, 3)
    assert cluster.others == {"chief 0": "a:1", "worker 0": "b:2"}
    assert read(TWO).is_chief


def local(index=0):
    return read({"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}, index=index)


def test_a_port_in_use_is_named():
    cluster = local()
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(cluster.address.rpartition(":")[2])))
        other.listen()
        for check in (check_port, lambda found: wait_for_others(found, 1)):
            with pytest.raises(OSError, match=f"worker 0 cannot listen at {cluster.address}, its address in TF_CONFIG"):
                check(cluster)
    check_port(cluster)


def test_a_worker_that_never_comes_is_named():
    cluster = local()
    with pytest.raises(TimeoutError, match=r"worker 0 waited 0.2 s for worker 1 \(127.0.0.1:\d+\)"):
        wait_for_others(cluster, timeout=0.2)


def test_all_go_on_when_the_last_has_come():
    cluster = local()
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(cluster.others["worker 1"].rpartition(":")[2])))
        other.listen()
        wait_for_others(cluster, timeout=5)
