"""Taobao UserBehavior (Tianchi data set 649): page views, favourites, carts and purchases; split by day."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from xdeepint_ext.data.days import DaySplit, clock_columns, days_of, unix_times
from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks, split_lines
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import row_keys
from xdeepint_ext.schema import Feature, Schema

__all__ = ["Taobao"]

COLUMNS = ("user_id", "item_id", "category_id", "behaviour", "timestamp")
BEHAVIOURS = ("pv", "fav", "cart", "buy")
"""From the least to the most important."""
_BEHAVIOURS = [name.encode() for name in BEHAVIOURS]


@dataclasses.dataclass(frozen=True)
class Taobao:
    """Loader of `UserBehavior.csv` (plain or .gz), of all users or of some of them.

    The file has no header line; its columns are user, item, the item's category, behaviour and Unix time
    (https://tianchi.aliyun.com/dataset/649): 100,150,807 events of 2017-11-25 to 12-03, days in China. The behaviours
    are `pv` (an item's page was opened), `fav`, `cart` and `buy`. There are no exposures without an event: a record is
    an event, and a label says whether it is of that behaviour, so that with all four exactly one is 1. Graded lists of
    a user's day are what `data.lists` makes of it.

    Features: `user_id` (also the group), `item_id` (also the item's id), `category_id`; context: the hour and the day
    of the week (1 = Monday). A few events lie outside of the nine days, the clocks of phones being wrong: they are left
    out, and the manifest notes how many (`records_outside_of_days`). `min_count` is 5 unless it is given (our choice).
    The split is our reading: last day test, the one before it validation.
    """

    labels: str = option("buy", "comma-separated labels; several are several tasks")
    first_day: int = option(20171125, "earlier events are left out and counted")
    last_day: int = option(20171203, "later events are left out and counted")
    train_until: int = option(20171201, "last day of the training split")
    valid_until: int = option(20171202, "last day of the validation split; what follows is the test split")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        labels = tuple(self.labels.split(","))
        if unknown := [label for label in labels if label not in BEHAVIOURS]:
            raise ValueError(f"labels must be among {BEHAVIOURS}, got {unknown[0]!r}")
        path = find_file(raw_dir, "UserBehavior.csv", *_cuts(raw_dir))
        return Source(
            schema=Schema(_features(labels)),
            blocks=functools.partial(read_blocks, (TextFile(path),)),
            parse=functools.partial(
                _parse,
                labels=labels,
                days=(self.first_day, self.last_day),
                split=DaySplit(self.train_until, self.valid_until),
            ),
            splits=("train", "valid", "test"),
            size=os.path.getsize(path) * (4 if path.endswith(".gz") else 1),
        )


def _cuts(raw_dir: str | None) -> list[str]:
    """Parts of the file under names of their own, such as `UserBehavior_first815users.csv`."""
    names = sorted(os.listdir(raw_dir)) if raw_dir is not None and os.path.isdir(raw_dir) else []
    return [name for name in names if name.startswith("UserBehavior") and name.endswith((".csv", ".csv.gz"))]


def _features(labels: tuple[str, ...]) -> list[Feature]:
    item: dict[str, Any] = {"role": "item", "dtype": "int", "min_count": 5}
    return [
        Feature("user_id", role=("user", "group"), dtype="int", min_count=5),
        Feature("item_id", **{**item, "role": ("item", "item_id")}),
        Feature("category_id", **item),
        *(Feature(name, role="context", min_count=5) for name in ("hour", "weekday")),
        *(Feature(label, "numeric", "label") for label in labels),
    ]


def _parse(block: Block, labels: tuple[str, ...], days: tuple[int, int], split: DaySplit) -> Rows:
    columns, numbers, bad = split_lines(block, b",", len(COLUMNS))
    times, known = unix_times(columns[4]), np.isin(columns[3], _BEHAVIOURS).astype(bool)
    for i in np.flatnonzero((times < 0) | ~known).tolist():
        bad.append((int(numbers[i]), _complaint(columns[3][i], columns[4][i], known[i])))
    found = days_of(np.maximum(times, 0))
    fits = (times >= 0) & known
    inside = fits & (found >= days[0]) & (found <= days[1])
    kept = np.flatnonzero(inside)
    columns = [tuple(values[i] for i in kept.tolist()) for values in columns]
    tokens = dict(zip(COLUMNS[:3], columns[:3], strict=True)) | clock_columns(times[kept])
    for label in labels:
        tokens[label] = tuple(b"1" if behaviour == label.encode() else b"0" for behaviour in columns[3])
    outside = int(fits.sum() - inside.sum())
    counters = {"records_outside_of_days": outside} if outside else {}
    keys = row_keys(block.index, numbers[kept])
    return Rows(numbers[kept], keys, split(found[kept]), tokens, bad, counters)


def _complaint(behaviour: bytes, time: bytes, known: bool) -> str:
    if not known:
        return f"column 'behaviour': expected one of {BEHAVIOURS}, got {behaviour.decode('utf-8', 'replace')!r}"
    return f"column 'timestamp': expected seconds, got {time.decode('utf-8', 'replace')!r}"
