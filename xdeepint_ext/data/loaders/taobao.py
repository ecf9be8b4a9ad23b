"""Taobao UserBehavior (Tianchi data set 649): page views, favourites, carts and purchases; split by day."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from xdeepint_ext.data.days import LAST_SECOND, DaySplit, clock_columns, days_of, next_days
from xdeepint_ext.data.lists.interactions import History, Interactions
from xdeepint_ext.data.loaders.logs import Index, LogBlock, numbers_of, read_log
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
        path = _file(raw_dir)
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

    def interactions(self, raw_dir: str | os.PathLike[str], max_bad_rows: int = 0) -> Interactions:
        """The log for `write_lists`, its events `pv`, `fav`, `cart`, `buy`.

        Items are known by the log alone: one may be drawn from the day after its first one on, and its category is the
        one of that day. The histories `viewed_items` and `bought_items` share the table of `item_id`.

        Args:
          raw_dir: where `UserBehavior.csv` is.
          max_bad_rows: so many unreadable rows are left out and counted.

        Raises:
          DataError: more rows cannot be read; names file and row.
        """
        users, items = Index(), Index()
        categories: dict[bytes, bytes] = {}
        first: dict[bytes, int] = {}

        def parse(block: Block) -> LogBlock:
            tokens, days, times, _, bad, counters = _rows(block, (self.first_day, self.last_day))
            for item, category, day in zip(tokens["item_id"], tokens["category_id"], days.tolist(), strict=True):
                if day < first.get(item, 99_999_999):
                    first[item], categories[item] = day, category
            events = {name: np.array(tokens["behaviour"], "S4") == name.encode() for name in BEHAVIOURS}
            events = {name: happened.astype(np.uint8) for name, happened in events.items()}
            return LogBlock(tokens["user_id"], tokens["item_id"], days, times, events, bad, counters)

        file = TextFile(_file(raw_dir))
        log, notes = read_log(read_blocks((file,)), parse, users, items, max_bad_rows)
        notes = {name: n for name, n in notes.items() if not name.endswith("_without_features")}
        return Interactions(
            log,
            users.entities("user_id"),
            dataclasses.replace(
                items.entities("item_id", category_id=[categories[key] for key in items.keys]),
                first_day=next_days(np.array([first[key] for key in items.keys])),
            ),
            (History("viewed_items", "pv"), History("bought_items", "buy")),
            notes=notes,
        )


def _file(raw_dir: str | os.PathLike[str] | None) -> str:
    """The file, or a part of it under a name of its own, such as `UserBehavior_first815users.csv`."""
    names = sorted(os.listdir(raw_dir)) if raw_dir is not None and os.path.isdir(raw_dir) else []
    parts = [name for name in names if name.startswith("UserBehavior") and name.endswith((".csv", ".csv.gz"))]
    return find_file(raw_dir, "UserBehavior.csv", *parts)


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
    tokens, found, times, numbers, bad, counters = _rows(block, days)
    tokens |= clock_columns(times)
    behaviours = tokens.pop("behaviour")
    for label in labels:
        tokens[label] = tuple(b"1" if behaviour == label.encode() else b"0" for behaviour in behaviours)
    return Rows(numbers, row_keys(block.index, numbers), split(found), tokens, bad, counters)


def _rows(
    block: Block, days: tuple[int, int]
) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, list[tuple[int, str]], dict[str, int]]:
    """Columns of text, days, times and numbers of the records inside of the days; unreadable ones; counts."""
    columns, numbers, bad = split_lines(block, b",", len(COLUMNS))
    times, known = numbers_of(columns[4], LAST_SECOND), np.isin(columns[3], _BEHAVIOURS).astype(bool)
    for i in np.flatnonzero((times < 0) | ~known).tolist():
        bad.append((int(numbers[i]), _complaint(columns[3][i], columns[4][i], known[i])))
    found = days_of(np.maximum(times, 0))
    fits = (times >= 0) & known
    inside = fits & (found >= days[0]) & (found <= days[1])
    kept = np.flatnonzero(inside)
    tokens = {name: tuple(values[i] for i in kept.tolist()) for name, values in zip(COLUMNS[:4], columns, strict=False)}
    outside = int(fits.sum() - inside.sum())
    counters = {"records_outside_of_days": outside} if outside else {}
    return tokens, found[kept], times[kept], numbers[kept], bad, counters


def _complaint(behaviour: bytes, time: bytes, known: bool) -> str:
    if not known:
        return f"column 'behaviour': expected one of {BEHAVIOURS}, got {behaviour.decode('utf-8', 'replace')!r}"
    return f"column 'timestamp': expected seconds, got {time.decode('utf-8', 'replace')!r}"
