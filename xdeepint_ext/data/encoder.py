"""One block of raw text -> framed records, counts of values, numeric values: what the worker processes do."""

from __future__ import annotations

import dataclasses
import gc
import gzip
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np

from xdeepint_ext.data.columns import Column
from xdeepint_ext.data.manifest import SPLITS
from xdeepint_ext.data.raw import Block
from xdeepint_ext.data.records import frame_examples
from xdeepint_ext.data.source import Rows
from xdeepint_ext.data.splits import TEST, TRAIN, hash_rows
from xdeepint_ext.data.vocabulary import writable
from xdeepint_ext.schema import Feature, Schema, SchemaError

__all__ = ["BlockEncoder", "EncodedBlock", "Needs", "lacks_boundaries", "lacks_moments"]

# What a token becomes is kept for the blocks to come, for at most about so many tokens of a column.
_CACHED_TOKENS = 20_000


def lacks_boundaries(feature: Feature) -> bool:
    """Whether the boundaries of its quantile bins are still to be found."""
    return feature.binning == "quantile" and not feature.boundaries


def lacks_moments(feature: Feature) -> bool:
    """Whether the mean or deviation that it is scaled with is still to be found."""
    scaled = feature.kind == "numeric" and not feature.is_ids and feature.scaling == "standard"
    return scaled and (feature.mean is None or feature.deviation is None)


@dataclasses.dataclass(frozen=True)
class Needs:
    """Which statistics the training records must give.

    Args:
      tables: raw column -> the tables whose vocabulary its values enter.
      numbers: raw columns whose mean, deviation or quantiles are wanted.
      identities: raw columns of ids whose number is to be found.
    """

    tables: dict[str, tuple[str, ...]]
    numbers: tuple[str, ...]
    identities: tuple[str, ...]

    @classmethod
    def of(cls, schema: Schema) -> Needs:
        """Reads them off a schema.

        Raises:
          SchemaError: a hashed feature does not say into how many buckets.
        """
        tables: dict[str, tuple[str, ...]] = {}
        numbers, identities = [], []
        for feature in schema.inputs:
            known = tables.get(feature.raw_name, ())
            if feature.uses_vocabulary and feature.table_name not in known:
                tables[feature.raw_name] = (*known, feature.table_name)
            if feature.is_ids and feature.lookup == "identity" and feature.num_values is None:
                identities.append(feature.raw_name)
            if feature.kind != "numeric" and feature.is_ids and feature.lookup == "hash" and feature.num_values is None:
                raise SchemaError(f"feature {feature.name!r}: lookup 'hash' needs num_values, the number of buckets")
            if lacks_boundaries(feature) or lacks_moments(feature):
                numbers.append(feature.raw_name)
        return cls(tables, tuple(dict.fromkeys(numbers)), tuple(dict.fromkeys(identities)))


@dataclasses.dataclass
class EncodedBlock:
    """What became of a block.

    Args:
      rows: records written.
      chunks: split, shard in turn, number of records, framed (and compressed) bytes.
      bad: messages of the records that could not be read.
      num_bad: their number.
      missing: raw column -> records without it.
      counts: table -> value -> how often it is in training records.
      unwritable: table -> how many training values a vocabulary file cannot hold.
      largest: raw column of identity ids -> largest id.
      numbers: (training records, numeric columns) float64.
      hashes: uint64 of the same records, for the sample.
      counters: see `Rows`.
      labels: split -> label -> (number of values, their sum).
      extra: the test records' extra arrays.
      done: share of the raw bytes read so far.
    """

    rows: int
    chunks: list[tuple[str, int, int, bytes]]
    bad: list[str]
    num_bad: int
    missing: dict[str, int]
    counts: dict[str, dict[bytes, int]]
    unwritable: dict[str, int]
    largest: dict[str, int]
    numbers: np.ndarray
    hashes: np.ndarray
    counters: dict[str, int]
    labels: dict[str, dict[str, tuple[int, float]]]
    extra: dict[str, np.ndarray]
    done: float


class BlockEncoder:
    """Parses and encodes blocks; picklable, and without state that changes a result.

    Args:
      parse: block -> rows.
      columns: the raw columns.
      labels: names of the label columns.
      weights: column of ids -> column of their weights.
      needs: the statistics wanted.
      seed: deals training records to shards, and draws the sample for quantiles.
      num_shards: training shards written at a time.
      compression: "" or "GZIP".
      max_messages: how many messages about bad records a block reports.
    """

    def __init__(
        self,
        parse: Callable[[Block], Rows],
        columns: Sequence[Column],
        labels: tuple[str, ...],
        weights: Mapping[str, str],
        needs: Needs,
        seed: int,
        num_shards: int,
        compression: str,
        max_messages: int = 10,
    ) -> None:
        self._parse, self._columns, self._labels = parse, list(columns), labels
        self._weights, self._needs = dict(weights), needs
        self._seed, self._num_shards, self._compression = seed, num_shards, compression
        self._max_messages = max_messages
        self._entries: dict[str, dict[bytes, bytes]] = {column.name: {} for column in columns}
        self._values: dict[str, dict[bytes, tuple[Any, ...]]] = {column.name: {} for column in columns}

    def __call__(self, block: Block) -> EncodedBlock:
        """Encodes one block."""
        # A block is hundreds of thousands of small objects without a cycle: the collector's passes over them would take
        # half of the time.
        collects = gc.isenabled()
        gc.disable()
        try:
            return self._encode(block)
        finally:
            if collects:
                gc.enable()

    def _encode(self, block: Block) -> EncodedBlock:
        rows = self._parse(block)
        bad = [(number, f"{block.file}, row {number}: {message}") for number, message in rows.bad]
        failed = self._failures(rows)
        bad += [(int(rows.numbers[i]), f"{block.file}, row {rows.numbers[i]}: {text}") for i, text in failed.items()]
        if failed:
            rows = _without(rows, failed)
        train = (rows.splits == TRAIN).tolist()
        counts, unwritable = self._count(rows, train)
        return EncodedBlock(
            rows=len(rows.numbers),
            chunks=self._chunks(rows),
            bad=[message for _, message in sorted(bad)[: self._max_messages]],
            num_bad=len(bad),
            missing={c.name: rows.columns[c.name].count(b"") for c in self._columns if b"" in rows.columns[c.name]},
            counts=counts,
            unwritable=unwritable,
            largest=self._largest(rows),
            numbers=self._numbers(rows, train),
            hashes=hash_rows(rows.keys[train], self._seed, "sample"),
            counters=rows.counters,
            labels=self._label_sums(rows),
            extra={name: values[rows.splits == TEST] for name, values in rows.extra.items()},
            done=block.done,
        )

    def _convert(self, column: Column, tokens: Sequence[bytes]) -> dict[bytes, str]:
        """Finds every token's entry and values; returns the tokens that have none, and why."""
        entries, values = self._entries[column.name], self._values[column.name]
        if len(entries) > _CACHED_TOKENS:
            entries.clear()
            values.clear()
        wrong = {}
        for token in set(tokens).difference(entries):
            try:
                entries[token], values[token] = column.convert(token)
            except ValueError as error:
                wrong[token] = str(error)
        return wrong

    def _failures(self, rows: Rows) -> dict[int, str]:
        """Position in the block -> what is wrong there."""
        failed: dict[int, str] = {}
        for column in self._columns:
            tokens = rows.columns[column.name]
            wrong = self._convert(column, tokens)
            for i in [i for i, token in enumerate(tokens) if token in wrong] if wrong else []:
                failed.setdefault(i, f"column {column.name!r}: {wrong[tokens[i]]}")
        for ids, weights in self._weights.items():
            numbers = [[len(self._values[name].get(t, ())) for t in rows.columns[name]] for name in (ids, weights)]
            for i in [i for i, (n, m) in enumerate(zip(*numbers, strict=True)) if n != m]:
                message = f"{numbers[0][i]} values but {numbers[1][i]} weights in column {weights!r}"
                failed.setdefault(i, f"column {ids!r}: {message}")
        if len(self._labels) > 1:
            labels = [rows.columns[name] for name in self._labels]
            for i in [i for i, tokens in enumerate(zip(*labels, strict=True)) if not any(tokens)]:
                failed.setdefault(i, f"all labels {list(self._labels)} are missing")
        return failed

    def _chunks(self, rows: Rows) -> list[tuple[str, int, int, bytes]]:
        pieces = [map(self._entries[c.name].__getitem__, rows.columns[c.name]) for c in self._columns]
        features = list(map(b"".join, zip(*pieces, strict=True)))
        lanes = (hash_rows(rows.keys, self._seed, "shard") % np.uint64(self._num_shards)).astype(np.int64)
        lanes[rows.splits != TRAIN] = 0
        chunks = []
        for split, lane in np.unique(np.stack([rows.splits.astype(np.int64), lanes], 1), axis=0).tolist():
            chosen = np.flatnonzero((rows.splits == split) & (lanes == lane)).tolist()
            data = frame_examples([features[i] for i in chosen])
            # Members of a gzip file may follow one another; so workers compress.
            data = gzip.compress(data, compresslevel=6, mtime=0) if self._compression else data
            chunks.append((SPLITS[split], lane, len(chosen), data))
        return chunks

    def _count(self, rows: Rows, train: list[bool]) -> tuple[dict[str, dict[bytes, int]], dict[str, int]]:
        """Counts of the training records' values by table, and how many values no vocabulary file can hold."""
        counts: dict[str, dict[bytes, int]] = {}
        unwritable: Counter[str] = Counter()
        for column in self._columns:
            tables = self._needs.tables.get(column.name, ())
            found = self._count_column(column, rows, train) if tables else {}
            lost = {} if writable(b"".join(found)) else {value: n for value, n in found.items() if not writable(value)}
            for value in lost:
                del found[value]
            for table in tables:
                unwritable[table] += sum(lost.values())
                if table not in counts:
                    counts[table] = dict(found)
                    continue
                held = counts[table]
                for value, times in found.items():
                    held[value] = held.get(value, 0) + times
        return counts, {table: n for table, n in unwritable.items() if n}

    def _count_column(self, column: Column, rows: Rows, train: list[bool]) -> dict[bytes, int]:
        tokens = Counter(compress(rows.columns[column.name], train))
        if column.plain:
            del tokens[b""]
            return tokens
        found: Counter[bytes] = Counter()
        for token, times in tokens.items():
            for value in self._values[column.name][token]:
                found[value if isinstance(value, bytes) else b"%d" % value] += times
        return found

    def _largest(self, rows: Rows) -> dict[str, int]:
        return {
            name: max((v for token in set(rows.columns[name]) for v in self._values[name][token]), default=-1)
            for name in self._needs.identities
        }

    def _numbers(self, rows: Rows, train: list[bool]) -> np.ndarray:
        result = np.full((sum(train), len(self._needs.numbers)), np.nan)
        for i, name in enumerate(self._needs.numbers):
            tokens = list(compress(rows.columns[name], train))
            values = {token: (self._values[name][token] or (np.nan,))[0] for token in set(tokens)}
            result[:, i] = list(map(values.__getitem__, tokens))
        return result

    def _label_sums(self, rows: Rows) -> dict[str, dict[str, tuple[int, float]]]:
        sums: dict[str, dict[str, tuple[int, float]]] = {}
        for split in np.unique(rows.splits).tolist():
            inside = (rows.splits == split).tolist()
            for name in self._labels:
                tokens = Counter(compress(rows.columns[name], inside))
                values = [(times, self._values[name][token]) for token, times in tokens.items() if token]
                total = (sum(n for n, _ in values), float(sum(n * v[0] for n, v in values)))
                sums.setdefault(SPLITS[split], {})[name] = total
        return sums


def _without(rows: Rows, positions: dict[int, str]) -> Rows:
    kept = np.ones(len(rows.numbers), bool)
    kept[list(positions)] = False
    mask = kept.tolist()
    return Rows(
        rows.numbers[kept],
        rows.keys[kept],
        rows.splits[kept],
        {name: list(compress(tokens, mask)) for name, tokens in rows.columns.items()},
        rows.bad,
        rows.counters,
        {name: values[kept] for name, values in rows.extra.items()},
    )
