"""Avazu click-through rate challenge (Kaggle 2015): ten days of mobile ads, comma-separated with a header line."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
from itertools import compress

from xdeepint_ext.data.loaders.headers import Layout, read_layout
from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import RandomSplit, authors_split, row_keys
from xdeepint_ext.schema import Feature, Schema

__all__ = ["Avazu"]

# The paper's 21 features in the file's order -> type of their values.
FEATURES = {
    "C1": "int",
    "banner_pos": "int",
    "site_id": "string",
    "site_domain": "string",
    "site_category": "string",
    "app_id": "string",
    "app_domain": "string",
    "app_category": "string",
    "device_id": "string",
    "device_ip": "string",
    "device_model": "string",
    "device_type": "int",
    "device_conn_type": "int",
    **{f"C{i}": "int" for i in range(14, 22)},
}
TIMES = ("weekday", "hour")
_HEADER_LINES = 1


@dataclasses.dataclass(frozen=True)
class Avazu:
    """Loader of `train.gz` or `train.csv` as Kaggle gives them out (also `train`, `train.csv.gz`).

    The format is that of the challenge's data page (kaggle.com/c/avazu-ctr-prediction/data): the columns id, click,
    hour (YYMMDDHH, UTC), C1, banner_pos, site_id, site_domain, site_category, app_id, app_domain, app_category,
    device_id, device_ip, device_model, device_type, device_conn_type, C14 .. C21; 40,428,967 records. They are found by
    the header line. The challenge's `test.gz` has no column `click`: nothing can be measured on it, and it is not read.

    Features: the 21 categorical ones of the paper (xDeepInt §4.1.1), all but `id` and `hour`. With `time_features`
    also `weekday` (0 = Monday) and `hour` (0 .. 23), which the authors' code makes and does not use. A missing value
    is an empty one; the hashes that stand for "unknown" in this data are values like others.

    Split: `random` is the paper's 70/10/20, drawn by the seed; `repo` is the authors' code: record i is for training
    if i % 1000 / 1000 <= 0.80, else for test, and there is no validation part. `min_count` is 20 unless it is given:
    the paper leaves out values seen less often. The authors' code keeps values seen more than 20 times
    (`min_count=21`).
    """

    time_features: bool = option(False, "add weekday and hour")
    split: str = option("random", "70/10/20 by the seed, or the authors' by position", ("random", "repo"))
    valid_fraction: float = option(0.1, "share of the validation split, for split=random")
    test_fraction: float = option(0.2, "share of the test split, for split=random")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        path = find_file(raw_dir, "train.csv", "train")
        file = TextFile(path, header=True)
        random = RandomSplit(self.valid_fraction, self.test_fraction, seed)
        wanted = ("click", *FEATURES, *(["hour"] if self.time_features else []))
        return Source(
            schema=Schema(self._features()),
            blocks=functools.partial(read_blocks, (file,)),
            parse=functools.partial(
                _parse, layout=read_layout(file, ",", wanted), random=random if self.split == "random" else None
            ),
            splits=random.splits if self.split == "random" else ("train", "test"),
            size=os.path.getsize(path) * (6 if path.endswith(".gz") else 1),
        )

    def _features(self) -> list[Feature]:
        types = FEATURES | (dict.fromkeys(TIMES, "int") if self.time_features else {})
        return [
            *(Feature(name, dtype=dtype, min_count=20) for name, dtype in types.items()),
            Feature("click", "numeric", "label"),
        ]


def _parse(block: Block, layout: Layout, random: RandomSplit | None) -> Rows:
    tokens, numbers, bad = layout.split(block)
    if "hour" in tokens:
        times = {token: _weekday_and_hour(token) for token in set(tokens["hour"])}
        fits = [times[token] is not None for token in tokens["hour"]]
        if not all(fits):
            for number, token, fit in zip(numbers.tolist(), tokens["hour"], fits, strict=True):
                if not fit:
                    shown = token.decode("utf-8", "replace")
                    bad.append((number, f"column 'hour': expected YYMMDDHH, got {shown!r}"))
            tokens, numbers = {name: tuple(compress(values, fits)) for name, values in tokens.items()}, numbers[fits]
        pairs = [times[token] or () for token in tokens["hour"]]
        tokens |= dict(zip(TIMES, zip(*pairs, strict=True), strict=True)) if pairs else dict.fromkeys(TIMES, ())
    keys = row_keys(block.index, numbers)
    splits = authors_split(numbers - 1 - _HEADER_LINES) if random is None else random(keys)
    return Rows(numbers, keys, splits, tokens, bad)


def _weekday_and_hour(token: bytes) -> tuple[bytes, bytes] | None:
    """`b"14102123"` -> Tuesday, 23 h; None where it is no time."""
    if len(token) != 8 or not token.isdigit():
        return None
    year, month, day, hour = (int(token[i : i + 2]) for i in (0, 2, 4, 6))
    try:
        time = datetime.datetime(2000 + year, month, day, hour)
    except ValueError:
        return None
    return b"%d" % time.weekday(), b"%d" % time.hour
