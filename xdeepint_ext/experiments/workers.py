"""What the processes of a run tell each other: numbers that all must agree on, and what only the chief does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from xdeepint_ext.experiments.cluster_config import ClusterConfig

__all__ = ["CollectiveWorkers", "Workers"]

T = TypeVar("T")


class Workers:
    """The one process of a run that has one, or its coordinator.

    Attributes:
      count: processes that train alike.
      is_chief: whether this one writes what the run leaves.
    """

    count = 1
    is_chief = True

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over the processes, which all must call this."""
        return list(values)

    def from_chief(self, make: Callable[[], T]) -> T:
        """What the chief makes; the others, which must call this too, wait for it.

        Args:
          make: called by the chief alone; what it returns must be fit for JSON.

        Raises:
          ValueError: of the others, where the chief's call raised an error.
        """
        return make()


class CollectiveWorkers(Workers):
    """The workers of a `MultiWorkerMirroredStrategy`, over its collectives.

    Args:
      strategy: theirs.
      cluster: of which this process is one.
    """

    def __init__(self, strategy: tf.distribute.Strategy, cluster: ClusterConfig) -> None:
        self.count, self.is_chief = cluster.training, cluster.is_chief
        self._number = cluster.number
        replicas = strategy.num_replicas_in_sync // self.count

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float64)])
        def total(table: tf.Tensor) -> tf.Tensor:
            def of_replica(mine: tf.Tensor) -> tf.Tensor:
                context = tf.distribute.get_replica_context()
                first = tf.cast(context.replica_id_in_sync_group % replicas == 0, mine.dtype)
                return context.all_reduce(tf.distribute.ReduceOp.SUM, mine * first)

            return strategy.experimental_local_results(strategy.run(of_replica, args=(table,)))[0]

        self._total = total

    def largest(self, values: Sequence[float]) -> list[float]:
        return [float(value) for value in self._gathered(np.asarray(values, np.float64)).max(axis=0)]

    def from_chief(self, make: Callable[[], T]) -> T:
        if self.is_chief:
            try:
                value = make()
            except Exception as error:
                self._send({"error": f"{type(error).__name__}: {error}"})
                raise
            self._send({"value": value})
            return value
        found: dict[str, Any] = self._send(None)
        if "error" in found:
            raise ValueError(f"the chief of the cluster ended with {found['error']}")
        sent: T = found["value"]
        return sent

    def _send(self, message: dict[str, object] | None) -> dict[str, Any]:
        """The chief's message; the others send None."""
        data = np.frombuffer(b"" if message is None else json.dumps(message).encode(), np.uint8).astype(np.float64)
        length = int(self._gathered(np.array([len(data)], np.float64)).max())
        padded = np.zeros(length)
        padded[: len(data)] = data
        received = self._gathered(padded).sum(axis=0)
        found: dict[str, Any] = json.loads(received.astype(np.uint8).tobytes())
        return found

    def _gathered(self, row: np.ndarray) -> np.ndarray:
        """The processes' rows, (processes, n)."""
        table = np.zeros((self.count, len(row)))
        table[self._number] = row
        return self._total(tf.constant(table)).numpy()
