"""Statistics of one raw column, or of a score: how many values are missing or unknown, and how they are distributed."""

from __future__ import annotations

import collections
import dataclasses
import itertools

import numpy as np

from xdeepint_ext.data.statistics import quantile_boundaries

__all__ = ["CATEGORICAL", "NUMERIC", "Bucket", "ColumnCollector", "ColumnStatistics"]

CATEGORICAL, NUMERIC = "categorical", "numeric"
TOP_VALUES = 100
"""Of a categorical column that are kept and compared one by one; the rest are compared together."""
QUANTILES = 10
EQUAL_WIDTHS = 20

Bucket = tuple[float, float, float]
"""(low, high, values in it)."""


@dataclasses.dataclass(frozen=True)
class ColumnStatistics:
    """What is kept of a column.

    Args:
      name: of the raw column, or `prediction:OUTPUT` of a score.
      dtype: `string`, `int` or `float`.
      kind: `categorical` or `numeric`.
      rows: examples.
      missing: those that have no value.
      values: number of values; an example may have several.
      unknown: (values that the model has no vector of their own for, values that it looked up); None = not counted.
      top: value -> how often, the most frequent first; of a categorical column.
      distinct: number of different values of a categorical column.
      quantiles: buckets of about equally many values of a numeric column.
      widths: buckets of equal width.
      moments: `mean`, `std_dev`, `min`, `median`, `max`, `num_zeros` of the finite values of a numeric column.
    """

    name: str
    dtype: str
    kind: str
    rows: int
    missing: int
    values: int
    unknown: tuple[int, int] | None = None
    top: dict[str, float] = dataclasses.field(default_factory=dict)
    distinct: int = 0
    quantiles: tuple[Bucket, ...] = ()
    widths: tuple[Bucket, ...] = ()
    moments: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def missing_rate(self) -> float:
        """Share of the examples that have no value."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def unknown_rate(self) -> float | None:
        """Share of the values that are unknown to the model; None where they were not counted."""
        return None if self.unknown is None else self.unknown[0] / max(self.unknown[1], 1)


class ColumnCollector:
    """Gathers a column.

    Args:
      name: see `ColumnStatistics`.
      dtype: see there.
      kind: see there.
      counts_unknown: whether `add_unknown` will be called.
    """

    def __init__(self, name: str, dtype: str, kind: str, counts_unknown: bool = False) -> None:
        self.name, self.dtype, self.kind = name, dtype, kind
        self.rows, self.missing, self.values = 0, 0, 0
        self.unknown: tuple[int, int] | None = (0, 0) if counts_unknown else None
        self._counts: collections.Counter[bytes | int] = collections.Counter()
        self._numbers: list[np.ndarray] = []

    def add(self, values: np.ndarray, present: np.ndarray) -> None:
        """Adds examples.

        Args:
          values: (n,) or (n, most).
          present: of the same shape, whether there is a value.
        """
        self.rows += len(present)
        self.missing += int((~present.any(axis=tuple(range(1, present.ndim)))).sum())
        found = values[present]
        self.values += len(found)
        if self.kind == NUMERIC:
            self._numbers.append(found.astype(np.float64))
        else:
            self._counts.update(found.tolist())

    def add_unknown(self, unknown: int, looked_up: int) -> None:
        """Adds values that the model has looked up."""
        before = self.unknown or (0, 0)
        self.unknown = (before[0] + unknown, before[1] + looked_up)

    def numbers(self) -> np.ndarray:
        """All values of a numeric column, sorted."""
        return np.sort(np.concatenate([np.zeros(0), *self._numbers]))

    def counts(self) -> dict[str, float]:
        """All values of a categorical column, the most frequent first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], str(item[0])))
        return {_text(value): float(count) for value, count in ordered}

    def finish(self) -> ColumnStatistics:
        """The statistics of what was added."""
        common = (self.name, self.dtype, self.kind, self.rows, self.missing, self.values, self.unknown)
        if self.kind == CATEGORICAL:
            counts = self.counts()
            return ColumnStatistics(
                *common, top=dict(itertools.islice(counts.items(), TOP_VALUES)), distinct=len(counts)
            )
        numbers = self.numbers()
        finite = numbers[np.isfinite(numbers)]
        if not len(finite):
            return ColumnStatistics(*common)
        inner = np.array(quantile_boundaries(finite, QUANTILES))
        edges = np.linspace(finite[0], finite[-1], EQUAL_WIDTHS + 1)[1:-1] if finite[0] < finite[-1] else np.zeros(0)
        moments = {
            "mean": float(finite.mean()),
            "std_dev": float(finite.std()),
            "min": float(finite[0]),
            "median": float(np.median(finite)),
            "max": float(finite[-1]),
            "num_zeros": float((finite == 0).sum()),
        }
        return ColumnStatistics(
            *common, quantiles=_buckets(numbers, inner), widths=_buckets(numbers, edges), moments=moments
        )


def _buckets(numbers: np.ndarray, inner: np.ndarray) -> tuple[Bucket, ...]:
    """Buckets between inner boundaries, each of which belongs to the one above it."""
    counts = np.bincount(np.searchsorted(inner, numbers, side="right"), minlength=len(inner) + 1)
    edges = [float(numbers[0]), *inner.tolist(), float(numbers[-1])]
    return tuple((low, high, float(n)) for (low, high), n in zip(itertools.pairwise(edges), counts, strict=True))


def _text(value: bytes | int) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
