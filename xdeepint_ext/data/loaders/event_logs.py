"""Logs of events as sequences of users, as ComiRec prepares them: Amazon Books, Taobao's page views, MovieLens."""

from __future__ import annotations

import abc
import dataclasses
import functools
import json
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from xdeepint_ext.data.loaders.logs import Index, numbers_of
from xdeepint_ext.data.loaders.user_lines import last_out
from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks, split_lines
from xdeepint_ext.data.sequences.records import (
    NOTES,
    SEPARATORS,
    Record,
    bad_block,
    blocks_of_records,
    rows_of_block,
    schema_of_users,
)
from xdeepint_ext.data.source import Source, option
from xdeepint_ext.data.splits import TRAIN, RandomSplit

__all__ = ["AmazonBooks", "EventLog", "MovieLensSequences", "TaobaoViews"]

KNOWN_SHARE = (4, 5)
"""Of a user who is tested, the first four fifths of his events are the history."""


class Events(NamedTuple):
    """Events of a block: tokens of users and items, times (below 0 where unreadable), and the lines' numbers."""

    users: list[bytes]
    items: list[bytes]
    times: np.ndarray
    numbers: np.ndarray
    bad: list[tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class EventLog(abc.ABC):
    """Base of the loaders of logs: items of at least `min_events` events, then users of as many events of these.

    It is ComiRec's filter, of one pass: the items are not counted again without the users that fell out. Events of a
    user are ordered by time, those of one moment as in the file. `split=users` is ComiRec's: users are drawn for
    training, validation and test by the seed (its 8:1:1), and of those of the latter two the first floor(4/5 n) events
    are the history, the later items the targets. `split=last`: the last item of every user is the test part, the one
    before it the validation part.

    The whole log is held in memory: about 40 bytes an event while it is ordered, besides the distinct ids.

    Source: https://github.com/THUDM/ComiRec, `preprocess/data.py`; CROLoss (arXiv 2208.02971), §4.1.
    """

    min_events: int = option(5, "items, then users, of fewer events are left out; ComiRec: 5")
    split: str = option("users", "parts have other users (ComiRec), or the last items of the same", ("users", "last"))
    valid_fraction: float = option(0.1, "share of the users of the validation part, for split=users")
    test_fraction: float = option(0.1, "share of the users of the test part, for split=users")

    # Without types, or they would be options.
    names = ("",)
    header = False
    dtype = "int"
    max_length = 50

    @abc.abstractmethod
    def events(self, block: Block) -> Events:
        """The events of a block of the raw file."""

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        if self.min_events < 1:
            raise ValueError(f"min_events must be >= 1, got {self.min_events}")
        shares = RandomSplit(self.valid_fraction, self.test_fraction, seed)
        path = self.find(raw_dir)
        by_users = self.split == "users"
        return Source(
            schema=schema_of_users(self.dtype, self.max_length, same_users=not by_users),
            blocks=functools.partial(self._blocks, TextFile(path, header=self.header), shares),
            parse=rows_of_block,
            splits=shares.splits if by_users else ("train", "valid", "test"),
            size=os.path.getsize(path) * (4 if path.endswith(".gz") else 1),
            separators=SEPARATORS,
            notes=NOTES,
        )

    def find(self, raw_dir: str | None) -> str:
        """Path of the raw file."""
        return find_file(raw_dir, *self.names)

    def _blocks(self, file: TextFile, shares: RandomSplit) -> Iterator[Block]:
        users, items = Index(), Index()
        columns: list[tuple[np.ndarray, ...]] = []
        for block in read_blocks((file,)):
            found = self.events(block)
            fits = np.flatnonzero(found.times >= 0).tolist()
            keys = ([found.users[i] for i in fits], [found.items[i] for i in fits])
            columns.append((users(keys[0]), items(keys[1]), found.times[fits]))
            if found.bad:
                yield bad_block(file.name, found.bad)
        users_of, items_of, times = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        kept, counters = filtered(users_of, items_of, self.min_events)
        order = kept[np.lexsort((times[kept], users_of[kept]))]
        yield bad_block(file.name, (), counters)
        records = self._records(users_of[order], items_of[order], users.keys, items.keys, shares)
        yield from blocks_of_records(records, file.name)

    def _records(
        self, users: np.ndarray, items: np.ndarray, user_keys: list[bytes], item_keys: list[bytes], shares: RandomSplit
    ) -> Iterator[Record]:
        starts = np.flatnonzero(np.diff(users, prepend=-1))
        splits = shares(users[starts].astype(np.uint64))
        for start, end, part in zip(starts, np.append(starts[1:], len(users)), splits.tolist(), strict=True):
            user = user_keys[users[start]]
            found = [item_keys[i] for i in items[start:end]]
            if self.split == "last":
                yield from last_out(user, found)
            elif part == TRAIN:
                yield Record(TRAIN, user, found)
            else:
                known = len(found) * KNOWN_SHARE[0] // KNOWN_SHARE[1]
                yield Record(part, user, found[:known], list(dict.fromkeys(found[known:])))


@dataclasses.dataclass(frozen=True)
class AmazonBooks(EventLog):
    """Loader of `reviews_Books_5.json` (plain or .gz), a review a line; see `EventLog`. History: 20, the paper's.

    Used are `reviewerID`, `asin` and `unixReviewTime`.

    Source: McAuley's Amazon reviews of 2014, 5-core.
    """

    names = ("reviews_Books_5.json",)
    dtype = "string"
    max_length = 20

    def events(self, block: Block) -> Events:
        users, items, times, numbers = [], [], [], []
        bad: list[tuple[int, str]] = []
        for number, line in enumerate(block.data.split(b"\n"), block.number):
            if not line.strip():
                continue
            try:
                review = json.loads(line)
                user, item, time = (review[name] for name in ("reviewerID", "asin", "unixReviewTime"))
                if not (isinstance(user, str) and isinstance(item, str) and user and item):
                    raise ValueError("reviewerID and asin must be texts")
                if b" " in item.encode() or not isinstance(time, int) or time < 0:
                    raise ValueError(f"asin {item!r} at unixReviewTime {time!r}")
            except (ValueError, KeyError, TypeError) as error:
                bad.append((number, f"expected a review with reviewerID, asin and unixReviewTime: {error!r}"))
                continue
            users.append(user.encode())
            items.append(item.encode())
            times.append(time)
            numbers.append(number)
        return Events(users, items, np.array(times, np.int64), np.array(numbers), bad)


@dataclasses.dataclass(frozen=True)
class TaobaoViews(EventLog):
    """Loader of the page views (`pv`) of `UserBehavior.csv`, or a part of it; see `EventLog` and `Taobao`.

    All times count, as ComiRec's. History: 50, the paper's.
    """

    names = ("UserBehavior.csv",)

    def find(self, raw_dir: str | None) -> str:
        there = sorted(os.listdir(raw_dir)) if raw_dir is not None and os.path.isdir(raw_dir) else []
        parts = [name for name in there if name.startswith("UserBehavior") and name.endswith((".csv", ".csv.gz"))]
        return find_file(raw_dir, *self.names, *parts)

    def events(self, block: Block) -> Events:
        columns, numbers, bad = split_lines(block, b",", 5)
        views = np.flatnonzero(np.array(columns[3], "S4") == b"pv").tolist()
        users, items, times = ([columns[place][i] for i in views] for place in (0, 1, 4))
        return _checked(Events(users, items, numbers_of(times), numbers[views], bad))


@dataclasses.dataclass(frozen=True)
class MovieLensSequences(EventLog):
    """Loader of MovieLens's `ratings.csv`: every rating is an event, whatever its value; see `EventLog`."""

    names = ("ratings.csv",)
    header = True

    def events(self, block: Block) -> Events:
        columns, numbers, bad = split_lines(block, b",", 4)
        return _checked(Events(list(columns[0]), list(columns[1]), numbers_of(columns[3]), numbers, bad))


def filtered(users: np.ndarray, items: np.ndarray, least: int) -> tuple[np.ndarray, dict[str, int]]:
    """Which events stay, and counts of what does not; see `EventLog`."""
    often = np.bincount(items)[items] >= least
    kept = often & (np.bincount(users[often], minlength=users.max(initial=-1) + 1)[users] >= least)
    left_out = {
        "events_of_rare_items": int((~often).sum()),
        "events_of_rare_users": int((often & ~kept).sum()),
    }
    return np.flatnonzero(kept), {name: count for name, count in left_out.items() if count}


def _checked(events: Events) -> Events:
    """The events, and a message for each whose user, item or time is no whole number."""
    whole = np.array([u.isdigit() and i.isdigit() for u, i in zip(events.users, events.items, strict=True)], bool)
    times = np.where(whole, events.times, -1)
    for i in np.flatnonzero(times < 0).tolist():
        shown = b",".join((events.users[i], events.items[i])).decode("utf-8", "replace")
        events.bad.append((int(events.numbers[i]), f"user, item and time must be whole numbers >= 0, got {shown!r}"))
    return events._replace(times=times)
