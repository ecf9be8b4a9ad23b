"""Criteo display advertising challenge (Kaggle 2014): tab-separated label, I1 .. I13 integers, C1 .. C26 categories."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks, split_lines
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import RandomSplit, authors_split, row_keys
from xdeepint_ext.schema import Feature, Schema

__all__ = ["WINNERS_BOUNDARIES", "Criteo"]

INTEGERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
COLUMNS = ("label", *INTEGERS, *CATEGORIES)
WINNERS_BOUNDARIES = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, *(math.exp(math.sqrt(k)) for k in range(2, 463)))
"""The challenge's winners: integers up to 2 are values of their own, a larger x becomes floor(ln(x)^2); up to 2^31."""


@dataclasses.dataclass(frozen=True)
class Criteo:
    """Loader of `train.txt` (plain or .gz) or of the archive `dac.tar.gz` that holds it.

    Split: `random` is the paper's 70/10/20 (xDeepInt §4.1.1), drawn by the seed; `repo` is the authors' code: record i
    is for training if i % 1000 / 1000 <= 0.80, else for test, and there is no validation part. Binning: `log_square`
    is the authors' floor(ln(x^2 + 1)); `winners` is that of the challenge's winners, which the paper names; `quantile`
    are bins of equal frequency, which it names elsewhere. The authors' code reads I1 .. I12 only (`drop_i13`) and a
    missing integer as 0 (`missing_integers="zero"`); the default leaves it missing. `min_count` is 21 unless it is
    given: the authors keep values seen more than 20 times.
    """

    binning: str = option("log_square", "how integers become ids", ("log_square", "winners", "quantile"))
    num_bins: int = option(64, "bins of an integer, for binning=quantile")
    drop_i13: bool = option(False, "leave out I13, as the authors' code does")
    missing_integers: str = option("missing", "what an empty integer is", ("missing", "zero"))
    split: str = option("random", "70/10/20 by the seed, or the authors' by position", ("random", "repo"))
    valid_fraction: float = option(0.1, "share of the validation split, for split=random")
    test_fraction: float = option(0.2, "share of the test split, for split=random")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        path = find_file(raw_dir, "train.txt", "dac.tar", "train.txt.tar")
        file = TextFile(path, member="train.txt" if ".tar" in os.path.basename(path) else None)
        random = RandomSplit(self.valid_fraction, self.test_fraction, seed)
        split: Callable[[np.ndarray, np.ndarray], np.ndarray]
        split = functools.partial(_random_split, random) if self.split == "random" else _repo_split
        return Source(
            schema=Schema(self._features()),
            blocks=functools.partial(read_blocks, (file,)),
            parse=functools.partial(_parse, split=split, fill=b"0" if self.missing_integers == "zero" else b""),
            splits=random.splits if self.split == "random" else ("train", "test"),
            size=os.path.getsize(path) * (3 if path.endswith(".gz") else 1),
        )

    def _features(self) -> list[Feature]:
        binning: dict[str, dict[str, Any]] = {
            "log_square": {"binning": "log_square"},
            "winners": {"binning": "boundaries", "boundaries": WINNERS_BOUNDARIES},
            "quantile": {"binning": "quantile", "num_bins": self.num_bins},
        }
        integers = INTEGERS[:-1] if self.drop_i13 else INTEGERS
        return [
            *(Feature(name, "numeric", dtype="int", **binning[self.binning]) for name in integers),
            *(Feature(name, min_count=21) for name in CATEGORIES),
            Feature("label", "numeric", "label"),
        ]


def _random_split(random: RandomSplit, keys: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return random(keys)


def _repo_split(keys: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return authors_split(numbers - 1)


def _parse(block: Block, split: Callable[[np.ndarray, np.ndarray], np.ndarray], fill: bytes) -> Rows:
    columns, numbers, bad = split_lines(block, b"\t", len(COLUMNS))
    tokens = dict(zip(COLUMNS, columns, strict=True))
    if fill:
        tokens |= {name: tuple(token or fill for token in tokens[name]) for name in INTEGERS}
    keys = row_keys(block.index, numbers)
    return Rows(numbers, keys, split(keys, numbers), tokens, bad)
