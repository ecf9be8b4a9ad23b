"""Where each table stands in the variables of a model's embedding layers, and what its vocabulary holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.schema import Schema

Key = tuple[int, bool]


def embeddings(model: tf.Module) -> list[FeatureEmbedding]:
    """The embedding layers of a model, in an order that its copies share."""
    return [module for module in model.submodules if isinstance(module, FeatureEmbedding)]


def parts(layer: FeatureEmbedding, schema: Schema | None = None) -> dict[str, tuple[Key, slice]]:
    """Table -> (key in `layer.tables`, the rows of its ids 1, 2, ...).

    Args:
      layer: the layer.
      schema: as if it were made of this one, whose tables have other sizes.
    """
    schema = schema or layer.schema
    found: dict[str, tuple[Key, slice]] = {}
    ends: dict[Key, int] = {}
    tables = schema.tables
    for feature in schema.inputs:
        if feature.is_ids and feature.table_name not in found:
            key = (feature.width or layer.width, feature.trainable)
            start = ends.get(key, 1)  # row 0 stands for id 0 of all tables
            ends[key] = start + tables[feature.table_name].rows - 1
            found[feature.table_name] = (key, slice(start, ends[key]))
    return found


def values(layer: FeatureEmbedding) -> dict[str, np.ndarray]:
    """Table -> the rows of its ids 1, 2, ..."""
    variables = {key: array(variable) for key, variable in layer.tables.items()}
    return {name: variables[key][rows] for name, (key, rows) in parts(layer).items()}


def array(variable: Any) -> np.ndarray:
    """A variable's value; also of a mirrored, sharded or automatically cast one."""
    return tf.convert_to_tensor(variable).numpy()


def vocabulary_lines(preprocessor: Preprocessor, table: str) -> list[bytes]:
    """The values in a table's vocabulary file."""
    with open(vocabulary_file(preprocessor.vocabulary_dir or "", table), "rb") as stream:
        return stream.read().split(b"\n")[:-1]
