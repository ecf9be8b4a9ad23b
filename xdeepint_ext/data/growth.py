"""A day's vocabularies made of those before: old values keep their places, new ones follow, stale ones leave."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np

from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest, vocabulary_file
from xdeepint_ext.data.vocabulary import ValueCounter
from xdeepint_ext.schema import Feature, Schema

__all__ = ["EVICTED", "Growth", "grow", "reserve_rows", "with_identities"]

EVICTED = "evicted"
"""In the manifest's note `growth`: table -> how many values have left its vocabulary since the first day."""
AGES = "ages"
"""Folder beside the vocabularies: for each value, in how many directories in a row no training record held it."""


@dataclasses.dataclass(frozen=True)
class Growth:
    """How a directory's vocabularies follow from another's.

    Args:
      reserve: room beyond a vocabulary, as a share of it, in tables whose `capacity` is too small or not given yet.
      evict_after: a value leaves when the training records of so many directories in a row, this one the last, do not
        hold it; None = never.
      evict: folder with a file of values for some tables, in the form of vocabularies; these leave at once where no
        training record holds them.

    Raises:
      ValueError: a number is out of range, or the folder is not there.
    """

    reserve: float = 0.0
    evict_after: int | None = None
    evict: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.reserve < math.inf:
            raise ValueError(f"reserve must be >= 0 and finite, got {self.reserve}")
        if self.evict_after is not None and self.evict_after < 1:
            raise ValueError(f"evict_after must be >= 1 (or None), got {self.evict_after}")
        if self.evict is not None and not os.path.isdir(self.evict):
            raise ValueError(f"evict: {self.evict} is no folder")

    def room(self, values: int, capacity: int | None) -> int | None:
        """The capacity of a table with so many values: the old one while it is enough."""
        if capacity is not None and capacity >= values:
            return capacity
        return math.ceil(values * (1 + self.reserve)) if self.reserve else None if capacity is None else values


def reserve_rows(schema: Schema, growth: Growth) -> Schema:
    """The schema whose tables with a vocabulary, or with identity values, have room to grow."""
    changes: dict[str, dict[str, Any]] = {}
    for feature in schema.inputs:
        if feature.num_values is not None and (feature.uses_vocabulary or _is_identity(feature)):
            changes[feature.name] = {"capacity": growth.room(feature.num_values, feature.capacity)}
    return schema.replace(changes)


def grow(
    known: Schema,
    known_dir: str,
    values: ValueCounter,
    vocabulary_dir: str,
    growth: Growth,
    max_values: int | None = None,
) -> tuple[Schema, dict[str, Any]]:
    """Writes vocabularies that go on from a directory's, and the ages of their values.

    A new value enters where the training records hold it `min_count` times. New values follow the old ones, the most
    frequent first.

    Args:
      known: the other directory's schema, with all its features.
      known_dir: the other directory.
      values: counts of the training records.
      vocabulary_dir: an existing folder, which gets the vocabularies.
      growth: the rules.
      max_values: the most that a vocabulary grows to; more old values than that stay nevertheless.

    Returns:
      The schema; and notes for the manifest: `new` and `evicted` (the latter since the first day), table -> values,
      and `beyond_capacity`, the tables that grew a new shape.

    Raises:
      DataError: a vocabulary is not there, or has another length than the schema says.
    """
    manifest = Manifest.load(known_dir)
    notes: dict[str, Any] = {
        "new": {},
        EVICTED: dict(manifest.notes.get("growth", {}).get(EVICTED, {})),
        "beyond_capacity": [],
    }
    os.makedirs(os.path.join(vocabulary_dir, AGES), exist_ok=True)
    sizes: dict[str, int] = {}
    for feature in known.inputs:
        table = feature.table_name
        if feature.uses_vocabulary and table not in sizes:
            old = _Old.read(known_dir, feature)
            kept, ages, new = _turned_over(old, feature, values, growth, max_values)
            with open(vocabulary_file(vocabulary_dir, table), "wb") as stream:
                stream.writelines(line + b"\n" for line in (*kept, *new))
            np.save(_ages_file(vocabulary_dir, table), np.concatenate([ages, np.zeros(len(new), ages.dtype)]))
            sizes[table] = len(kept) + len(new)
            notes["new"][table] = len(new)
            notes[EVICTED][table] = notes[EVICTED].get(table, 0) + len(old.lines) - len(kept)
            if sizes[table] > (len(old.lines) if feature.capacity is None else feature.capacity):
                notes["beyond_capacity"].append(table)
    changes: dict[str, dict[str, Any]] = {}
    for feature in known.inputs:
        if feature.uses_vocabulary:
            size = sizes[feature.table_name]
            changes[feature.name] = {"num_values": size, "capacity": growth.room(size, feature.capacity)}
    return known.replace(changes), notes


def with_identities(known: Schema, largest: dict[str, int], growth: Growth) -> Schema:
    """The schema whose identity tables have the ids that the day's records hold, too.

    Args:
      known: the schema.
      largest: table -> largest id of the records, -1 = none.
      growth: the rules.
    """
    changes: dict[str, dict[str, Any]] = {}
    for feature in known.inputs:
        if _is_identity(feature) and feature.num_values is not None:
            size = max(feature.num_values, largest.get(feature.table_name, -1) + 1)
            changes[feature.name] = {"num_values": size, "capacity": growth.room(size, feature.capacity)}
    return known.replace(changes)


@dataclasses.dataclass(frozen=True)
class _Old:
    """A vocabulary, and the ages of its values."""

    lines: list[bytes]
    ages: np.ndarray

    @classmethod
    def read(cls, directory: str, feature: Feature) -> _Old:
        folder = os.path.join(directory, VOCABULARY)
        path = vocabulary_file(folder, feature.table_name)
        if not os.path.exists(path):
            raise DataError(f"vocabulary_from: feature {feature.name!r} has no vocabulary file {path}")
        with open(path, "rb") as stream:
            lines = stream.read().split(b"\n")[:-1]
        if len(lines) != feature.num_values:
            raise DataError(
                f"vocabulary_from: {path} has {len(lines)} values, but the schema of {directory} says "
                f"{feature.num_values} for feature {feature.name!r}"
            )
        ages = _ages_file(folder, feature.table_name)
        return cls(lines, np.load(ages) if os.path.exists(ages) else np.zeros(len(lines), np.int32))


def _turned_over(
    old: _Old, feature: Feature, values: ValueCounter, growth: Growth, max_values: int | None
) -> tuple[list[bytes], np.ndarray, list[bytes]]:
    """(old values that stay, their ages, new values)."""
    table = feature.table_name
    counts = dict(values.ordered(table, 1))
    here = np.array([line in counts for line in old.lines], bool)
    ages = np.where(here, 0, old.ages + 1).astype(np.int32)
    unwanted = set(_listed(growth, table))
    leaves = np.array([line in unwanted for line in old.lines], bool) & ~here
    if growth.evict_after is not None:
        leaves |= ages >= growth.evict_after
    kept = [line for line, gone in zip(old.lines, leaves.tolist(), strict=True) if not gone]
    known = set(kept)
    new = [value for value, count in counts.items() if count >= feature.min_count and value not in known]
    if max_values is not None:
        new = new[: max(max_values - len(kept), 0)]
    return kept, ages[~leaves], new


def _listed(growth: Growth, table: str) -> Iterator[bytes]:
    path = "" if growth.evict is None else vocabulary_file(growth.evict, table)
    if os.path.exists(path):
        with open(path, "rb") as stream:
            yield from stream.read().split(b"\n")[:-1]


def _ages_file(vocabulary_dir: str, table: str) -> str:
    return os.path.join(vocabulary_dir, AGES, quote(table, safe="") + ".npy")


def _is_identity(feature: Feature) -> bool:
    return feature.is_input and feature.is_ids and feature.binning is None and feature.lookup == "identity"
