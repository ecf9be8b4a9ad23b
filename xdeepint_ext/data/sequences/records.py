"""What loaders of users with their items hand to `prepare`: one record a user, his items and the ones to be found.

A record has the columns `user`, `items` (all items that are known of the user, oldest first where there is an order)
and `targets` (those that a recommendation should find; none in the training part). The schema names them

    user     categorical, role user and group: the user's id; without the role user where the parts have other users
    items    sequence, role user, table `item`: the history
    item     multi of one, role item, table `item`, source `targets`: the item side of a two-tower model

so that any two-tower model here can be built from it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.data.raw import Block
from xdeepint_ext.data.source import Rows
from xdeepint_ext.data.splits import row_keys
from xdeepint_ext.schema import Feature, Schema

__all__ = [
    "NOTES",
    "SEPARATORS",
    "Record",
    "UserBlock",
    "are_users",
    "blocks_of_records",
    "rows_of_block",
    "schema_of_users",
]

NOTES = {"records": "users"}
"""Of the `Source`: what its records are."""
SEPARATORS = {"items": b" ", "targets": b" "}
_RECORDS = 2048


@dataclasses.dataclass(frozen=True)
class Record:
    """A record of a user.

    Args:
      split: index in `SPLITS`.
      user: his id.
      items: what is known of him.
      targets: what is to be found, without repetitions.
    """

    split: int
    user: bytes
    items: Sequence[bytes]
    targets: Sequence[bytes] = ()


@dataclasses.dataclass(frozen=True)
class UserBlock(Block):
    """A block of records that are ready, of a loader that had to see all of the raw files before the first one.

    Args:
      records: of users; `number` counts them.
      bad: (number in the raw file, message) of what could not be read.
      counters: see `Rows`.
    """

    records: tuple[Record, ...] = ()
    bad: tuple[tuple[int, str], ...] = ()
    counters: tuple[tuple[str, int], ...] = ()


def blocks_of_records(records: Iterable[Record], file: str) -> Iterator[UserBlock]:
    """Records in blocks of a few thousand.

    Args:
      records: in the order in which they are to be written.
      file: name for messages.
    """
    number = 1
    iterator = iter(records)
    while chunk := tuple(itertools.islice(iterator, _RECORDS)):
        yield UserBlock(file, number, len(chunk), records=chunk)
        number += len(chunk)


def bad_block(file: str, bad: Sequence[tuple[int, str]], counters: dict[str, int] | None = None) -> UserBlock:
    """A block without a record, that says what could not be read, or was left out."""
    return UserBlock(file, 1, 0, bad=tuple(bad), counters=tuple((counters or {}).items()))


def rows_of_block(block: Block) -> Rows:
    """The `parse` of a `Source` whose blocks are of this kind."""
    assert isinstance(block, UserBlock)
    numbers = np.arange(block.number, block.number + len(block.records))
    columns = {
        "user": tuple(record.user for record in block.records),
        "items": tuple(b" ".join(record.items) for record in block.records),
        "targets": tuple(b" ".join(record.targets) for record in block.records),
    }
    splits = np.array([record.split for record in block.records], np.uint8)
    return Rows(numbers, row_keys(0, numbers), splits, columns, list(block.bad), dict(block.counters))


def are_users(manifest: Manifest) -> bool:
    """Whether the records of a directory are users."""
    return manifest.notes.get("records") == NOTES["records"]


def schema_of_users(dtype: str, max_length: int, same_users: bool) -> Schema:
    """The schema of such records; see the module's docstring.

    Args:
      dtype: of users and items, `int` or `string`.
      max_length: items of the history that a model sees, the last; the records hold all.
      same_users: whether the users of the parts are the same, so that an embedding of a user can be used.
    """
    return Schema(
        [
            Feature("user", role=("user", "group") if same_users else "group", dtype=dtype),
            Feature("items", "sequence", "user", table="item", max_length=max_length, dtype=dtype),
            Feature("item", "multi", "item", table="item", max_length=1, dtype=dtype, source="targets"),
        ]
    )
