"""A preprocessor whose ids are renumbered after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf


class RemappedPreprocessor(tf.Module):
    """Another preprocessor's output with `id -> remap[id]` in some tables; costs four bytes an id.

    Args:
      base: the other preprocessor.
      tables: table -> the new id of each id.
      features: feature -> its table.

    Call arguments:
      raw: see `Preprocessor`.

    Returns:
      The base's outputs, ids renumbered.

    Example:
      >>> class Base(tf.Module):
      ...     def __call__(self, raw):
      ...         return {"user": raw["user"]}
      >>> remapped = RemappedPreprocessor(Base(), {"user": np.array([0, 0, 1])}, {"user": "user"})
      >>> remapped({"user": tf.constant([[2], [1]], tf.int64)})["user"].numpy().tolist()
      [[1], [0]]
    """

    def __init__(
        self,
        base: Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]],
        tables: Mapping[str, np.ndarray],
        features: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.base = base
        self._remaps = {
            name: tf.Variable(remap.astype(np.int32), trainable=False, name=f"remap_{name}")
            for name, remap in tables.items()
        }
        self._features = {feature: table for feature, table in features.items() if table in tables}

    def __call__(self, raw: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        outputs = dict(self.base(raw))
        for feature, table in self._features.items():
            ids = outputs[feature]
            outputs[feature] = tf.cast(tf.gather(self._remaps[table], ids), ids.dtype)
        return outputs
