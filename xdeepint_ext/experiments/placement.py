"""`--strategy` -> `Placement`: where a run's model lives, who makes its steps, and who writes what it leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments import strategies
from xdeepint_ext.experiments.checkpoints import best_weights
from xdeepint_ext.experiments.cluster_config import CHIEF, EVALUATOR, ClusterConfig
from xdeepint_ext.experiments.evaluations import (
    Evaluate,
    Evaluations,
    EvaluationsBeside,
    EvaluationsHere,
    serve_evaluations,
)
from xdeepint_ext.experiments.optimizer_options import OPTIMIZERS
from xdeepint_ext.experiments.rendezvous import check_port
from xdeepint_ext.experiments.sharded_tables import dividing_tables
from xdeepint_ext.experiments.step_loops import CoordinatorLoop, LocalLoop, Loop
from xdeepint_ext.experiments.tpu_loop import TpuLoop
from xdeepint_ext.experiments.tpu_tables import copy_to_host
from xdeepint_ext.experiments.workers import CollectiveWorkers, Workers
from xdeepint_ext.models import RankingModel
from xdeepint_ext.utils.parts import joined

__all__ = ["EVALUATIONS", "Placement", "make_placement", "serve_if_evaluator", "serve_if_server"]

EVALUATIONS = "evaluations"
"""Directory of a run in which coordinator and evaluator write to each other."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a run trains.

    Args:
      strategy: whose variables the model's are.
      predicting: the strategy that predictions are made under; one device where the model's spans processes.
      workers: the processes.
      scope: where a model is made, from the values of one device wherever its weights lie.
      make_loop: model -> what makes its steps.
      topology: in words; a checkpoint of another one is refused.
      several: whether other processes take part.
      moves_weights: whether weights lie in parts elsewhere, and the finished model must be brought here.
      beside: directory -> the evaluations of a process beside training; None = this one evaluates.
      tpu_batch_size: of a TPU's core, whose batches are all of this size, and whose tables must be brought here to be
        asked for predictions, too; None where there is no TPU.
    """

    strategy: tf.distribute.Strategy
    predicting: tf.distribute.Strategy
    workers: Workers
    scope: Callable[[], contextlib.AbstractContextManager[Any]]
    make_loop: Callable[[RankingModel], Loop]
    topology: str
    several: bool = False
    moves_weights: bool = False
    beside: Callable[[str], EvaluationsBeside] | None = None
    tpu_batch_size: int | None = None

    def evaluations(self, evaluate: Evaluate, directory: str) -> Evaluations:
        """Who says how good the weights are while they are trained.

        Args:
          evaluate: gives the metrics of the valid split in this process.
          directory: of the evaluations; "" where the run leaves nothing.

        Raises:
          ValueError: the cluster has an evaluator, and the run no directory.
        """
        if self.beside is None:
            return EvaluationsHere(lambda: self.workers.from_chief(evaluate))
        if not directory:
            raise ValueError("a cluster with an evaluator needs a model_dir, in which it finds the weights")
        return self.beside(directory)

    def brought_here(self, model: RankingModel, make: Callable[[], RankingModel]) -> RankingModel:
        """The trained model in this process: the model itself, or a new one with its weights.

        Args:
          model: trained.
          make: makes another such model.
        """
        if not self.moves_weights and self.tpu_batch_size is None:
            return model
        with tf.device("/device:CPU:0"):  # host memory has room for what no device holds
            here = make()
        if self.tpu_batch_size is not None:
            copy_to_host(model, here)
            return here
        parts = (part.numpy() for part in model.weights)
        for weight, value in zip(here.weights, joined(parts, [w.shape for w in here.weights]), strict=True):
            weight.assign(value)  # one after the other, so that there is one more copy of one weight alone
        return here


def make_placement(config: Any) -> Placement:
    """The placement of a run.

    Args:
      config: its `strategy`, `batch_size`, `cluster_timeout`, and where it has them `optimizer` and `embedding_device`.
        `one_device` is the first GPU, or the CPU where there is none; `mirrored` all GPUs, or all logical CPUs where
        there is none; `auto` is `mirrored` where there are several GPUs, else `one_device`; `multi_worker` and
        `parameter_server` have the cluster of TF_CONFIG, `tpu` the machine's.

    Raises:
      ValueError: the batch cannot be divided by the replicas, the cluster is not as the strategy wants it, the
        optimizer or precision is none for it, or TensorFlow has run something in this process before it should form
        a cluster.
      OSError: this process's port is in use.
      TimeoutError: a process of the cluster did not come.
    """
    if config.strategy not in MAKERS:
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = [device.name for device in tf.config.list_logical_devices(kind)]
        mirrored = config.strategy == "mirrored" or (config.strategy == "auto" and kind == "GPU" and len(names) > 1)
        device = getattr(config, "embedding_device", "auto")
        if device == "cpu":
            found = _central(names if mirrored else names[:1])
        elif device == "sharded":
            found = _sharded(names if mirrored else names[:1])
        else:
            found = _mirrored(kind) if mirrored else _one_device()
    else:
        if config.strategy == "tpu":
            _check_tpu(config)
        found = MAKERS[config.strategy](config)
    replicas = found.strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise ValueError(
            f"batch_size is that of all replicas and must be divisible by their number, {replicas}; got "
            f"{config.batch_size}"
        )
    return found


def serve_if_server(config: Any) -> None:
    """Where this process is a worker or server of --strategy=parameter_server: serves until it is ended by a signal.

    Args:
      config: its `strategy`.

    Raises:
      ValueError, OSError: see `make_placement`.
    """
    if config.strategy != "parameter_server":
        return
    cluster = ClusterConfig.from_environment(config.strategy)
    if cluster.job in (CHIEF, EVALUATOR):
        return
    strategies.let_operations_wait()
    check_port(cluster)
    spec = tf.train.ClusterSpec(cluster.connected)
    server = tf.distribute.Server(spec, job_name=cluster.job, task_index=cluster.index, protocol="grpc")
    try:
        threading.Event().wait()  # server.join() would keep Python's signal handlers from running
    except SystemExit as ended:
        os._exit(ended.code if isinstance(ended.code, int) else 1)  # the server's threads would keep the process alive
    finally:
        del server


def serve_if_evaluator(config: Any, make: Callable[[], tuple[tf.keras.Model, Evaluate]]) -> None:
    """Where this process is the evaluator of --strategy=parameter_server: evaluates until it is ended by a signal.

    Args:
      config: its `strategy` and `model_dir`.
      make: makes the model, and what gives the metrics of the valid split with its weights.

    Raises:
      ValueError, OSError: see `make_placement`.
    """
    if config.strategy != "parameter_server":
        return
    cluster = ClusterConfig.from_environment(config.strategy)
    if cluster.job != EVALUATOR:
        return
    model, evaluate = make()
    weights = functools.partial(best_weights, os.path.join(config.model_dir, "checkpoints"))
    serve_evaluations(os.path.join(config.model_dir, EVALUATIONS), weights, cluster, model, evaluate)


def _one_device() -> Placement:
    strategy = tf.distribute.get_strategy()
    loop = functools.partial(LocalLoop, strategy=strategy)
    return Placement(strategy, strategy, Workers(), strategy.scope, loop, "one device")


def _mirrored(device_type: str) -> Placement:
    strategy = strategies.mirrored_on(device_type)
    topology = f"mirrored on {strategy.num_replicas_in_sync} replicas"
    return Placement(strategy, strategy, Workers(), strategy.scope, lambda model: LocalLoop(model, strategy), topology)


def _central(devices: Sequence[str]) -> Placement:
    strategy = strategies.central_on(tuple(devices))
    topology = f"{strategy.num_replicas_in_sync} replicas with their weights in host memory"
    return Placement(strategy, strategy, Workers(), strategy.scope, lambda model: LocalLoop(model, strategy), topology)


def _sharded(devices: Sequence[str]) -> Placement:
    if len(devices) < 2:
        raise ValueError(f"embedding_device=sharded divides tables among mirrored's devices; there is {devices} alone")
    strategy = strategies.central_on(tuple(devices), devices[0])
    return Placement(
        strategy,
        strategy,
        Workers(),
        functools.partial(dividing_tables, strategy, devices),
        lambda model: LocalLoop(model, strategy),
        f"{len(devices)} replicas with tables divided among them",
        moves_weights=True,
    )


def _multi_worker(config: Any) -> Placement:
    strategy, cluster = strategies.multi_worker(config.cluster_timeout)
    return Placement(
        strategy,
        tf.distribute.get_strategy(),
        CollectiveWorkers(strategy, cluster),
        strategy.scope,
        lambda model: LocalLoop(model, strategy),
        f"{cluster.training} workers with {strategy.num_replicas_in_sync} replicas",
        several=True,
    )


def _parameter_server(config: Any) -> Placement:
    strategy, cluster = strategies.parameter_server(config.cluster_timeout)
    coordinator = strategies.coordinator_of(strategy)
    beside = functools.partial(EvaluationsBeside, cluster=cluster, timeout=config.cluster_timeout)
    return Placement(
        strategy,
        tf.distribute.get_strategy(),
        Workers(),
        functools.partial(strategies.drawing_whole, strategy),
        lambda model: CoordinatorLoop(model, strategy, coordinator),
        f"{len(cluster.jobs['ps'])} parameter servers",
        several=True,
        moves_weights=True,
        beside=beside if cluster.jobs.get(EVALUATOR) else None,
    )


def _tpu(config: Any) -> Placement:
    strategy = strategies.tpu()
    replicas = strategy.num_replicas_in_sync
    return Placement(
        strategy,
        tf.distribute.get_strategy(),
        Workers(),
        strategy.scope,
        lambda model: TpuLoop(model, strategy),
        f"TPU with {replicas} replicas",
        tpu_batch_size=config.batch_size // replicas,
    )


MAKERS: dict[str, Callable[[Any], Placement]] = {
    "multi_worker": _multi_worker,
    "parameter_server": _parameter_server,
    "tpu": _tpu,
}
"""Strategy of a cluster or TPU -> what makes its placement."""

# Algorithms of which `optimizers.tpu` has the TPU's.
IN_TPU_TABLES = {"ftrl", "lazy_adam", "lazy_adagrad"}
TPU_PRECISIONS = ("float32", "mixed_bfloat16")


def _check_tpu(config: Any) -> None:
    """Refuses what a TPU cannot run."""
    algorithms = OPTIMIZERS.get(getattr(config, "optimizer", ""))
    if algorithms is None:
        raise ValueError("strategy=tpu is for models with tables of ids; use another strategy")
    if algorithms["embedding"] not in IN_TPU_TABLES:
        usable = sorted(name for name, found in OPTIMIZERS.items() if found["embedding"] in IN_TPU_TABLES)
        raise ValueError(
            f"optimizer={config.optimizer} trains tables with {algorithms['embedding']}, and strategy=tpu keeps them "
            f"in TPUEmbedding, which has no G-FTRL; use one of {usable}"
        )
    if config.mixed_precision not in TPU_PRECISIONS:
        raise ValueError(
            f"mixed_precision={config.mixed_precision}: TPUEmbedding's tables are float32, and know no loss scale; "
            f"strategy=tpu has {TPU_PRECISIONS}"
        )
    if config.warm_start:
        raise ValueError(f"strategy=tpu cannot go on from another run's tables, got warm_start={config.warm_start}")
