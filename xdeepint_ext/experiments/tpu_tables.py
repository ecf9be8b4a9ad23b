"""A model's tables to a TPU's TPUEmbedding before training, and back to an ordinary model behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.layers.tpu_embedding import TpuFeatureEmbedding

__all__ = ["copy_to_host", "tpu_embedding_of", "use_tpu_tables"]


def use_tpu_tables(model: tf.keras.Model, optimizer: Any, batch_size: int) -> None:
    """Puts a `TpuFeatureEmbedding` in the place of a model's `FeatureEmbedding`.

    Args:
      model: with no weights yet.
      optimizer: of `tf.tpu.experimental.embedding`.
      batch_size: of a replica.

    Raises:
      ValueError: the model has several layers with tables, or none.
    """
    layers = {id(module): module for module in model.submodules if isinstance(module, FeatureEmbedding)}
    holders = [module for module in (model, *model.submodules) if id(getattr(module, "embedding", None)) in layers]
    if len(layers) != 1 or not holders:
        raise ValueError(
            f"strategy=tpu: TPUEmbedding takes the tables of one layer, and {type(model).__name__} has {len(layers)} "
            "layers with tables; use another model or strategy"
        )
    [layer] = layers.values()
    placed = TpuFeatureEmbedding(optimizer=optimizer, batch_size=batch_size, **layer.get_config())
    for holder in holders:  # a model around another one has its layer, too
        holder.embedding = placed


def tpu_embedding_of(model: tf.keras.Model) -> TpuFeatureEmbedding:
    """The layer that `use_tpu_tables` put into a model."""
    [layer] = [module for module in model.submodules if isinstance(module, TpuFeatureEmbedding)]
    return layer


def copy_to_host(model: tf.keras.Model, here: tf.keras.Model) -> None:
    """Gives an ordinary model the weights of one with a `TpuFeatureEmbedding`; outside of a strategy's scope.

    Args:
      model: with weights.
      here: another such model, whose layer is a `FeatureEmbedding`, with weights.
    """
    layer = tpu_embedding_of(model)
    [ordinary] = [module for module in here.submodules if isinstance(module, FeatureEmbedding)]
    tables = layer.trainable_tables()
    for key, values in tables.items():
        ordinary.tables[key].assign(values)
    # The other weights of the two layers, then those of the models, in which the layers may stand at other places.
    found = _without(layer.weights, layer.table_weights) + _without(model.weights, layer.weights)
    wanted = _without(ordinary.weights, [ordinary.tables[key] for key in tables])
    wanted += _without(here.weights, ordinary.weights)
    for weight, other in zip(wanted, found, strict=True):
        weight.assign(other.numpy())


def _without(weights: Sequence[Any], left_out: Sequence[Any]) -> list[Any]:
    return [weight for weight in weights if not any(weight is other for other in left_out)]
