"""`RunState`: where a run is; it is part of every checkpoint, so that weights and position cannot disagree."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import tensorflow as tf

__all__ = ["RunState"]


@dataclasses.dataclass
class Position:
    """Args: see `RunState`."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    seconds: float = 0.0
    timed_steps: int = 0
    finished: str = ""
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    pending: list[dict[str, float]] = dataclasses.field(default_factory=list)
    codes: list[list[int]] = dataclasses.field(default_factory=list)
    topology: str = ""
    tables: str = ""


class RunState(tf.train.experimental.PythonState):
    """The position and history of a run, saved inside TensorFlow checkpoints.

    Attributes:
      step: training steps done; with the number of records it gives (epoch, batch).
      best_step: the step whose weights were best on the valid split, None before the first evaluation.
      best_value: their value, larger is better.
      seconds: training time so far, without evaluations and the first step of a process.
      timed_steps: steps in that time.
      finished: why training has ended; "" while it has not.
      history: a dict for each evaluation: step, train_*, valid_*.
      pending: entries of the history whose evaluation is under way, where it is made beside training.
      topology: on how many replicas it trains; that of a checkpoint is checked before it is restored.
      tables: fingerprint of the tables of its data: what the ids of its rows mean.
      codes: those of some users at the last evaluation, of a model that gives users codes; see `CodeWatch`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = Position()

    def serialize(self) -> str:
        """The state as text."""
        return json.dumps(dataclasses.asdict(self.now))

    def deserialize(self, string_value: Any) -> None:
        """The inverse of `serialize`."""
        text = string_value.decode() if isinstance(string_value, bytes) else string_value
        self.now = Position(**json.loads(text))
