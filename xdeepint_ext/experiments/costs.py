"""What a model costs: its parameters, and its multiply-adds for an example."""

from __future__ import annotations

import math

import tensorflow as tf

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.models import RankingModel
from xdeepint_ext.utils.multiply_adds import multiply_adds

__all__ = ["costs", "costs_of_config"]

BATCH = 16  # any: what is counted is in proportion to it


def costs(model: RankingModel, notes: list[str] | None = None) -> dict[str, float]:
    """`parameters`: entries of all weights; `multiply_adds`: of the trunk, so without look-ups, for one example.

    Args:
      model: a built model.
      notes: gets a line where the multiply-adds cannot be counted, and why; they are NaN then.
    """
    parameters = sum(weight.shape.num_elements() for weight in model.weights)
    try:
        count = _of_trunk(model)
    except ValueError as error:
        count = math.nan
        if notes is not None:
            notes.append(f"multiply_adds: {error}")
    return {"parameters": int(parameters), "multiply_adds": count}


def costs_of_config(config: Config) -> dict[str, float]:
    """`costs` of a config's model, which is built and not trained."""
    model = config.options.make(Inputs(config).schema)
    model.build_from_schema()
    return costs(model)


def _of_trunk(model: RankingModel) -> float:
    signature = tf.nest.map_structure(
        lambda spec: tf.TensorSpec((BATCH, *spec.shape[1:]), spec.dtype, spec.name), model.input_signature()
    )
    embedded = tf.function(model.embed).get_concrete_function(signature).structured_outputs
    specs = tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), embedded)
    return multiply_adds(lambda x: model.trunk(x, training=False), specs)
