"""`Calibration`: a strictly increasing function of the logit, which `export` puts between a model and its scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = ["Calibration", "CalibrationError"]


class CalibrationError(ValueError):
    """Scores and labels of which no calibration can be made."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A strictly increasing, piecewise linear function of the logit: `y_i + (z - x_i) (y_{i+1} - y_i)/(x_{i+1} - x_i)`.

    The calibrated score is a logit again, and its sigmoid the calibrated probability. As the function is strictly
    increasing, order, and with it AUC and GAUC, stay as they were, up to the rounding of the result.

    Args:
      logits: (k,) knots `x_i`, ascending.
      calibrated: (k,) values there, `y_i`, ascending.
      low_slope: of the line before the first knot, > 0.
      high_slope: of the line behind the last knot, > 0.
      method: how it was found: `none`, `platt` or `isotonic`.

    Call arguments:
      logits: any shape.

    Returns:
      The calibrated logits, float64.

    Raises:
      CalibrationError: the knots do not ascend, or a number is not finite.

    Example:
      >>> Calibration((0.0,), (1.0,), low_slope=2.0, high_slope=0.5)([-1.0, 0.0, 1.0]).tolist()
      [-1.0, 1.0, 1.5]
    """

    logits: tuple[float, ...]
    calibrated: tuple[float, ...]
    low_slope: float = 1.0
    high_slope: float = 1.0
    method: str = "none"

    def __post_init__(self) -> None:
        for name in ("logits", "calibrated"):
            values = tuple(float(value) for value in getattr(self, name))
            object.__setattr__(self, name, values)
            if not values or not np.all(np.isfinite(values)) or not np.all(np.diff(values) > 0):
                raise CalibrationError(
                    f"{name} must be finite numbers that ascend strictly, at least one; got {values}"
                )
        if len(self.logits) != len(self.calibrated):
            raise CalibrationError(f"logits and calibrated must be as many, got {self.logits} and {self.calibrated}")
        for name in ("low_slope", "high_slope"):
            if not 0 < getattr(self, name) < np.inf:
                raise CalibrationError(f"{name} must be > 0 and finite, got {getattr(self, name)}")

    def __call__(self, logits: Any) -> np.ndarray:
        z = np.asarray(logits, np.float64)
        interval = np.searchsorted(self.logits, z, side="right")
        knot = np.maximum(interval - 1, 0)
        return np.take(self.calibrated, knot) + np.take(self._slopes(), interval) * (z - np.take(self.logits, knot))

    def in_graph(self, logits: tf.Tensor) -> tf.Tensor:
        """The same of a tensor, in its type, computed in float64; also inside a graph."""
        knots = tf.constant(self.logits, tf.float64)
        z = tf.reshape(tf.cast(logits, tf.float64), [-1])
        interval = tf.searchsorted(knots, z, side="right")
        knot = tf.maximum(interval - 1, 0)
        slope = tf.gather(tf.constant(self._slopes(), tf.float64), interval)
        start = tf.gather(tf.constant(self.calibrated, tf.float64), knot)
        found = start + slope * (z - tf.gather(knots, knot))
        return tf.cast(tf.reshape(found, tf.shape(logits)), logits.dtype)

    def behind_shift(self, shift: float) -> Calibration:
        """This function of `z + shift`, as a function of `z`."""
        return dataclasses.replace(self, logits=tuple(x - shift for x in self.logits))

    def describe(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return dataclasses.asdict(self)

    def _slopes(self) -> np.ndarray:
        """(k + 1,): before the first knot, between the knots, behind the last."""
        between = np.diff(self.calibrated) / np.diff(self.logits)
        return np.concatenate([[self.low_slope], between, [self.high_slope]])
