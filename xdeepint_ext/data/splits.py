"""Which split a record belongs to: a pure function of (seed, file, record number), whatever the number of workers."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ["TEST", "TRAIN", "VALID", "RandomSplit", "authors_split", "hash_rows", "row_keys", "uniform"]

TRAIN, VALID, TEST = range(3)
"""Indices in `manifest.SPLITS`."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def row_keys(index: int, numbers: np.ndarray) -> np.ndarray:
    """One uint64 for each record of the data set: the file's index in the upper bits, the record's number below."""
    return np.uint64(index << 40) + numbers.astype(np.uint64)


def authors_split(positions: np.ndarray) -> np.ndarray:
    """The authors' split by position, counted from 0: training where i % 1000 / 1000 <= 0.80, else test; no validation.

    It is the rule of both their Criteo and their Avazu code.
    """
    return np.where(positions % 1000 <= 800, TRAIN, TEST).astype(np.uint8)


def hash_rows(keys: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """A uint64 hash of each key (the finaliser of splitmix64); other seeds and purposes give independent ones."""
    salt = np.array([seed % 2**64], np.uint64)
    for byte in purpose.encode():
        salt = _mix(salt + np.uint64(byte))
    return _mix(keys.astype(np.uint64) + salt)


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(hashes: np.ndarray) -> np.ndarray:
    """Hashes as float64 in [0, 1)."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclasses.dataclass(frozen=True)
class RandomSplit:
    """Draws validation and test records at random.

    Args:
      valid: expected share of validation records.
      test: expected share of test records.
      seed: another seed draws others.

    Raises:
      ValueError: a share is negative, or nothing is left to train on.
    """

    valid: float
    test: float
    seed: int

    def __post_init__(self) -> None:
        if min(self.valid, self.test) < 0 or self.valid + self.test >= 1:
            raise ValueError(
                f"valid_fraction and test_fraction must be >= 0 and leave something to train on, "
                f"got {self.valid} and {self.test}"
            )

    def __call__(self, keys: np.ndarray) -> np.ndarray:
        """The split (uint8: `TRAIN`, `VALID`, `TEST`) of each key."""
        drawn = uniform(hash_rows(keys, self.seed, "split"))
        return np.where(drawn < self.valid, VALID, np.where(drawn < self.valid + self.test, TEST, TRAIN)).astype(
            np.uint8
        )

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that get a share."""
        shares = (("train", 1.0), ("valid", self.valid), ("test", self.test))
        return tuple(name for name, share in shares if share > 0)
