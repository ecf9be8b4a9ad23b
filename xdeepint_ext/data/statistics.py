"""Statistics of numeric columns over the training records: mean and deviation, and quantiles of a fixed-size sample."""

from __future__ import annotations

import numpy as np

__all__ = ["NumericStatistics", "moments_of", "quantile_boundaries", "smallest"]

SAMPLE_ROWS = 200_000


class NumericStatistics:
    """Moments of all rows, and the sample of the `sample_rows` rows with the smallest hashes.

    Which rows are sampled depends on their hashes alone, never on the order of arrival; with fewer rows than
    `sample_rows` all are in the sample and quantiles are exact.

    Args:
      columns: names of the columns.
      sample_rows: rows kept.
    """

    def __init__(self, columns: tuple[str, ...], sample_rows: int = SAMPLE_ROWS) -> None:
        self.columns = columns
        self._sample_rows = sample_rows
        self._count = np.zeros(len(columns))
        self._mean = np.zeros(len(columns))
        self._squares = np.zeros(len(columns))
        self._hashes = np.zeros(0, np.uint64)
        self._values = np.zeros((0, len(columns)))
        self._below = np.uint64(2**64 - 1)

    def add(self, values: np.ndarray, hashes: np.ndarray) -> None:
        """Adds rows.

        Args:
          values: (n, columns) float64, NaN = missing.
          hashes: (n,) uint64.
        """
        self.add_moments(*moments_of(values))
        self.add_sample(values, hashes)

    def add_sample(self, values: np.ndarray, hashes: np.ndarray) -> None:
        """Adds rows to the sample alone."""
        taken = hashes <= self._below
        self._hashes = np.concatenate([self._hashes, hashes[taken]])
        self._values = np.concatenate([self._values, values[taken]])
        if len(self._hashes) > 2 * self._sample_rows:
            self._trim()

    def add_moments(self, count: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
        """Adds the moments of rows, as `moments_of` gives them.

        Chan, Golub, LeVeque (1983): pairwise update of mean and sum of squared deviations.
        """
        total = self._count + count
        share = count / np.maximum(total, 1)
        gap = mean - self._mean
        self._mean = self._mean + gap * share
        self._squares = self._squares + squares + gap**2 * self._count * share
        self._count = total

    def _trim(self) -> None:
        self._values, self._hashes = smallest(self._values, self._hashes, self._sample_rows)
        self._below = self._hashes.max()

    def moments(self, column: str) -> tuple[int, float, float]:
        """Number of values, their mean, and their (population) standard deviation."""
        i = self.columns.index(column)
        count = int(self._count[i])
        return count, float(self._mean[i]), float(np.sqrt(self._squares[i] / max(count, 1)))

    def sample(self, column: str) -> np.ndarray:
        """The sampled values of a column, sorted, missing ones left out."""
        if len(self._hashes) > self._sample_rows:
            self._trim()
        values = self._values[:, self.columns.index(column)]
        return np.sort(values[~np.isnan(values)])


def moments_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of values, mean and sum of squared deviations of each column of (n, columns); NaN = missing."""
    present = ~np.isnan(values)
    count = present.sum(0)
    filled = np.where(present, values, 0.0)
    mean = filled.sum(0) / np.maximum(count, 1)
    return count, mean, (np.where(present, filled - mean, 0.0) ** 2).sum(0)


def smallest(values: np.ndarray, hashes: np.ndarray, rows: int = SAMPLE_ROWS) -> tuple[np.ndarray, np.ndarray]:
    """The rows with the smallest hashes, and these."""
    if len(hashes) <= rows:
        return values, hashes
    kept = np.argpartition(hashes, rows - 1)[:rows]
    return values[kept], hashes[kept]


def quantile_boundaries(values: np.ndarray, num_bins: int) -> tuple[float, ...]:
    """Inner boundaries of bins that hold about equally many values.

    A boundary is itself a value (the smallest of the bin above it), exact in float32. Values that repeat make fewer
    bins than asked for; no bin is empty.

    Args:
      values: sorted, at least one.
      num_bins: bins asked for.

    Returns:
      At most `num_bins - 1` boundaries, ascending; at least one.

    Example:
      >>> quantile_boundaries(np.array([1.0, 2.0, 3.0, 4.0]), 2)
      (3.0,)
    """
    ranks = np.arange(1, num_bins) * len(values) // num_bins
    found = np.unique(values[ranks].astype(np.float32)).astype(np.float64)
    smallest = float(np.float32(values[0]))
    return tuple(found[found > smallest].tolist()) or (smallest,)
