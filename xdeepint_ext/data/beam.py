"""`prepare --runner`: the same blocks, encoder and statistics on Apache Beam, for data that one machine cannot hold.

One worker reads the raw files block by block; all encode. Values are counted and records are put into shards by Beam;
what is small (a summary of each block, moments, a sample) comes back in files. Each file has a name that follows from
its content's place, is written beside and renamed, so that work which a runner repeats changes nothing. The scratch and
output directories must be visible to all workers under their names.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from xdeepint_ext.data.encoder import BlockEncoder, EncodedBlock
from xdeepint_ext.data.finish import Statistics
from xdeepint_ext.data.manifest import SPLITS, Shard, shard_name
from xdeepint_ext.data.raw import BLOCK_BYTES, Block
from xdeepint_ext.data.statistics import moments_of, smallest
from xdeepint_ext.schema import Schema

try:
    import apache_beam as beam
except ImportError as missing:
    raise ImportError("runner: this one needs Apache Beam: pip install 'xdeepint-ext[beam]'") from missing

__all__ = ["BeamRun", "encode_with_beam"]

COUNT_FILES = 64

Chunk = tuple[str, int, int, bytes]


@dataclasses.dataclass(frozen=True)
class BeamRun:
    """Where a pipeline runs, and what it leaves where.

    Args:
      runner: Beam's name of it, such as `DirectRunner`, `DataflowRunner`, `FlinkRunner`, `SparkRunner`.
      options: further pipeline options, as on Beam's command line.
      scratch: directory for what comes back; all workers see it.
      records: directory for the shards; all workers see it.
      compression: "" or "GZIP".
      shard_bytes: about how much raw text goes to the shards of one time.
    """

    runner: str
    options: Sequence[str]
    scratch: str
    records: str
    compression: str
    shard_bytes: int

    @property
    def blocks_per_group(self) -> int:
        """Consecutive blocks whose records share shards."""
        return max(1, self.shard_bytes // BLOCK_BYTES)


def encode_with_beam(
    run: BeamRun,
    blocks: Callable[[], Iterable[Block]],
    encoder: BlockEncoder,
    schema: Schema,
    statistics: Statistics,
    take: Callable[[EncodedBlock], None],
) -> dict[str, list[Shard]]:
    """Runs the pipeline, and takes in what came back.

    Args:
      run: where.
      blocks: makes the iterator over the raw blocks.
      encoder: of a block.
      schema: says how often a value must be seen.
      statistics: gets everything but what `take` gets: counts, moments, the sample.
      take: gets each block without its records, counts and numbers, in the order of the blocks.

    Returns:
      Split -> its shards, under their final names.

    Raises:
      ImportError: Apache Beam is missing.
    """
    options = beam.options.pipeline_options.PipelineOptions([f"--runner={run.runner}", *run.options])
    least = {f.table_name: f.min_count for f in schema.inputs if f.uses_vocabulary}
    with beam.Pipeline(options=options) as pipeline:
        encoded = (
            pipeline
            | "start" >> beam.Create([0])
            | "read" >> beam.FlatMap(_Read(blocks))
            | "spread" >> beam.Reshuffle()
            | "encode" >> beam.ParDo(_Encode(encoder, run.scratch)).with_outputs("chunks", "counts", main="numbers")
        )
        _ = (
            encoded.chunks
            | "group of blocks" >> beam.Map(_by_shard, run.blocks_per_group)
            | "shards" >> beam.GroupByKey()
            | "write shards" >> beam.Map(_write_shard, run.records)
        )
        totals = encoded.counts | "totals" >> beam.CombinePerKey(sum)
        frequent = totals | "frequent" >> beam.Filter(_is_frequent, least)
        # For the message about a table without any: its most frequent value, which is too rare.
        highest = (
            totals
            | "by table" >> beam.Map(_by_table)
            | "highest" >> beam.combiners.Top.PerKey(1)
            | "as totals" >> beam.FlatMap(_as_totals)
            | "rare" >> beam.Filter(lambda pair, least: not _is_frequent(pair, least), least)
        )
        _ = (
            (frequent, highest)
            | "values" >> beam.Flatten()
            | "by file" >> beam.Map(_by_count_file)
            | "count files" >> beam.GroupByKey()
            | "write counts" >> beam.Map(_write_counts, run.scratch)
        )
        _ = encoded.numbers | "sample" >> beam.CombineGlobally(_Sample()) | beam.Map(_write_sample, run.scratch)
    return _take_in(run, statistics, take)


class _Read:
    """Numbers the blocks."""

    def __init__(self, blocks: Callable[[], Iterable[Block]]) -> None:
        self._blocks = blocks

    def __call__(self, _: Any) -> Iterator[tuple[int, Block]]:
        return enumerate(self._blocks())


class _Encode(beam.DoFn):
    """A numbered block -> its chunks, its counts and its numbers; the rest of it goes to a file."""

    def __init__(self, encoder: BlockEncoder, scratch: str) -> None:
        self._encoder, self._scratch = encoder, scratch

    def process(self, element: tuple[int, Block]) -> Iterator[Any]:
        number, block = element
        found = self._encoder(block)
        for chunk in found.chunks:
            yield beam.pvalue.TaggedOutput("chunks", (number, chunk))
        for table, counts in found.counts.items():
            for value, count in counts.items():
                yield beam.pvalue.TaggedOutput("counts", ((table, value), count))
        if found.numbers.shape[1]:
            yield smallest(found.numbers, found.hashes)
        summary = dataclasses.replace(
            found,
            chunks=[(split, lane, records, b"") for split, lane, records, _ in found.chunks],
            counts={},
            numbers=found.numbers[:0],
            hashes=found.hashes[:0],
        )
        sizes = [len(data) for *_, data in found.chunks]
        _write(os.path.join(self._scratch, f"block-{number:09d}"), (summary, sizes, moments_of(found.numbers)))


class _Sample(beam.CombineFn):
    """The rows with the smallest hashes."""

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, accumulator: list[Any], element: Any) -> list[Any]:
        return self.merge_accumulators([accumulator, [element]])

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        parts = [part for accumulator in accumulators for part in accumulator]
        if len(parts) < 2:
            return parts
        values, hashes = zip(*parts, strict=True)
        return [smallest(np.concatenate(values), np.concatenate(hashes))]

    def extract_output(self, accumulator: list[Any]) -> list[Any]:
        return accumulator


def _by_shard(element: tuple[int, Chunk], blocks_per_group: int) -> tuple[tuple[str, int, int], tuple[int, bytes]]:
    number, (split, lane, _, data) = element
    return (split, number // blocks_per_group, lane), (number, data)


def _write_shard(element: tuple[tuple[str, int, int], Iterable[tuple[int, bytes]]], records: str) -> None:
    (split, group, lane), chunks = element
    with _beside(_shard_path(records, split, group, lane)) as stream:
        for _, data in sorted(chunks):
            stream.write(data)


def _shard_path(records: str, split: str, group: int, lane: int) -> str:
    return os.path.join(records, f"{split}-{group:06d}-{lane:04d}.partial")


def _is_frequent(pair: tuple[tuple[str, bytes], int], least: dict[str, int]) -> bool:
    return pair[1] >= least[pair[0][0]]


def _by_table(pair: tuple[tuple[str, bytes], int]) -> tuple[str, tuple[int, bytes]]:
    (table, value), count = pair
    return table, (count, value)


def _as_totals(pair: tuple[str, list[tuple[int, bytes]]]) -> list[tuple[tuple[str, bytes], int]]:
    return [((pair[0], value), count) for count, value in pair[1]]


def _by_count_file(pair: tuple[tuple[str, bytes], int]) -> tuple[int, tuple[str, bytes, int]]:
    (table, value), count = pair
    return zlib.crc32(table.encode() + b"\0" + value) % COUNT_FILES, (table, value, count)


def _write_counts(element: tuple[int, Iterable[tuple[str, bytes, int]]], scratch: str) -> None:
    number, values = element
    with _beside(os.path.join(scratch, f"counts-{number:04d}.values")) as stream:
        for entry in values:
            pickle.dump(entry, stream)


def _write_sample(parts: list[Any], scratch: str) -> None:
    _write(os.path.join(scratch, "sample"), parts)


class _beside:
    """A binary file that is there whole or not at all."""

    def __init__(self, path: str) -> None:
        self._path, self._scratch = path, f"{path}.{uuid.uuid4().hex}"

    def __enter__(self) -> Any:
        self._stream = open(self._scratch, "wb")
        return self._stream

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._stream.close()
        if kind is None:
            os.replace(self._scratch, self._path)
        else:
            os.unlink(self._scratch)


def _write(path: str, value: Any) -> None:
    with _beside(path) as stream:
        pickle.dump(value, stream)


def _read(path: str) -> Any:
    with open(path, "rb") as stream:
        return pickle.load(stream)


def _take_in(run: BeamRun, statistics: Statistics, take: Callable[[EncodedBlock], None]) -> dict[str, list[Shard]]:
    files = sorted(os.listdir(run.scratch))
    shards: dict[tuple[str, int, int], Shard] = {}
    for file in [name for name in files if name.startswith("block-")]:
        summary, sizes, moments = _read(os.path.join(run.scratch, file))
        take(summary)
        statistics.add_moments(*moments)
        group = int(file.removeprefix("block-")) // run.blocks_per_group
        for (split, lane, records, _), size in zip(summary.chunks, sizes, strict=True):
            shard = shards.setdefault((split, group, lane), Shard("", 0, 0))
            shard.records += records
            shard.bytes += size
    for file in [name for name in files if name.endswith(".values")]:
        for table, value, count in _values(os.path.join(run.scratch, file)):
            statistics.add_counts(table, {value: count})
    for values, hashes in _read(os.path.join(run.scratch, "sample")):
        statistics.add_sample(values, hashes)
    return _named(run, shards)


def _values(path: str) -> Iterator[tuple[str, bytes, int]]:
    with open(path, "rb") as stream:
        while True:
            try:
                yield pickle.load(stream)
            except EOFError:
                return


def _named(run: BeamRun, shards: dict[tuple[str, int, int], Shard]) -> dict[str, list[Shard]]:
    """Gives the shards their final names, which state how many they are."""
    found: dict[str, list[Shard]] = {}
    for split in SPLITS:
        keys = sorted(key for key in shards if key[0] == split)
        for index, key in enumerate(keys):
            shard = shards[key]
            shard.file = shard_name(split, index, len(keys), run.compression)
            os.replace(_shard_path(run.records, *key), os.path.join(run.records, shard.file))
            found.setdefault(split, []).append(shard)
    return found
