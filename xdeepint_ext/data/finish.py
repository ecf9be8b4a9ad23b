"""Fills in what only the data tell: vocabularies, bin boundaries, moments, which columns may be absent."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from xdeepint_ext.data.encoder import EncodedBlock, Needs, lacks_boundaries, lacks_moments
from xdeepint_ext.data.growth import Growth, grow, with_identities
from xdeepint_ext.data.manifest import VOCABULARY, DataError, vocabulary_file
from xdeepint_ext.data.statistics import NumericStatistics, quantile_boundaries
from xdeepint_ext.data.vocabulary import ValueCounter
from xdeepint_ext.schema import Feature, Schema

__all__ = ["Statistics"]


class Statistics:
    """Everything that is learned of the data while its blocks pass by.

    Args:
      schema: the features.
      scratch_dir: for counts that do not fit into memory.
      max_values: the most that a vocabulary holds; None = as many as there are.

    Attributes:
      left_out: table -> values that were frequent enough, and beyond max_values; known when the vocabularies are.
    """

    def __init__(self, schema: Schema, scratch_dir: str, max_values: int | None = None) -> None:
        self._schema = schema
        self._max_values = max_values
        self.left_out: dict[str, int] = {}
        self.needs = Needs.of(schema)
        self._values = ValueCounter(scratch_dir)
        self._numbers = NumericStatistics(self.needs.numbers)
        self._missing: Counter[str] = Counter()
        self._unwritable: Counter[str] = Counter()
        self._counters: Counter[str] = Counter()
        self._largest: dict[str, int] = {}
        self._labels: dict[str, dict[str, tuple[int, float]]] = {}

    def add(self, block: EncodedBlock) -> None:
        """Takes in one block; blocks must come in their order."""
        for table, counts in block.counts.items():
            self._values.add(table, counts)
        self._numbers.add(block.numbers, block.hashes)
        self._missing.update(block.missing)
        self._unwritable.update(block.unwritable)
        self._counters.update(block.counters)
        for name, largest in block.largest.items():
            self._largest[name] = max(largest, self._largest.get(name, -1))
        for split, labels in block.labels.items():
            held = self._labels.setdefault(split, {})
            for name, (count, total) in labels.items():
                before = held.get(name, (0, 0.0))
                held[name] = (before[0] + count, before[1] + total)

    def add_counts(self, table: str, counts: Mapping[bytes, int]) -> None:
        """Adds counts of values of a table, for blocks that were added without."""
        self._values.add(table, counts)

    def add_moments(self, count: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
        """Adds a block's moments, in the order of the blocks, for blocks that were added without numbers."""
        self._numbers.add_moments(count, mean, squares)

    def add_sample(self, values: np.ndarray, hashes: np.ndarray) -> None:
        """Adds rows to the sample that quantiles are of, for blocks that were added without numbers."""
        self._numbers.add_sample(values, hashes)

    def finish(self, vocabulary_dir: str, selected: Container[str] | None = None) -> Schema:
        """Writes the vocabularies and returns the finished schema.

        Args:
          vocabulary_dir: an empty directory.
          selected: the features that must be there; None = all. Others are left out where they have no value.

        Raises:
          DataError: a feature has no value that could be learned from.
        """
        sizes: dict[str, int] = {}
        features = []
        for feature in self._schema:
            try:
                features.append(self._finish_feature(feature, vocabulary_dir, sizes))
            except DataError:
                if selected is None or feature.name in selected:
                    raise
        return Schema(features)

    def finish_as(
        self, known: Schema, vocabulary_dir: str, known_dir: str, growth: Growth | None = None
    ) -> tuple[Schema, dict[str, Any]]:
        """Takes over the meaning that another directory's ids have.

        Args:
          known: the other directory's schema, with all its features.
          vocabulary_dir: an empty directory, which gets the vocabularies.
          known_dir: the other directory.
          growth: how its vocabularies grow; None = they stay as they are.

        Returns:
          The schema, and notes on what the growth did.

        Raises:
          DataError: the features are others.
        """
        own = {feature.name: (feature.kind, feature.raw_name, feature.dtype, feature.roles) for feature in self._schema}
        others = {feature.name: (feature.kind, feature.raw_name, feature.dtype, feature.roles) for feature in known}
        wrong = sorted(name for name in {*own, *others} if own.get(name) != others.get(name))
        if wrong:
            raise DataError(
                f"vocabulary_from: the features must be those of {known_dir}, but {wrong} differ; prepare "
                "both with the same options"
            )
        absent = {
            f.name: {"required": False}
            for f in known
            if f.kind not in ("multi", "sequence") and self._missing[f.raw_name]
        }
        known = known.replace(absent)
        if growth is None:
            shutil.copytree(os.path.join(known_dir, VOCABULARY), vocabulary_dir, dirs_exist_ok=True)
            return known, {}
        grown, notes = grow(known, known_dir, self._values, vocabulary_dir, growth, self._max_values)
        largest: dict[str, int] = {}
        for feature in known.inputs:
            if feature.is_ids:
                table = feature.table_name
                largest[table] = max(largest.get(table, -1), self._largest.get(feature.raw_name, -1))
        return with_identities(grown, largest, growth), {"growth": notes}

    def _finish_feature(self, feature: Feature, vocabulary_dir: str, sizes: dict[str, int]) -> Feature:
        changes: dict[str, Any] = {}
        if feature.kind not in ("multi", "sequence"):
            changes["required"] = self._missing[feature.raw_name] == 0
        if feature.uses_vocabulary:
            changes["num_values"] = self._vocabulary_size(feature, vocabulary_dir, sizes)
        elif feature.is_input and feature.is_ids and feature.lookup == "identity" and feature.num_values is None:
            changes["num_values"] = self._identity_size(feature)
        elif feature.is_input and (lacks_boundaries(feature) or lacks_moments(feature)):
            changes.update(self._numeric_changes(feature))
        return feature.replace(**changes)

    def _vocabulary_size(self, feature: Feature, vocabulary_dir: str, sizes: dict[str, int]) -> int:
        table = feature.table_name
        if table not in sizes:
            path = vocabulary_file(vocabulary_dir, table)
            sizes[table], left_out = self._values.write(table, path, feature.min_count, self._max_values)
            if left_out:
                self.left_out[table] = left_out
        if not sizes[table]:
            raise DataError(
                f"feature {feature.name!r}: no value occurs min_count={feature.min_count} times in the training split, "
                f"the most frequent one {self._values.most_frequent(table)} times; lower min_count or leave it out"
            )
        return sizes[table]

    def _identity_size(self, feature: Feature) -> int:
        sharing = [f.raw_name for f in self._schema.inputs if f.is_ids and f.table_name == feature.table_name]
        largest = max(self._largest.get(name, -1) for name in sharing)
        if largest < 0:
            raise DataError(f"feature {feature.name!r}: no id >= 0 in the data; give num_values")
        return largest + 1

    def _numeric_changes(self, feature: Feature) -> dict[str, Any]:
        count, mean, deviation = self._numbers.moments(feature.raw_name)
        if not count:
            raise DataError(f"feature {feature.name!r}: no training record has a value")
        if lacks_boundaries(feature):
            sample = self._numbers.sample(feature.raw_name)
            return {"boundaries": quantile_boundaries(sample, feature.num_bins or 1)}
        # A constant column scales to 0, whatever it is divided by.
        return {"mean": mean, "deviation": deviation or 1.0}

    def notes(self) -> dict[str, Any]:
        """For the manifest: the labels' means, and what could not enter a vocabulary."""
        means = {
            split: {name: total / count for name, (count, total) in labels.items() if count}
            for split, labels in self._labels.items()
        }
        notes: dict[str, Any] = {"label_mean": means, **self._counters}
        if self._unwritable:
            notes["values_with_newline"] = dict(self._unwritable)
        return notes
