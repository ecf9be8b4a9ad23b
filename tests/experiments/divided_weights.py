"""What parameter servers must start from: the weights of one device. A program that is a whole cluster in one process.

    python -m tests.experiments.divided_weights DATA_DIR

says "equal", or fails.
"""

import json
import os
import sys

import numpy as np
import tensorflow as tf

from xdeepint_ext.experiments import strategies
from xdeepint_ext.experiments.flags import parse
from xdeepint_ext.experiments.list_inputs import open_inputs
from xdeepint_ext.experiments.local_cluster import free_ports
from xdeepint_ext.experiments.placement import make_placement
from xdeepint_ext.experiments.running import make_model, process_settings
from xdeepint_ext.optimizers import GroupFtrl


def main(data_dir):
    addresses = [f"localhost:{port}" for port in free_ports(4)]
    jobs = {"chief": addresses[:1], "worker": addresses[1:2], "ps": addresses[2:]}
    spec = tf.train.ClusterSpec(jobs)
    tasks = [("worker", 0), ("ps", 0), ("ps", 1)]
    servers = [tf.distribute.Server(spec, job_name=job, task_index=index, protocol="grpc") for job, index in tasks]
    os.environ["TF_CONFIG"] = json.dumps({"cluster": jobs, "task": {"type": "chief", "index": 0}})
    strategies.SHARD_BYTES = 64  # tables and kernels of a small model are divided, too
    strategies.MESSAGE_BYTES = 100
    flags = ["--strategy=parameter_server", "--width=8", "--units=30,20"]
    config = parse("dnn", [f"--data_dir={data_dir}", *flags])
    inputs, place = open_inputs(config), make_placement(config)
    with process_settings(config):
        one = make_model(config, inputs, 100)
    with process_settings(config), place.scope():
        divided = make_model(config, inputs, 100)
        assert len(divided.weights) > len(one.weights)
        slots = GroupFtrl(preserve_initial=True)
        slots.build(divided.embedding.trainable_weights)
    here = place.brought_here(divided, lambda: make_model(config, inputs, 100, slots=False))
    for found, expected in zip(here.weights, one.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy(), err_msg=expected.name)
    state = np.concatenate([slot.numpy() for slot in slots._states])
    (table,) = one.embedding.tables.values()
    np.testing.assert_allclose(state[:, 8:], -table.numpy() * slots.beta / slots.learning_rate.numpy(), rtol=1e-6)
    print(f"equal: {len(divided.weights)} parts, {len(servers)} processes", flush=True)
    os._exit(0)  # servers keep a process alive


if __name__ == "__main__":
    main(*sys.argv[1:])
