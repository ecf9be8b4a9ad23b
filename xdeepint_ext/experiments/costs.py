"""What a model costs: its parameters, and its multiply-adds for an example."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.list_inputs import open_inputs
from xdeepint_ext.experiments.routed_costs import parts_of
from xdeepint_ext.experiments.routing import Routed, Routing
from xdeepint_ext.models import RankingModel
from xdeepint_ext.models.towers import TowerModel
from xdeepint_ext.utils.multiply_adds import multiply_adds

__all__ = ["costs", "costs_of_config", "embedded"]

BATCH = 16  # any: what is counted is in proportion to it


def costs(model: RankingModel, notes: list[str] | None = None, routing: Routing | None = None) -> dict[str, float]:
    """`parameters`: entries of all weights; `multiply_adds`: of the trunk, so without look-ups, for one example.

    Of a model that routes its examples, `multiply_adds` are what the routing needs, on average, and
    `multiply_adds_dense` those of all its experts and layers. Of towers, `multiply_adds_online` is that of a user and
    an item whose representations are there already.

    Args:
      model: a built model.
      notes: gets a line where the multiply-adds cannot be counted, and why; they are NaN then.
      routing: of a split, if the model routes.
    """
    found: dict[str, float] = {"parameters": int(sum(weight.shape.num_elements() for weight in model.weights))}
    if isinstance(model, Routed):
        parts = parts_of(model, embedded(model))
        dense = sum(part.multiply_adds for part in parts)
        if routing is not None:
            expected = sum(part.expected(routing) for part in parts)
            return {**found, "multiply_adds": expected, "multiply_adds_dense": dense}
        problem = "they depend on how the model routes its examples, and no split was evaluated"
        found["multiply_adds_dense"] = dense
    else:
        try:
            found["multiply_adds"] = multiply_adds(lambda x: model.trunk(x, training=False), embedded(model))
            return {**found, **_online(model)}
        except ValueError as error:
            problem = str(error)
    if notes is not None:
        notes.append(f"multiply_adds: {problem}")
    return {**found, "multiply_adds": math.nan}


def costs_of_config(config: Config) -> dict[str, float]:
    """`costs` of a config's model, which is built and not trained."""
    model = config.options.make(open_inputs(config).schema)
    model.build_from_schema()
    return costs(model)


def embedded(model: RankingModel) -> Any:
    """Shape and dtype of what `trunk` takes, of a few examples: a field matrix, of towers users and items."""
    signature = tf.nest.map_structure(
        lambda spec: tf.TensorSpec((BATCH, *spec.shape[1:]), spec.dtype, spec.name), model.input_signature()
    )

    def of_towers(features: Any) -> Any:
        assert isinstance(model, TowerModel)
        items = tf.nest.map_structure(lambda x: x[:, tf.newaxis], model.embed_items(features))
        return model.embed_user(features), items, {}

    return _specs(of_towers if isinstance(model, TowerModel) else model.embed, signature)


def _online(model: RankingModel) -> dict[str, float]:
    """Multiply-adds of the score of two representations."""
    if not isinstance(model, TowerModel):
        return {}
    user, items, _ = embedded(model)
    towers = [*model.towers.values()]
    of_user = [_specs(tower.user, user) for tower in towers]
    of_items = [_specs(lambda x, tower=tower: tower.item(_first(x))[:, tf.newaxis], items) for tower in towers]

    def score(of_user: Any, of_items: Any) -> list[tf.Tensor]:
        return [tower.score(u, i) for tower, u, i in zip(towers, of_user, of_items, strict=True)]

    return {"multiply_adds_online": multiply_adds(score, of_user, of_items)}


def _first(items: Any) -> Any:
    """The one item of lists of one."""
    return tf.nest.map_structure(lambda x: x[:, 0], items)


def _specs(function: Callable[..., Any], *inputs: Any) -> Any:
    """Shape and dtype of what a function returns."""
    outputs = tf.function(function).get_concrete_function(*inputs).structured_outputs
    return tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), outputs)
