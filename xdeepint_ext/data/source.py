"""What a loader hands to `prepare`: the columns' meaning, blocks of raw text, and what parses a block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xdeepint_ext.data.raw import Block
from xdeepint_ext.schema import Schema

__all__ = ["Rows", "Source", "option"]


@dataclasses.dataclass
class Rows:
    """A parsed block: for each record its number and split, and for each raw column its values as text.

    Args:
      numbers: int64, the records' numbers in the file.
      keys: uint64, identifies each record in the data set; see `splits.row_keys`.
      splits: uint8, index in `SPLITS`.
      columns: raw column -> one token a record; `b""` = missing. A token of several values holds its column's
        separator.
      bad: `(number, message)` for each record that could not be read; it is in none of the other fields.
      counters: what else happened, such as `{"videos without features": 3}`; summed up in the manifest's notes.
      extra: arrays with one entry a record that do not enter the records; see `Source.finish`.
    """

    numbers: np.ndarray
    keys: np.ndarray
    splits: np.ndarray
    columns: Mapping[str, Sequence[bytes]]
    bad: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    counters: dict[str, int] = dataclasses.field(default_factory=dict)
    extra: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Source:
    """A data set that `prepare` can stream.

    Args:
      schema: every feature; sizes, boundaries and moments still to be found.
      blocks: makes the iterator over the raw blocks; called once, in the parent process.
      parse: block -> rows. It goes to the workers, so it must be picklable.
      splits: the splits that must not be empty.
      size: about how many bytes the blocks hold, to decide whether worker processes are worth their start.
      separators: raw column -> what stands between its values.
      label_values: `binary` (0 and 1) or `any` finite number.
      selected: names of the features that the written schema keeps; None = all. The others' statistics are kept in the
        manifest's notes, under `all_features`.
      finish: called with the `extra` arrays of the test records, makes notes of them.
      notes: goes to the manifest's notes.
    """

    schema: Schema
    blocks: Callable[[], Iterable[Block]]
    parse: Callable[[Block], Rows]
    splits: tuple[str, ...]
    size: int
    separators: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    label_values: str = "binary"
    selected: tuple[str, ...] | None = None
    finish: Callable[[Mapping[str, np.ndarray]], dict[str, Any]] | None = None
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)


def option(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    """A dataclass field of a loader that is also a flag of `python -m xdeepint_ext.data.prepare`."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})
