"""Which id of yesterday's tables each id of today's is: by value, through the two directories' vocabularies."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xdeepint_ext.data.growth import EVICTED
from xdeepint_ext.data.manifest import DataError, Manifest, vocabulary_file
from xdeepint_ext.schema import Feature, Schema

__all__ = ["FRESH", "Meaning", "check_features", "id_maps"]

FRESH = -1
"""In a map: no id of yesterday's."""
# What may differ from one day to the next without another meaning or shape of anything but the tables.
OF_A_DAY = {"num_values", "capacity", "required", "min_count"}


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a directory's ids and floats mean.

    Args:
      directory: its name, for messages.
      manifest: of it.
      schema: the features that a model has.
      vocabulary_dir: where its vocabularies are.
    """

    directory: str
    manifest: Manifest
    schema: Schema
    vocabulary_dir: str

    def lines(self, table: str) -> list[bytes]:
        """The values of a table's vocabulary."""
        with open(vocabulary_file(self.vocabulary_dir, table), "rb") as stream:
            return stream.read().split(b"\n")[:-1]

    def evicted(self, table: str) -> int:
        """How many values have left the table's vocabulary since the first day."""
        found: dict[str, int] = self.manifest.notes.get("growth", {}).get(EVICTED, {})
        return found.get(table, 0)


def check_features(old: Meaning, new: Meaning) -> None:
    """Checks that both have the same features, whose tables alone may have grown.

    Raises:
      DataError: one is there in one of them only, or has another width, kind, binning ...; names it and both values.
    """
    features = [{feature.name: feature for feature in meaning.schema} for meaning in (old, new)]
    if list(features[0]) != list(features[1]):
        there, here = (sorted(set(a) - set(b)) for a, b in (features, features[::-1]))
        differ = f"only there: {there}; only here: {here}" if there or here else "they stand in another order"
        raise DataError(f"warm_start: the features of {old.directory} are not those of {new.directory}: {differ}")
    for name, feature in features[1].items():
        before = features[0][name]
        for field in dataclasses.fields(Feature):
            values = getattr(before, field.name), getattr(feature, field.name)
            grows = field.name in OF_A_DAY and not (field.name == "num_values" and feature.lookup == "hash")
            if values[0] != values[1] and not grows:
                raise DataError(
                    f"warm_start: feature {name!r} has {field.name}={_short(values[0])} in {old.directory}, and "
                    f"{_short(values[1])} in {new.directory}; prepare the day with --vocabulary_from and --grow"
                )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def id_maps(old: Meaning, new: Meaning) -> dict[str, np.ndarray]:
    """Table -> (its rows today,) the id of yesterday's table with the same value, or `FRESH`.

    Padding, out-of-vocabulary buckets, the missing bucket, and rows that wait for values on both days are their own.

    Args:
      old: yesterday's.
      new: today's; see `check_features`.

    Raises:
      DataError: a table has shrunk: it lacks values that were not evicted.
    """
    found: dict[str, np.ndarray] = {}
    for feature in new.schema.inputs:
        if feature.is_ids and feature.table_name not in found:
            before = next(f for f in old.schema.inputs if f.name == feature.name)
            found[feature.table_name] = _id_map(before, feature, old, new)
    return found


def _id_map(before: Feature, feature: Feature, old: Meaning, new: Meaning) -> np.ndarray:
    found = np.full(feature.num_ids, FRESH, np.int64)
    first = 1 + feature.num_oov
    found[:first] = np.arange(first)
    ends = [f.num_ids - (f.missing == "bucket") for f in (before, feature)]  # of the values and what waits for some
    pairs = zip((before, feature), ends, strict=True)
    values = [first + (end - first if f.num_values is None else f.num_values) for f, end in pairs]
    if feature.uses_vocabulary:
        places = _places(feature.table_name, old, new)
        found[first : values[1]] = np.where(places >= 0, first + places, FRESH)
    elif values[1] < values[0]:
        raise DataError(
            f"warm_start: table {feature.table_name!r} has shrunk: it had ids below {before.num_values} in "
            f"{old.directory}, and has ids below {feature.num_values} in {new.directory}"
        )
    else:
        found[first : values[0]] = np.arange(first, values[0])
    waiting = slice(max(values), min(ends))
    found[waiting] = np.arange(len(found))[waiting]
    if feature.missing == "bucket":
        found[-1] = before.num_ids - 1
    return found


def _places(table: str, old: Meaning, new: Meaning) -> np.ndarray:
    """For each value of today's vocabulary its place in yesterday's, -1 = none."""
    of_old = {line: place for place, line in enumerate(old.lines(table))}
    places = np.array([of_old.get(line, -1) for line in new.lines(table)], np.int64)
    lost = len(of_old) - int(np.count_nonzero(places >= 0))
    evicted = new.evicted(table) - old.evicted(table)
    if lost > evicted:
        raise DataError(
            f"warm_start: table {table!r} has shrunk: {lost} of the {len(of_old)} values of {old.directory} are "
            f"not in {new.directory}, of which {max(evicted, 0)} were evicted; prepare the day with "
            "--vocabulary_from and --grow"
        )
    return places
