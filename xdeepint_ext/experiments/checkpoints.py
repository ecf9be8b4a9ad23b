"""Where a run keeps its weights while it trains: in files, from which a killed run goes on, or in memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.progress_state import RunState
from xdeepint_ext.layers.tpu_embedding import TpuFeatureEmbedding
from xdeepint_ext.models import RankingModel

__all__ = ["CheckpointStore", "MemoryStore", "best_weights", "checkpoint_of"]


BEST = "best"
_STATE = "state/.ATTRIBUTES/py_state"


class MemoryStore:
    """Keeps the best weights in memory, and nothing to resume from.

    Args:
      model: a built model.
    """

    lasts = False
    """Whether a later process can go on from what is saved."""

    def __init__(self, model: RankingModel) -> None:
        self._model = model
        self._best: list[Any] = []

    def restore(self) -> bool:
        """Whether there was something to go on from: never."""
        return False

    def save(self) -> None:
        """Does nothing."""

    def keep_best(self, step: int) -> None:
        """Remembers the present weights as the best."""
        self._best = [weight.numpy() for weight in self._model.weights]

    def load_best(self, step: int) -> None:
        """Puts the best weights back."""
        for weight, value in zip(self._model.weights, self._best, strict=True):
            weight.assign(value)


class CheckpointStore:
    """Checkpoints of everything that decides how training goes on, and the best weights beside them.

    A checkpoint holds the weights, the optimizers' slots and steps, the metrics' accumulators, the states of the random
    generators (dropout) and the `RunState`. It becomes the latest by one rename of TensorFlow's `checkpoint` file. The
    best weights of step n are complete in `best/` before a checkpoint says that n is best, or that its evaluation is
    pending, and those of other steps are deleted after it says so. So a process may be killed at any moment.

    Args:
      directory: `checkpoints/` of the run.
      model: a built and compiled model whose optimizer is built, too.
      state: of the run.
      writes: whether this process is the one that writes. The other workers of a cluster, which must take part in
        reading sums over replicas, write to a directory of their own that is deleted.

    Raises:
      ValueError: the checkpoint found does not fit the model, or was made by another number of replicas.
    """

    lasts = True

    def __init__(self, directory: str, model: RankingModel, state: RunState, writes: bool = True) -> None:
        self._best_dir = os.path.join(directory, BEST)
        self._state, self._directory, self._writes = state, directory, writes
        of_tpu = [m.tpu_embedding for m in model.submodules if isinstance(m, TpuFeatureEmbedding)]
        # A TPU's tables are none of the model's weights.
        self._weights = tf.train.Checkpoint(weights=list(model.weights), **({"tables": of_tpu} if of_tpu else {}))
        self._checkpoint = checkpoint_of(model, state)
        if not writes:
            return
        self._manager = tf.train.CheckpointManager(self._checkpoint, directory, max_to_keep=2)
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            if re.search(r"_temp(_|$)|\.tempstate", name):  # a save that a kill broke off
                path = os.path.join(directory, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)

    def restore(self) -> bool:
        """Goes back to the latest checkpoint, if there is one."""
        latest = tf.train.latest_checkpoint(self._directory)
        if latest is None:
            return False
        topology = self._state.now.topology
        try:
            there = json.loads(tf.train.load_checkpoint(latest).get_tensor(_STATE)).get("topology", topology)
            if there == topology:
                self._checkpoint.restore(latest).assert_consumed()
        except (AssertionError, tf.errors.OpError, ValueError) as error:
            raise ValueError(f"checkpoint {latest} does not fit the model: {error}") from None
        if there != topology:
            raise ValueError(
                f"checkpoint {latest} was made by {there}, but this run has {topology}: start as many, or use another "
                "model_dir"
            )
        return True

    def save(self) -> None:
        """Makes a checkpoint of the present state.

        Raises:
          OSError: it cannot be written.
        """
        if not self._writes:
            with tempfile.TemporaryDirectory(prefix="xdeepint-worker-") as scratch:
                self._checkpoint.write(os.path.join(scratch, "checkpoint"))
            return
        with _writing(self._directory):
            self._manager.save(checkpoint_number=self._state.now.step)
        wanted = {self._state.now.best_step, *(int(entry["step"]) for entry in self._state.now.pending)}
        for name in os.listdir(self._best_dir) if os.path.isdir(self._best_dir) else ():
            if name.partition(".")[0] not in map(_best_name, wanted):
                os.remove(os.path.join(self._best_dir, name))

    def keep_best(self, step: int) -> None:
        """Writes the present weights, those of `step`, as the best, or as such as may be; see `save`."""
        if not self._writes:
            return
        with _writing(self._best_dir):
            self._weights.write(best_weights(self._directory, step))

    def load_best(self, step: int) -> None:
        """Puts the best weights back."""
        self._weights.read(best_weights(self._directory, step)).assert_consumed()


def best_weights(directory: str, step: int) -> str:
    """Checkpoint of the weights of a step that was best, or that may turn out to be.

    Args:
      directory: `checkpoints/` of the run.
      step: of training.
    """
    return os.path.join(directory, BEST, _best_name(step))


def checkpoint_of(model: RankingModel, state: RunState) -> tf.train.Checkpoint:
    """Everything that decides how training goes on.

    Args:
      model: a built and compiled model whose optimizer is built, too.
      state: of the run.
    """
    return tf.train.Checkpoint(model=model, metrics=list(model.metrics), random=random_generators(model), state=state)


@contextlib.contextmanager
def _writing(directory: str) -> Iterator[None]:
    """Turns TensorFlow's errors of full disks and the like into an OSError that names the directory."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"no checkpoint can be written to {directory}: {error.message}") from error


def random_generators(model: tf.keras.Model) -> list[tf.random.Generator]:
    """The generators of a built model's random layers; Keras leaves them out of checkpoints."""
    holders = (getattr(module, "_random_generator", None) for module in model.submodules)
    found = (getattr(holder, "_generator", None) for holder in holders)
    return [generator for generator in found if generator is not None]


def _best_name(step: int | None) -> str:
    return f"best-{step}"
