"""Who says how good weights are while a run trains: this process, which waits, or another one beside training."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from xdeepint_ext.experiments.cluster_config import EVALUATOR, ClusterConfig
from xdeepint_ext.experiments.rendezvous import answers_at, listening
from xdeepint_ext.experiments.run_directory import write_atomically
from xdeepint_ext.utils.parts import joined

__all__ = ["Evaluate", "Evaluations", "EvaluationsBeside", "EvaluationsHere", "serve_evaluations"]

Metrics = Mapping[str, float]
Evaluate = Callable[[], Metrics]

ASKED, ANSWERED = ".asked", ".json"
PAUSE = 0.2


class Evaluations(Protocol):
    """Metrics of the valid split with the weights of a step."""

    beside: bool
    """Whether training goes on meanwhile, so that the weights in question must be kept."""

    def start(self, steps: Sequence[int]) -> None:
        """Asks again for what was asked for before a checkpoint, and forgets everything else."""

    def ask(self, step: int) -> None:
        """Asks for the metrics of the present weights, those of `step`."""

    def answer(self, step: int) -> Metrics | None:
        """The metrics, once they are there; each is given once."""

    def wait(self) -> None:
        """Waits a moment for an answer."""


class EvaluationsHere:
    """Evaluates in this process when asked.

    Args:
      evaluate: gives the metrics of the present weights.
    """

    beside = False

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._found: dict[int, Metrics] = {}

    def start(self, steps: Sequence[int]) -> None:
        self._found.clear()

    def ask(self, step: int) -> None:
        self._found[step] = self._evaluate()

    def answer(self, step: int) -> Metrics | None:
        return self._found.pop(step, None)

    def wait(self) -> None:
        """Nothing is ever waited for."""


class EvaluationsBeside:
    """Asks the cluster's evaluator, by files in a directory that both see.

    A request is named by the step and by who asks, so that the answer to a coordinator that was lost is nobody's.

    Args:
      directory: `evaluations/` of the run.
      cluster: has an evaluator.
      timeout: seconds that the evaluator may be out of reach while it is waited for.
    """

    beside = True

    def __init__(self, directory: str, cluster: ClusterConfig, timeout: float) -> None:
        self._directory, self._timeout = directory, timeout
        self._address = cluster.jobs[EVALUATOR][0]
        self._asker = uuid.uuid4().hex
        self._missed_since: float | None = None

    def start(self, steps: Sequence[int]) -> None:
        os.makedirs(self._directory, exist_ok=True)
        for name in os.listdir(self._directory):
            _remove(os.path.join(self._directory, name))
        for step in steps:
            self.ask(step)

    def ask(self, step: int) -> None:
        write_atomically(self._file(step, ASKED), "")

    def answer(self, step: int) -> Metrics | None:
        try:
            with open(self._file(step, ANSWERED), encoding="utf-8") as stream:
                found: Metrics = json.load(stream)
        except FileNotFoundError:
            return None
        _remove(self._file(step, ANSWERED))
        self._missed_since = None  # training goes on: what was waited for before does not count
        return found

    def wait(self) -> None:
        """Waits a moment.

        Raises:
          TimeoutError: the evaluator has been out of reach for too long.
        """
        time.sleep(PAUSE)
        now = time.monotonic()
        self._missed_since = None if answers_at(self._address) else self._missed_since or now
        if self._missed_since is not None and now - self._missed_since > self._timeout:
            raise TimeoutError(
                f"evaluator 0 ({self._address}) owes an evaluation and has been out of reach for {self._timeout:g} s "
                "(--cluster_timeout); started again it goes on with it"
            )

    def _file(self, step: int, kind: str) -> str:
        return os.path.join(self._directory, f"{step}-{self._asker}{kind}")


def serve_evaluations(
    directory: str,
    best_weights: Callable[[int], str],
    cluster: ClusterConfig,
    model: tf.keras.Model,
    evaluate: Evaluate,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Answers requests for evaluations, the oldest step first.

    Args:
      directory: `evaluations/` of the run.
      best_weights: step -> checkpoint of the weights to evaluate; weights may lie in parts there.
      cluster: of whose evaluator this is the process; it listens at its address meanwhile.
      model: built; gets the weights.
      evaluate: gives the metrics of the valid split with the model's weights.
      goes_on: asked between two looks into the directory.

    Raises:
      OSError: the process's port is in use.
    """
    with listening(cluster):
        while goes_on():
            asked = _requests(directory)
            if not asked:
                time.sleep(PAUSE)
                continue
            step, name = asked[0]
            request = os.path.join(directory, name + ASKED)
            try:
                _load(model, best_weights(step))
            except (tf.errors.OpError, ValueError):
                if os.path.exists(request):
                    raise
                continue  # of a coordinator that began again, and has taken it back
            found = {metric: float(value) for metric, value in evaluate().items()}
            if os.path.exists(request):
                write_atomically(os.path.join(directory, name + ANSWERED), json.dumps(found))
                _remove(request)


def _requests(directory: str) -> list[tuple[int, str]]:
    """(step, name without its ending) of the requests, in order."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    found = [name.removesuffix(ASKED) for name in names if name.endswith(ASKED)]
    return sorted((int(name.partition("-")[0]), name) for name in found)


def _load(model: tf.keras.Model, prefix: str) -> None:
    """Assigns the weights of a checkpoint of a list of weights, or of their parts in turn."""
    reader = tf.train.load_checkpoint(prefix)

    def parts() -> Iterator[np.ndarray]:
        for number in itertools.count():
            name = f"weights/{number}/.ATTRIBUTES/VARIABLE_VALUE"
            if not reader.has_tensor(name):
                return
            yield reader.get_tensor(name)

    for weight, value in zip(model.weights, joined(parts(), [w.shape for w in model.weights]), strict=True):
        weight.assign(value)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
