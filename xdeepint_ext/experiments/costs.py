"""What a model costs: its parameters, and its multiply-adds for an example."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.routed_costs import parts_of
from xdeepint_ext.experiments.routing import Routed, Routing
from xdeepint_ext.models import RankingModel
from xdeepint_ext.utils.multiply_adds import multiply_adds

__all__ = ["costs", "costs_of_config", "embedded"]

BATCH = 16  # any: what is counted is in proportion to it


def costs(model: RankingModel, notes: list[str] | None = None, routing: Routing | None = None) -> dict[str, float]:
    """`parameters`: entries of all weights; `multiply_adds`: of the trunk, so without look-ups, for one example.

    Of a model that routes its examples, `multiply_adds` are what the routing needs, on average, and
    `multiply_adds_dense` those of all its experts and layers.

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
            count = multiply_adds(lambda x: model.trunk(x, training=False), embedded(model))
            return {**found, "multiply_adds": count}
        except ValueError as error:
            problem = str(error)
    if notes is not None:
        notes.append(f"multiply_adds: {problem}")
    return {**found, "multiply_adds": math.nan}


def costs_of_config(config: Config) -> dict[str, float]:
    """`costs` of a config's model, which is built and not trained."""
    model = config.options.make(Inputs(config).schema)
    model.build_from_schema()
    return costs(model)


def embedded(model: RankingModel) -> Any:
    """Shape and dtype of the field matrix of a few examples."""
    signature = tf.nest.map_structure(
        lambda spec: tf.TensorSpec((BATCH, *spec.shape[1:]), spec.dtype, spec.name), model.input_signature()
    )
    outputs = tf.function(model.embed).get_concrete_function(signature).structured_outputs
    return tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), outputs)
