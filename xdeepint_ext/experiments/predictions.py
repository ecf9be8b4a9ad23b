"""A model's predictions on a split, as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.models import RankingModel

__all__ = ["Predictions", "make_predict"]


@dataclasses.dataclass
class Predictions:
    """What a model said of each record of a split, and what is true.

    Args:
      labels: task -> (n,); below 0 = missing.
      logits: task -> (n,).
      weights: (n,) or None.
      groups: (n,) of the schema's group column, or None.
      ids: feature -> (n, length), of the features that were asked for.
    """

    labels: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    ids: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def rows(self, task: str) -> np.ndarray:
        """Which records have a label of the task."""
        return ~(self.labels[task] < 0)

    def take(self, rows: np.ndarray) -> Predictions:
        """The records of these numbers, in their order."""

        def taken(values: Any) -> Any:
            return None if values is None else values[rows]

        labels, logits, ids = (
            {name: taken(array) for name, array in found.items()} for found in (self.labels, self.logits, self.ids)
        )
        return Predictions(labels, logits, taken(self.weights), taken(self.groups), ids)

    @classmethod
    def load(cls, path: str) -> Predictions:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            found = dict(arrays)
        by_task = {
            kind: {name.partition(":")[2]: array for name, array in found.items() if name.startswith(f"{kind}:")}
            for kind in ("label", "logit")
        }
        return cls(by_task["label"], by_task["logit"], found.get("weights"), found.get("groups"))

    def save(self, path: str) -> None:
        """Writes an .npz: `label:TASK` and `logit:TASK`, and `weights` and `groups` where there are such."""
        arrays: dict[str, Any] = {f"label:{task}": values for task, values in self.labels.items()}
        arrays |= {f"logit:{task}": values for task, values in self.logits.items()}
        arrays |= {name: getattr(self, name) for name in ("weights", "groups") if getattr(self, name) is not None}
        np.savez_compressed(path, **arrays)


def make_predict(model: RankingModel, strategy: tf.distribute.Strategy, features: Sequence[str] = ()) -> Any:
    """A function from batches (features, labels[, weights]) to `Predictions`; its graph is traced once.

    Args:
      model: a built model.
      strategy: where its variables live; every replica predicts its share of a batch.
      features: whose ids the predictions should keep.
    """

    def of_replica(batch: Any) -> dict[str, Any]:
        x, y, weights = tf.keras.utils.unpack_x_y_sample_weight(batch)
        found = {"labels": _by_task(model, y), "logits": _by_task(model, model(x, training=False))}
        found["ids"] = {name: x[name] for name in features}
        if weights is not None:
            found["weights"] = tf.reshape(weights, [-1])
        if "group_ids" in x:
            found["groups"] = x["group_ids"]
        return found

    def of_batch(batch: Any) -> Any:
        return strategy.run(of_replica, args=(batch,))

    traced: list[Any] = []

    def local_rows(values: Any) -> np.ndarray:
        return np.concatenate([part.numpy() for part in strategy.experimental_local_results(values)])

    def predict(batches: Iterable[Any]) -> Predictions:
        if strategy.num_replicas_in_sync > 1:
            batches = strategy.experimental_distribute_dataset(_as_dataset(batches))
        parts = []
        for batch in batches:
            if not traced:
                traced.append(tf.function(of_batch, input_signature=_any_size(batch, strategy)))
            parts.append(tf.nest.map_structure(local_rows, traced[0](batch)))
        whole = tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
        return Predictions(**whole)

    return predict


def _by_task(model: RankingModel, values: Any) -> Mapping[str, tf.Tensor]:
    values = values if isinstance(values, Mapping) else {model.tasks[0]: values}
    return {task: tf.reshape(values[task], [-1]) for task in model.tasks}


def _any_size(batch: Any, strategy: tf.distribute.Strategy) -> list[Any] | None:
    """The signature of batches of any number of records, so that a short last one is not traced again."""
    if strategy.num_replicas_in_sync > 1:
        return None
    return [tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), batch)]


def _as_dataset(batches: Iterable[Any]) -> tf.data.Dataset:
    if isinstance(batches, tf.data.Dataset):
        return batches
    batches = list(batches)
    spec = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), batches[0])
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=spec)
