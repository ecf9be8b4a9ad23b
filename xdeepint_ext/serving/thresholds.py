"""What `serving.skew` lets pass: a largest value for each measure, and others for single columns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from xdeepint_ext.serving.column_statistics import CATEGORICAL, ColumnStatistics
from xdeepint_ext.serving.distances import MEASURES

__all__ = ["DEFAULTS", "ThresholdError", "Thresholds"]

DEFAULTS: dict[str, float] = {"linf": 0.1, "js": 0.05, "psi": 0.25, "missing": 0.05, "unknown": 0.1}
"""Measure -> the largest value that passes; our choices, but for PSI's, which is the usual one."""
LARGEST = {"linf": 1.0, "js": 1.0, "psi": math.inf, "missing": 1.0, "unknown": 1.0}


class ThresholdError(ValueError):
    """Thresholds that make no sense, by themselves or together."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Largest values that pass.

    Args:
      general: measure -> threshold of all columns; `DEFAULTS` for those not given.
      own: (column, measure) -> threshold, instead of the general one.
      ignored: columns that are not compared.

    Raises:
      ThresholdError: a value is out of the measure's range, or an ignored column has a threshold.

    Example:
      >>> Thresholds({"psi": 0.5}).of("age", "psi")
      0.5
    """

    general: Mapping[str, float] = dataclasses.field(default_factory=dict)
    own: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = dict(self.general)
        given |= {f"{column}.{measure}": value for (column, measure), value in self.own.items()}
        for name, value in given.items():
            measure = name.rpartition(".")[2]
            if measure not in MEASURES:
                raise ThresholdError(f"threshold {name}: {measure!r} must be one of {MEASURES}")
            if not 0 <= value <= LARGEST[measure] or math.isinf(value):
                raise ThresholdError(f"threshold {name} must be a number in [0, {LARGEST[measure]:g}], got {value:g}")
        both = sorted({column for column, _ in self.own} & set(self.ignored))
        if both:
            raise ThresholdError(f"column {both[0]!r} is ignored, and has a threshold: leave one of them out")

    def of(self, column: str, measure: str) -> float:
        """The largest value of a measure that passes."""
        return self.own.get((column, measure), self.general.get(measure, DEFAULTS[measure]))

    def check_columns(self, columns: Mapping[str, ColumnStatistics]) -> None:
        """Checks that the columns that are named are there, and have such measures.

        Raises:
          ThresholdError: one is not, or none is left to compare.
        """
        for name in (*self.ignored, *(column for column, _ in self.own)):
            if name not in columns:
                raise ThresholdError(f"there is no column {name!r} in the reference; it has {sorted(columns)}")
        for column, measure in self.own:
            kind = columns[column].kind
            if measure == ("psi" if kind == CATEGORICAL else "linf"):
                raise ThresholdError(f"threshold {column}.{measure}: the column is {kind}, which has no {measure}")
        if not set(columns) - set(self.ignored):
            raise ThresholdError("ignore: no column is left to compare")

    @classmethod
    def parse(cls, general: Mapping[str, float | None], own: Iterable[str], ignored: Sequence[str]) -> Thresholds:
        """Those of a command line.

        Args:
          general: measure -> value; None = the default.
          own: `COLUMN.MEASURE=VALUE` each.
          ignored: see the class.

        Raises:
          ThresholdError: a text is something else, or says two things of one column.
        """
        found: dict[tuple[str, str], float] = {}
        for text in own:
            name, _, number = text.rpartition("=")
            column, _, measure = name.rpartition(".")
            try:
                value = float(number)
            except ValueError:
                raise ThresholdError(f"threshold {text!r}: expected COLUMN.MEASURE=NUMBER") from None
            if not column:
                raise ThresholdError(f"threshold {text!r}: expected COLUMN.MEASURE=NUMBER")
            if found.get((column, measure), value) != value:
                raise ThresholdError(f"threshold {name} is given twice: {found[column, measure]:g} and {value:g}")
            found[column, measure] = value
        return cls({name: value for name, value in general.items() if value is not None}, found, tuple(ignored))
