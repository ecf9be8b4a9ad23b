"""The layout of materialised records: a preprocessed example as one id vector and one float vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.schema import NUMBER_ROLES, SIDE_INPUTS, Schema
from xdeepint_ext.utils.signatures import input_signature

IDS, FLOATS = "ids", "floats"


class Packing:
    """Which place of the two vectors belongs to which input, side input, label or weight.

    Args:
      schema: the schema.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> packing = Packing(Schema([Feature("user", num_values=9), Feature("click", "numeric", "label")]))
      >>> packing.num_ids, packing.num_floats
      (1, 1)
    """

    def __init__(self, schema: Schema) -> None:
        self.tasks = [label.name for label in schema.labels]
        self.has_weight = schema.weight is not None
        lengths: dict[str, dict[str, int]] = {IDS: {}, FLOATS: {}}
        for name, spec in input_signature(schema).items():
            lengths[IDS if spec.dtype.is_integer else FLOATS][name] = spec.shape[1]
        self.side = {
            keyword: FLOATS if NUMBER_ROLES & set(feature.roles) else IDS
            for keyword, feature in schema.side_inputs.items()
        }
        for keyword, vector in self.side.items():
            lengths[vector][keyword] = 1
        lengths[FLOATS] |= {f"label:{task}": 1 for task in self.tasks}
        if self.has_weight:
            lengths[FLOATS]["weight:"] = 1
        self.lengths = lengths

    @property
    def num_ids(self) -> int:
        """Length of the id vector."""
        return sum(self.lengths[IDS].values())

    @property
    def num_floats(self) -> int:
        """Length of the float vector."""
        return sum(self.lengths[FLOATS].values())

    def feature_spec(self) -> dict[str, Any]:
        """What `tf.io.parse_example` is to look for."""
        spec = {IDS: tf.io.FixedLenFeature([self.num_ids], tf.int64)} if self.num_ids else {}
        if self.num_floats:
            spec[FLOATS] = tf.io.FixedLenFeature([self.num_floats], tf.float32)
        return spec

    def pack(self, features: Mapping[str, tf.Tensor], labels: Any, weight: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """(features, labels, weight) of a batch -> {"ids": (B, num_ids), "floats": (B, num_floats)}."""
        values = dict(features)
        by_task = labels if isinstance(labels, Mapping) else {task: labels for task in self.tasks}
        values |= {f"label:{task}": by_task[task] for task in self.tasks}
        if self.has_weight:
            values["weight:"] = weight
        packed = {}
        for vector, dtype in ((IDS, tf.int64), (FLOATS, tf.float32)):
            parts = [tf.cast(tf.reshape(values[name], (-1, n)), dtype) for name, n in self.lengths[vector].items()]
            if parts:
                packed[vector] = tf.concat(parts, axis=1)
        return packed

    def unpack(self, packed: Mapping[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], Any, tf.Tensor | None]:
        """The inverse of `pack`."""
        values: dict[str, tf.Tensor] = {}
        for vector, lengths in self.lengths.items():
            if lengths:
                values |= dict(zip(lengths, tf.split(packed[vector], list(lengths.values()), axis=1), strict=True))
        labels = {task: values.pop(f"label:{task}") for task in self.tasks}
        weight = values.pop("weight:")[:, 0] if self.has_weight else None
        for keyword in SIDE_INPUTS.values():
            if keyword in values:
                values[keyword] = values[keyword][:, 0]
        return values, (labels if len(labels) > 1 else next(iter(labels.values()), None)), weight
