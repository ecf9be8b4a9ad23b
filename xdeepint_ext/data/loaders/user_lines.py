"""Published sets of users with their items, one user a line: LightGCN's Gowalla, S3-Rec's Amazon Beauty and Sports."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np

from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks
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
from xdeepint_ext.data.splits import TEST, TRAIN, VALID, hash_rows, uniform

__all__ = ["AmazonBeauty", "AmazonSports", "Gowalla", "LastOut"]

MAX_LENGTH = 50


@dataclasses.dataclass(frozen=True)
class Gowalla:
    """Loader of `train.txt` and `test.txt` (plain or .gz) in the format of LightGCN and NGCF.

    A line is `user item item ...`; ids are whole numbers, the order of the items means nothing. The test part is the
    published one. There is no published validation part: `valid_fraction` of each user's training items are drawn for
    it by the seed, at least one stays; with 0 there is none, and all published training items are trained on, as they
    should be for the final figure. What a user has in the training part is the history of his records in the others
    (in the test part with the items of the validation part). Repeated items of a line are dropped and counted, a user
    whom the training file lacks has an empty history and is counted.

    Source: https://github.com/gusye1234/LightGCN-PyTorch, `data/gowalla`; the same format as its Yelp2018 and
    Amazon-Book.
    """

    valid_fraction: float = option(0.1, "share of each user's training items that are the validation part")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        if not 0 <= self.valid_fraction < 1:
            raise ValueError(f"valid_fraction must be >= 0 and below 1, got {self.valid_fraction}")
        paths = [find_file(raw_dir, name) for name in ("train.txt", "test.txt")]
        return Source(
            schema=schema_of_users("int", MAX_LENGTH, same_users=True),
            blocks=functools.partial(_lightgcn_blocks, paths, self.valid_fraction, seed),
            parse=rows_of_block,
            splits=("train", "valid", "test") if self.valid_fraction else ("train", "test"),
            size=sum(map(os.path.getsize, paths)),
            separators=SEPARATORS,
            notes=NOTES,
        )


@dataclasses.dataclass(frozen=True)
class LastOut:
    """Base of the loaders of S3-Rec's files: the last item of a user is his test item, the one before for validation.

    A line is `user item item ...` in the order of time. The training record of a user holds the rest. A user of fewer
    than three items is in the training part only, and counted.

    Source: https://github.com/RUCAIBox/CIKM2020-S3Rec, `data`; the protocol of SASRec (arXiv 1808.09781), §IV.
    """

    file = ""  # without a type, or it would be an option

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        path = find_file(raw_dir, self.file)
        return Source(
            schema=schema_of_users("int", MAX_LENGTH, same_users=True),
            blocks=functools.partial(_last_out_blocks, path),
            parse=rows_of_block,
            splits=("train", "valid", "test"),
            size=os.path.getsize(path),
            separators=SEPARATORS,
            notes=NOTES,
        )


class AmazonBeauty(LastOut):
    """Loader of `Beauty.txt`; see `LastOut`."""

    file = "Beauty.txt"


class AmazonSports(LastOut):
    """Loader of `Sports_and_Outdoors.txt`; see `LastOut`."""

    file = "Sports_and_Outdoors.txt"


def last_out(user: bytes, items: Sequence[bytes]) -> Iterator[Record]:
    """A user's records of all parts: the last item to be found in test, the one before it in validation."""
    if len(items) < 3:
        yield Record(TRAIN, user, items)
        return
    yield Record(TRAIN, user, items[:-2])
    yield Record(VALID, user, items[:-2], items[-2:-1])
    yield Record(TEST, user, items[:-1], items[-1:])


def _last_out_blocks(path: str) -> Iterator[Block]:
    users, bad, name = _read(path)
    short = sum(len(items) < 3 for items in users.values())
    yield bad_block(name, bad, {"users_of_training_only": short} if short else {})
    yield from blocks_of_records((record for user, items in users.items() for record in last_out(user, items)), name)


def _lightgcn_blocks(paths: Sequence[str], valid_fraction: float, seed: int) -> Iterator[Block]:
    (train, bad_train, train_name), (test, bad_test, test_name) = _read(paths[0]), _read(paths[1])
    counters = {
        "repeated_items": sum(len(items) - len(set(items)) for users in (train, test) for items in users.values())
    }
    counters["users_without_history"] = sum(user not in train for user in test)
    yield bad_block(train_name, bad_train, {name: count for name, count in counters.items() if count})
    yield bad_block(test_name, bad_test)
    yield from blocks_of_records(_lightgcn_records(train, test, valid_fraction, seed), train_name)


def _lightgcn_records(
    train: dict[bytes, list[bytes]], test: dict[bytes, list[bytes]], valid_fraction: float, seed: int
) -> Iterator[Record]:
    for number, (user, repeated) in enumerate(train.items()):
        items = list(dict.fromkeys(repeated))
        keys = np.uint64(number << 24) + np.arange(len(items), dtype=np.uint64)
        drawn = uniform(hash_rows(keys, seed, "valid")) < valid_fraction
        drawn[: int(drawn.all())] = False  # somebody of whom nothing is known cannot be trained
        known = [item for item, out in zip(items, drawn, strict=True) if not out]
        if known:
            yield Record(TRAIN, user, known)
        if drawn.any():
            yield Record(VALID, user, known, [item for item, out in zip(items, drawn, strict=True) if out])
        if user in test:
            yield Record(TEST, user, items, list(dict.fromkeys(test[user])))
    for user, items in test.items():
        if user not in train:
            yield Record(TEST, user, (), list(dict.fromkeys(items)))


def _read(path: str) -> tuple[dict[bytes, list[bytes]], list[tuple[int, str]], str]:
    """User -> items; what could not be read; the file's name."""
    users: dict[bytes, list[bytes]] = {}
    bad: list[tuple[int, str]] = []
    file = TextFile(path)
    for block in read_blocks((file,)):
        for number, line in enumerate(block.data.split(b"\n"), block.number):
            user, *items = line.split() or [b""]
            if not user:
                continue
            wrong = [token for token in (user, *items) if not token.isdigit()]
            if wrong:
                shown = wrong[0].decode("utf-8", "replace")
                bad.append((number, f"expected `user item item ...`, whole numbers; got {shown!r}"))
            elif user in users:
                bad.append((number, f"user {user.decode()} has a line already"))
            elif items:  # LightGCN's own files have users without items
                users[user] = items
    return users, bad, file.name
