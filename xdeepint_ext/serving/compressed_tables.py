"""Embedding tables of an export in fewer bytes: float16 or int8, made float32 again as rows are looked up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.serving.quantize import BLOCK, DTYPES, SCALES, VALUES, OutOfRangeError, decode, encode
from xdeepint_ext.serving.tables import embeddings

ROWS_AT_ONCE = 1 << 18


class CompressedTables(tf.Module):
    """A model's tables in another type, and all its other weights.

    A table of width 4 or less that is to be int8 becomes float16, which takes no more bytes there.

    Args:
      model: with weights; it is not changed.
      dtype: `float16` or `int8`; see `quantize.encode`.

    Attributes:
      largest_error: of a number in any table.
      bytes_before, bytes_after: of the tables.

    Raises:
      ValueError: the dtype is unknown, or a number does not fit in it; names table and row.
    """

    def __init__(self, model: Any, dtype: str) -> None:
        super().__init__()
        if dtype not in DTYPES[1:]:
            raise ValueError(f"table_dtype must be one of {DTYPES}, got {dtype!r}")
        self._model_ref = _Untracked(model)
        self.largest_error, self.bytes_before, self.bytes_after = 0.0, 0, 0
        self._kept: list[list[tf.Variable]] = []
        self._places: dict[Any, int] = {}
        for layer in embeddings(model):
            for table in layer.tables.values():
                self._places[table.ref()] = len(self._kept)
                self._kept.append(self._compressed(table, dtype))
        self.others = [weight for weight in model.weights if weight.ref() not in self._places]

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The model looks up in these tables inside the block."""
        layers = embeddings(self._model_ref.value)
        for layer in layers:
            layer.look_up = self.look_up
        try:
            yield
        finally:
            for layer in layers:
                layer.look_up = None

    def look_up(self, table: Any, rows: tf.Tensor) -> tf.Tensor:
        """Rows of a table, float32."""
        kept = self._kept[self._places[table.ref()]]
        found = tf.cast(tf.gather(kept[0], rows), tf.float32)
        if len(kept) == 1:
            return found
        width = found.shape[-1]
        return found * tf.repeat(tf.gather(kept[1], rows), BLOCK, axis=-1)[..., :width]

    def _compressed(self, table: Any, dtype: str) -> list[tf.Variable]:
        count, width = table.shape
        dtype = "float16" if dtype == "int8" and width <= 4 else dtype
        arrays = {VALUES: np.empty((count, width), dtype)}
        if dtype == "int8":
            arrays[SCALES] = np.empty((count, -(-width // BLOCK)), np.float32)
        for start in range(0, count, ROWS_AT_ONCE):
            rows = tf.convert_to_tensor(table[start : start + ROWS_AT_ONCE]).numpy().astype(np.float32, copy=False)
            try:
                part = encode(rows, dtype)
            except OutOfRangeError as error:
                raise ValueError(
                    f"table_dtype={dtype}: row {start + error.row} of {table.name} has a number that is not finite or "
                    f"beyond {dtype}'s range"
                ) from error
            for name, array in arrays.items():
                array[start : start + len(rows)] = part[name]
            self.largest_error = max(self.largest_error, float(np.abs(decode(part) - rows).max(initial=0.0)))
        self.bytes_before += 4 * count * width
        self.bytes_after += sum(array.nbytes for array in arrays.values())
        name = table.name.partition(":")[0].replace("/", "_")
        return [tf.Variable(array, trainable=False, name=f"{name}_{part}") for part, array in arrays.items()]


class _Untracked:
    """Keeps an object out of what a tf.Module saves."""

    def __init__(self, value: Any) -> None:
        self.value = value
