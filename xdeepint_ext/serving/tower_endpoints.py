"""The signatures that two-tower models have besides: a user's representation, items' representations, their score."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from absl import logging

from xdeepint_ext import __version__
from xdeepint_ext.schema import Feature
from xdeepint_ext.serving.endpoints import (
    Endpoints,
    Function,
    Tensors,
    dense,
    fitting,
    output_name,
    own_preprocessor,
    traced,
)
from xdeepint_ext.serving.loaded_towers import EXAMPLES, FACTS, ITEMS, REPRESENTATION, SCORE, SIDES, TOWER, USER
from xdeepint_ext.serving.tables import array

if TYPE_CHECKING:
    from xdeepint_ext.models.towers import TowerModel


def has_towers(model: Any) -> bool:
    """Whether a model is one of two towers."""
    return all(hasattr(model, name) for name in ("towers", "user_features", "item_features"))


class TowerEndpoints:
    """The functions behind `user_tower`, `item_tower`, `user_tower_examples`, `item_tower_examples` and `score`.

    Neither tower needs columns of the other side.

    Args:
      endpoints: of a `TowerModel`.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.model: TowerModel = endpoints.model
        self.tasks = tuple(self.model.tasks)
        assert self.model.schema is not None
        sides = zip(SIDES, (self.model.user_features, self.model.item_features), strict=True)
        self.names: dict[str, tuple[str, ...]] = dict(sides)
        own = own_preprocessor(endpoints.preprocessor)
        # The preprocessor's own schema, which knows more values than that of a pruned model.
        self._schemas = {} if own is None else {side: own.schema.select(names) for side, names in self.names.items()}
        # Functions of their own, so that raw columns and examples share one trace.
        self._shapes: dict[str, Any] = {}
        self._towers = {side: tf.function(tower, [self._inputs(side)]) for side, tower in self._eager_towers().items()}

    def functions(self) -> dict[str, Function]:
        """Signature -> its function, traced; none, with a warning, where the preprocessor cannot do with one side."""
        functions: dict[str, Function] = {}
        try:
            for side in SIDES:
                functions[TOWER[side]] = traced(self._of_columns(side), self.columns(side))
                functions[EXAMPLES[side]] = traced(
                    self._of_examples(side), tf.TensorSpec((None,), tf.string, "examples")
                )
        except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
            if own_preprocessor(self.endpoints.preprocessor) is not None:
                raise
            logging.warning(
                "export: no signatures %s: the preprocessor cannot do with the columns of one side: %s",
                [*TOWER.values(), *EXAMPLES.values(), SCORE],
                error,
            )
            return {}
        self._shapes = {side: functions[TOWER[side]].get_concrete_function().structured_outputs for side in SIDES}  # type: ignore[attr-defined]
        functions[SCORE] = traced(self._score, self.score_inputs())
        return functions

    def columns(self, side: str) -> dict[str, tf.TensorSpec]:
        """The raw columns of a side, `user` or `item`.

        Raises:
          ValueError: there is none.
        """
        wanted = {column for feature in self._inputs_of(side) for column in (feature.raw_name, feature.weights)}
        found = {name: spec for name, spec in self.endpoints.columns.items() if name in wanted}
        if not found:
            raise ValueError(
                f"no raw column is named as those of the {side}'s features, {sorted(filter(None, wanted))}"
            )
        return found

    def _inputs_of(self, side: str) -> list[Feature]:
        assert self.model.schema is not None
        return [self.model.schema[name] for name in self.names[side]]

    def _inputs(self, side: str) -> dict[str, tf.TensorSpec]:
        names = {name for feature in self._inputs_of(side) for name in (feature.name, feature.weights_name)}
        return {name: spec for name, spec in self.model.input_signature().items() if name in names}

    def _eager_towers(self) -> dict[str, Any]:
        return {
            "user": lambda features: self._named(self.model.user_tower(features)),
            "item": lambda features: self._named(self.model.item_tower(features)),
        }

    def _of_columns(self, side: str) -> Any:
        return lambda raw: self._towers[side](self._features(side, raw))

    def _of_examples(self, side: str) -> Any:
        parsing = {name: self.endpoints.parsing[name] for name in self.columns(side)}
        own = self.endpoints.by_feature

        def tower(examples: tf.Tensor) -> Tensors:
            raw = tf.io.parse_example(examples, parsing)
            raw = raw if own else {name: dense(value) for name, value in raw.items()}
            return self._towers[side](self._features(side, raw))

        return tower

    def _features(self, side: str, raw: Mapping[str, Any]) -> Tensors:
        preprocessor: Any = self.endpoints.preprocessor
        features = preprocessor.part(raw, self._schemas[side]) if self._schemas else preprocessor(raw)
        return {name: fitting(name, tf.convert_to_tensor(features[name]), s) for name, s in self._inputs(side).items()}

    def _named(self, found: Any) -> Tensors:
        by_task = found if isinstance(found, Mapping) else {self.tasks[0]: found}
        return {
            output_name(REPRESENTATION, task, self.tasks): tf.cast(by_task[task], tf.float32) for task in self.tasks
        }

    def score_inputs(self) -> dict[str, tf.TensorSpec]:
        """(1, ...) of a user and (N, ...) of items, by the shapes that the towers give in `functions`."""
        specs = {}
        for side, kind, rows in (("user", USER, 1), ("item", ITEMS, None)):
            for task in self.tasks:
                name = output_name(kind, task, self.tasks)
                shape = self._shapes[side][output_name(REPRESENTATION, task, self.tasks)].shape
                specs[name] = tf.TensorSpec((rows, *shape[1:]), tf.float32, name)
        return specs

    def _score(self, kept: Tensors) -> Tensors:
        def of(kind: str) -> Any:
            by_task = {task: kept[output_name(kind, task, self.tasks)] for task in self.tasks}
            return by_task if len(self.tasks) > 1 else by_task[self.tasks[0]]

        logits = self.model.score(of(USER), tf.nest.map_structure(lambda x: x[tf.newaxis], of(ITEMS)))
        by_task = logits if isinstance(logits, Mapping) else {self.tasks[0]: logits}
        return self.endpoints.outputs({task: tf.reshape(logit, (-1, 1)) for task, logit in by_task.items()})


def write_facts(folder: str, endpoints: Endpoints, table_dtype: str = "float32") -> None:
    """Writes towers.json: what a client must know about the towers that signatures do not say."""
    model: TowerModel = endpoints.model
    assert model.schema is not None
    item_id = model.schema.side_inputs.get("item_ids")
    facts = {
        "fingerprint": fingerprint(model, endpoints.preprocessor, table_dtype),
        "tasks": list(model.tasks),
        "item_id": None if item_id is None else {"column": item_id.raw_name, "dtype": item_id.dtype},
        # A calibrated score is no inner product any more.
        "product_scale": {
            task: None if task in endpoints.calibration else towers.product_scale()
            for task, towers in model.towers.items()
        },
    }
    with open(os.path.join(folder, FACTS), "w", encoding="utf-8") as stream:
        json.dump(facts, stream, indent=1)
        stream.write("\n")


def fingerprint(model: TowerModel, preprocessor: Any, table_dtype: str = "float32") -> str:
    """Equal for two exports only if they give equal representations: of the configuration, all weights and the ids.

    Somebody else's preprocessor cannot be compared: each export with it is a model of its own.
    """
    config = {name: value for name, value in model.get_config().items() if name != "name"}
    rounded = [] if table_dtype == "float32" else [table_dtype]
    parts = [type(model).__name__, __version__, *rounded, json.dumps(config, sort_keys=True, default=str)]
    parts.append(preprocessor.fingerprint() if own_preprocessor(preprocessor) is not None else uuid.uuid4().hex)
    digest = hashlib.sha256("\n".join(parts).encode())
    for weight in model.weights:
        value = array(weight)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]
