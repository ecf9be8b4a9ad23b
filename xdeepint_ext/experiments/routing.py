"""What the routers of a model do on a split: which layers and experts its records need, as a whole and by value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from xdeepint_ext.experiments.slices import distinct_ids, id_names
from xdeepint_ext.layers import EarlyExit
from xdeepint_ext.schema import Schema

__all__ = ["Routed", "Routing", "ValueRouting", "by_value", "measure", "unfinished"]


@runtime_checkable
class Routed(Protocol):
    """A model that routes: each record leaves `exits` at a depth of its own, and only some experts compute it."""

    exits: EarlyExit

    def routing(self, features: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """(B, L), what each depth's logit counts, and the gates (B, L, E); see `AdaEnsemble.routing`."""


@dataclasses.dataclass
class Routing:
    """Counts of records.

    Args:
      depths: (n,), the layers that each record needs, 1 .. L.
      leaves: (L,), records that layer l's estimator is computed for.
      chosen: (L, E), of the records that need layer l, those that expert e computes.
      values: feature with ids -> (ids, 2 + E): for each id its records, the layers they need, and over these layers how
        often each expert computes them.
    """

    depths: np.ndarray
    leaves: np.ndarray
    chosen: np.ndarray
    values: dict[str, np.ndarray]

    @property
    def reaches(self) -> np.ndarray:
        """(L,), records that need layer l."""
        return np.array([np.count_nonzero(self.depths > layer) for layer in range(len(self.leaves))])

    @property
    def expected_depth(self) -> float:
        """Mean of the layers that a record needs."""
        return float(self.depths.mean())

    @property
    def shares(self) -> np.ndarray:
        """(L, E), share of expert e in the records that need layer l; NaN where no record does."""
        reaches = self.reaches[:, np.newaxis]
        return np.divide(self.chosen, reaches, out=np.full(self.chosen.shape, np.nan), where=reaches > 0)


@dataclasses.dataclass(frozen=True)
class ValueRouting:
    """Routing by the value of a feature, the most frequent values.

    Args:
      feature: its name.
      values: (V,) names.
      rows: (V,), records of the value.
      depths: (V,), mean depth.
      shares: (V, E), share of expert e in the layers that the value's records need.
      spread: how far the values' routing is apart: root of the variance between values of (shares, depth / L), a
        value's weight being its share of all records.
    """

    feature: str
    values: tuple[str, ...]
    rows: np.ndarray
    depths: np.ndarray
    shares: np.ndarray
    spread: float


def measure(model: Routed, batches: Iterable[Any], schema: Schema) -> Routing:
    """Routes a split as inference does.

    Args:
      model: a built model.
      batches: (features, ...) of the split, one at least.
      schema: of the model.
    """
    features = [feature for feature in schema.inputs if feature.is_ids]
    route = tf.function(model.routing, reduce_retracing=True)
    depths, leaving, computed = [], [], []
    values: dict[str, np.ndarray] = {}
    for batch in batches:
        inputs = tf.keras.utils.unpack_x_y_sample_weight(batch)[0]
        leaves, gates = (part.numpy() != 0 for part in route(inputs))
        needed = np.logical_or.accumulate(leaves[:, ::-1], axis=1)[:, ::-1]
        chosen = gates & needed[:, :, np.newaxis]
        depths.append(needed.sum(axis=1))
        leaving.append(leaves.sum(axis=0))
        computed.append(chosen.sum(axis=0))
        counts = np.column_stack([np.ones(len(needed), int), depths[-1], chosen.sum(axis=1)])
        for feature in features:
            total = values.setdefault(feature.name, np.zeros((feature.num_ids, counts.shape[1]), np.int64))
            rows, ids = distinct_ids(inputs[feature.name].numpy())
            np.add.at(total, ids, counts[rows])
    return Routing(np.concatenate(depths), np.sum(leaving, axis=0), np.sum(computed, axis=0), values)


def unfinished(model: Routed) -> list[str]:
    """A note, where training mixed depths to its end, while inference takes one."""
    mixed = int(model.exits.gate.present_k())
    if model.exits.mode == "hard" or mixed == 1:
        return []
    return [
        f"exit_k: the weights are of a step that mixed {mixed} depths, and inference takes one; with fewer exit_steps "
        "training comes to one depth sooner"
    ]


def by_value(routing: Routing, schema: Schema, vocabulary_dir: str, most: int = 12) -> list[ValueRouting]:
    """Routing by the values of every feature with ids, the feature that matters most first.

    Args:
      routing: of a split.
      schema: of the model.
      vocabulary_dir: names the ids.
      most: values of a feature, the most frequent ones.
    """
    found = [_of_feature(routing, name, id_names(schema[name], vocabulary_dir), most) for name in routing.values]
    return sorted((one for one in found if len(one.values)), key=lambda one: -one.spread)


def _of_feature(routing: Routing, name: str, names: list[str], most: int) -> ValueRouting:
    counts = routing.values[name]
    ids = np.argsort(-counts[:, 0], kind="stable")[:most]
    ids = ids[counts[ids, 0] > 0]
    rows, layers, chosen = counts[ids, 0], counts[ids, 1], counts[ids, 2:]
    depths, shares = layers / rows, chosen / layers[:, np.newaxis]
    points = np.column_stack([shares, depths / len(routing.leaves)])
    weights = rows[:, np.newaxis] / len(routing.depths)
    centre = (weights * points).sum(axis=0) / weights.sum()
    spread = float(np.sqrt((weights * (points - centre) ** 2).sum()))
    return ValueRouting(name, tuple(names[i] for i in ids), rows, depths, shares, spread)
