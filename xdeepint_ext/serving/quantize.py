"""Float vectors in fewer bytes: float16, or int8 with a scale for every 16 numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

DTYPES = ("float32", "float16", "int8")
VALUES, SCALES = "values", "scales"
BLOCK = 16
"""Numbers with one scale. A vector may be several things side by side, of different size."""

_LARGEST = 127


class OutOfRangeError(ValueError):
    """A number cannot be kept.

    Args:
      row: the first row with such a number.
      message: which, and why.
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def encode(vectors: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    """Vectors, (N, ..., w) float32, as the arrays that are kept.

    float16 rounds each number. int8 is `round(x / s)` with `s = max |x| / 127` for every 16 numbers of a vector (the
    last ones may be fewer), so that rows can be copied from cache to cache without being rounded again.

    Args:
      vectors: finite numbers, w >= 1.
      dtype: one of `DTYPES`.

    Returns:
      `values` (N, ..., w), and for int8 `scales` (N, ..., ceil(w / 16)) float32.

    Raises:
      ValueError: the dtype is unknown.
      OutOfRangeError: a number is not finite, or not in the dtype's range.

    Example:
      >>> encode(np.array([[1.0, -2.54]], np.float32), "int8")["values"].tolist()
      [[50, -127]]
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    _demand(np.isfinite(vectors), vectors, "not a finite number")
    if dtype == "float32":
        return {VALUES: np.ascontiguousarray(vectors, np.float32)}
    if dtype == "float16":
        _demand(np.abs(vectors) <= np.finfo(np.float16).max, vectors, "too large for float16")
        return {VALUES: vectors.astype(np.float16)}
    width = vectors.shape[-1]
    scales = np.maximum.reduceat(np.abs(vectors), np.arange(0, width, BLOCK), axis=-1) / np.float32(_LARGEST)
    each = _of_numbers(scales, width)
    steps = np.divide(vectors, each, out=np.zeros_like(vectors), where=each > 0)
    # A denormal maximum loses digits in its scale.
    steps = np.clip(np.rint(steps), -_LARGEST, _LARGEST)
    return {VALUES: steps.astype(np.int8), SCALES: scales.astype(np.float32)}


def decode(kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """The vectors of `encode`, float32.

    Example:
      >>> vectors = np.array([[0.1, -3.0], [0.0, 0.0]], np.float32)
      >>> bool(np.abs(decode(encode(vectors, "int8")) - vectors).max() <= 3.0 / 127 / 2)
      True
    """
    values = kept[VALUES].astype(np.float32, copy=False)
    return values * _of_numbers(kept[SCALES], values.shape[-1]) if SCALES in kept else values


def _of_numbers(scales: np.ndarray, width: int) -> np.ndarray:
    """(..., blocks) -> (..., width): the scale of each number."""
    return np.repeat(scales, BLOCK, axis=-1)[..., :width]


def _demand(fine: np.ndarray, vectors: np.ndarray, what: str) -> None:
    if not fine.all():
        place = tuple(np.argwhere(~fine)[0].tolist())
        raise OutOfRangeError(place[0], f"a representation holds {vectors[place]}, {what}")
