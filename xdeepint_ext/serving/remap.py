"""A preprocessor whose ids are renumbered after it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.schema import Schema


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
        return self._renumbered(self.base(raw))

    def part(self, raw: Mapping[str, Any], schema: Schema) -> dict[str, tf.Tensor]:
        """The same for some of the features; see `Preprocessor.part`, which the base must have."""
        return self._renumbered(self.base.part(raw, schema))  # type: ignore[attr-defined]

    def fingerprint(self) -> str:
        """As `Preprocessor.fingerprint`, which the base must have."""
        digest = hashlib.sha256(self.base.fingerprint().encode())  # type: ignore[attr-defined]
        for feature, table in sorted(self._features.items()):
            digest.update(f"{feature}:{table}:".encode() + self._remaps[table].numpy().tobytes())
        return digest.hexdigest()[:16]

    def remap(self, feature: str) -> np.ndarray | None:
        """The new id of each id of a feature; None where its ids stay."""
        return self._remaps[self._features[feature]].numpy() if feature in self._features else None

    def _renumbered(self, outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        renumbered = dict(outputs)
        for feature, table in self._features.items():
            if feature in outputs:
                ids = outputs[feature]
                renumbered[feature] = tf.cast(tf.gather(self._remaps[table], ids), ids.dtype)
        return renumbered
