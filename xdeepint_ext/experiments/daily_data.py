"""The prepared directory of each day, made of raw files or found, and views on them."""

from __future__ import annotations

import dataclasses
import itertools
import os
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xdeepint_ext.data.days import next_days
from xdeepint_ext.data.loaders import LOADERS
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.data.views import write_view

__all__ = ["DayData", "parse_days", "parse_prepare"]

DAY = "{day}"


def parse_days(texts: Sequence[str]) -> tuple[int, ...]:
    """Days, and ranges of them, as numbers.

    Raises:
      ValueError: one is no day or range, or they do not ascend.

    Example:
      >>> parse_days(["20220429-20220501", "20220503"])
      (20220429, 20220430, 20220501, 20220503)
    """
    found: list[int] = []
    for text in texts:
        first, _, last = text.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise ValueError(f"days must be YYYYMMDD or FIRST-LAST, ascending; got {text!r}")
        day = int(first)
        while day <= int(last or first):
            found.append(day)
            day = int(next_days(np.array([day]))[0]) if last else day + 1
    if any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"days must ascend, got {','.join(texts)}")
    return tuple(found)


def parse_prepare(dataset: str, texts: Sequence[str]) -> dict[str, Any]:
    """`min_count:2`, `history:true` ... -> arguments of `prepare` in their types.

    Args:
      dataset: whose options there are besides `prepare`'s.
      texts: `name:value`; `+` stands for a comma in a value.

    Raises:
      ValueError: there is no such argument, or the value is none of its type.
    """
    known: dict[str, Any] = {"min_count": int, "num_workers": int, "num_shards": int, "max_bad_rows": int, "seed": int}
    known |= {"max_values": int, "hash_buckets": str, "compression": str}
    hints = typing.get_type_hints(LOADERS[dataset])
    known |= {field.name: hints[field.name] for field in dataclasses.fields(LOADERS[dataset])}
    found: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition(":")
        if name not in known:
            raise ValueError(f"prepare: {name!r} is no argument for dataset {dataset!r}; there are {sorted(known)}")
        kind = known[name]
        words: dict[str, bool] = {"true": True, "false": False}
        try:
            found[name] = words[value] if kind is bool else kind(value.replace("+", ","))
        except (KeyError, ValueError):
            raise ValueError(f"prepare: {name} must be {kind.__name__}, got {value!r}") from None
    return found


@dataclasses.dataclass(frozen=True)
class DayData:
    """Where the days' records are.

    Args:
      output_dir: gets `data/DAY` and `views/NAME`.
      data_dir: prepared directories with `{day}` in place of the day; "" = they are made.
      dataset: of the raw files.
      raw_dir: where these are; `{day}` in it stands for the day where the loader has no days of its own.
      options: arguments of `prepare`.
      holdout: share of a day's records that are not trained on, of loaders with days of their own.
      reserve: see `prepare`.
      evict_after: see `prepare`.
    """

    output_dir: str
    data_dir: str = ""
    dataset: str = ""
    raw_dir: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    holdout: float = 0.1
    reserve: float = 0.0
    evict_after: int | None = None

    def __post_init__(self) -> None:
        if bool(self.data_dir) == bool(self.dataset):
            raise ValueError(
                f"give either --data_dir with {DAY} in it, or --dataset and --raw_dir; got {self.data_dir!r} and "
                f"{self.dataset!r}"
            )
        if self.data_dir and DAY not in self.data_dir:
            raise ValueError(f"data_dir: {DAY} must stand for the day, got {self.data_dir!r}")
        if self.dataset and not self._has_days() and DAY not in self.raw_dir:
            raise ValueError(
                f"raw_dir: the loader {self.dataset!r} has no option `day`, so {DAY} must stand for the day; got "
                f"{self.raw_dir!r}"
            )

    def directory(self, day: int) -> str:
        """Where a day's prepared directory is, or will be."""
        made = os.path.join(self.output_dir, "data", str(day))
        return self.data_dir.replace(DAY, str(day)) if self.data_dir else made

    def prepared(self, day: int, before: int | None, evict: str | None) -> str:
        """The day's prepared directory, made where it is not there yet.

        Args:
          day: which day.
          before: the day whose vocabularies go on; None = none.
          evict: folder of values that leave; see `prepare`.

        Raises:
          DataError: the day is empty, has no held-out records, or all its labels are equal.
        """
        directory = self.directory(day)
        if not self.data_dir and not os.path.isdir(directory):
            self._prepare(day, before, evict)
        manifest = Manifest.load(directory)
        for split in ("train", "valid"):
            if not manifest.has(split):
                raise DataError(f"day {day}: {directory} has no record in split {split!r}")
        for task, mean in manifest.notes.get("label_mean", {}).get("train", {}).items():
            if mean in (0.0, 1.0):
                raise DataError(f"day {day}: all labels {task!r} of {directory} are {mean:g}; leave the day out")
        return directory

    def view(self, name: str, ids_of: int, splits: Mapping[str, Sequence[tuple[int, str]]]) -> str:
        """A directory with days' records under one day's ids.

        Args:
          name: of the directory.
          ids_of: the day whose ids they get.
          splits: split -> (day, split of it), in order.
        """
        directory = os.path.join(self.output_dir, "views", name)
        found = {split: [(self.directory(day), of) for day, of in parts] for split, parts in splits.items()}
        write_view(directory, self.directory(ids_of), found)
        return directory

    def _has_days(self) -> bool:
        return any(field.name == "day" for field in dataclasses.fields(LOADERS[self.dataset]))

    def _prepare(self, day: int, before: int | None, evict: str | None) -> None:
        growth: dict[str, Any] = {"reserve": self.reserve}
        if before is not None:
            growth |= {"vocabulary_from": self.directory(before), "grow": True}
            growth |= {"evict_after": self.evict_after, "evict": evict}
        own = {"day": day, "holdout": self.holdout} if self._has_days() else {}
        try:
            prepare(
                self.dataset,
                output_dir=self.directory(day),
                raw_dir=self.raw_dir.replace(DAY, str(day)) or None,
                **{**growth, **own, **self.options},
            )
        except DataError as error:
            raise DataError(f"day {day}: {error}") from None
