"""The strategies of `tf.distribute`, made so that what can go wrong with a cluster is said before TensorFlow waits."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.cluster_config import CHIEF, ClusterConfig
from xdeepint_ext.experiments.rendezvous import check_port, wait_for_others
from xdeepint_ext.utils.processors import usable_processors

__all__ = [
    "central_on",
    "coordinator_of",
    "drawing_whole",
    "let_operations_wait",
    "mirrored_on",
    "multi_worker",
    "parameter_server",
    "tpu",
]

# A table of more bytes than this is divided among servers or devices; TensorFlow's own bound.
SHARD_BYTES = 256 << 10

# A process cannot send 2 GiB to another at once.
MESSAGE_BYTES = 1 << 30


@functools.cache
def mirrored_on(device_type: str) -> tf.distribute.MirroredStrategy:
    """The process's one MirroredStrategy on all logical devices of a type.

    A second one would number its collectives like the first and fail.
    """
    return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(device_type)])


@functools.cache
def central_on(
    devices: tuple[str, ...], keeper: str = "/device:CPU:0"
) -> tf.distribute.experimental.CentralStorageStrategy:
    """The process's one `CentralStorageStrategy` on the devices, whose variables all lie once on one device.

    Args:
      devices: names of those that compute.
      keeper: where variables lie; default: in host memory.
    """
    return tf.distribute.experimental.CentralStorageStrategy(list(devices), keeper)


@functools.cache
def multi_worker(timeout: float) -> tuple[tf.distribute.MultiWorkerMirroredStrategy, ClusterConfig]:
    """The process's one `MultiWorkerMirroredStrategy`, of the cluster in TF_CONFIG, when all workers have come.

    Args:
      timeout: seconds to wait for them.

    Raises:
      ValueError: TF_CONFIG is missing or wrong, or TensorFlow has run something in this process before.
      OSError: the process's port is in use.
      TimeoutError: a worker did not come; names it.
    """
    cluster = ClusterConfig.from_environment("multi_worker")
    wait_for_others(cluster, timeout)
    # Over CPUs the ring of gRPC; where there are GPUs, TensorFlow chooses.
    ring = tf.distribute.experimental.CommunicationImplementation.RING
    options = {} if tf.config.list_physical_devices("GPU") else {"implementation": ring}
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(**options)
        )
    except RuntimeError as error:
        raise ValueError(
            f"strategy=multi_worker must be the first that TensorFlow does in a process: {error}"
        ) from error
    return strategy, cluster


@functools.cache
def parameter_server(timeout: float) -> tuple[tf.distribute.ParameterServerStrategy, ClusterConfig]:
    """The process's one `ParameterServerStrategy`, of the cluster in TF_CONFIG, whose coordinator this process is.

    Tables above 256 KiB are divided among the servers by `MinSizePartitioner`.

    Args:
      timeout: seconds to wait for workers and servers.

    Raises:
      ValueError, OSError, TimeoutError: see `multi_worker`.
    """
    cluster = ClusterConfig.from_environment("parameter_server")
    let_operations_wait()
    check_port(cluster)
    wait_for_others(cluster, timeout, listens=False)
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        min_shard_bytes=SHARD_BYTES, max_shards=len(cluster.jobs["ps"])
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.connected), task_type=cluster.job, task_id=cluster.index, rpc_layer="grpc"
    )
    return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner), cluster


def let_operations_wait() -> None:
    """Sees to it that TensorFlow has two threads between operations where the process may use one core alone.

    An operation that waits for another process keeps a thread: with one, parameter servers would wait for ever.
    """
    cores = usable_processors()
    if cores == 1:  # not by tf.config, which a server does not ask
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")


@contextlib.contextmanager
def drawing_whole(strategy: tf.distribute.ParameterServerStrategy) -> Iterator[None]:
    """The strategy's scope, in which divided variables start from what the whole ones would.

    Args:
      strategy: whose servers get the parts.
    """
    with strategy.scope(), tf.variable_creator_scope(_drawn_whole):
        yield


def _drawn_whole(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
    """A variable creator under which the parts of a divided variable are cut from what the whole one would start from.

    Keras's initializers draw each part anew. Here the coordinator draws all once, and a server gets its part alone.

    Args:
      next_creator: makes the variable.
      **kwargs: its arguments, as of `tf.variable_creator_scope`.
    """
    initial = kwargs["initial_value"]
    if callable(initial):
        whole = functools.cache(initial)

        def part(partition_shape: Sequence[int] = (), partition_offset: Sequence[int] = ()) -> tf.Tensor:
            if not partition_shape:
                return initial()
            first, end = partition_offset[0], partition_offset[0] + partition_shape[0]
            with tf.device(f"/job:{CHIEF}/replica:0/task:0/device:CPU:0"):
                values = whole()
                rows = max(1, MESSAGE_BYTES * len(values) // (values.dtype.size * values.shape.num_elements()))
                messages = [values[i : min(i + rows, end)] for i in range(first, end, rows)]
            return tf.concat(messages, 0)

        kwargs["initial_value"] = part
    return next_creator(**kwargs)


@functools.cache
def coordinator_of(
    strategy: tf.distribute.ParameterServerStrategy,
) -> tf.distribute.experimental.coordinator.ClusterCoordinator:
    """The coordinator of a strategy, which can have one only."""
    return tf.distribute.experimental.coordinator.ClusterCoordinator(strategy)


@functools.cache
def tpu() -> tf.distribute.TPUStrategy:
    """The process's one `TPUStrategy`, on the TPU that its environment names.

    Raises:
      ValueError: there is none, or one without hardware for tables.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu="local")
    except (ValueError, tf.errors.OpError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            "--strategy=tpu found no TPU here; it needs a TPU machine and the package tensorflow-tpu, see "
            f"docs/scaling.md. TensorFlow says: {first}"
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    hardware = tf.tpu.experimental.HardwareFeature.EmbeddingFeature
    if strategy.extended.tpu_hardware_feature.embedding_feature == hardware.UNSUPPORTED:
        raise ValueError("--strategy=tpu found a TPU without hardware for tables; use another TPU or strategy")
    return strategy
