"""Raw files -> a prepared directory: TFRecords of raw values, vocabularies, schema.pbtxt and manifest.json.

    python -m xdeepint_ext.data.prepare --dataset=adult --raw_dir=RAW --output_dir=DIR

The raw files are read once, in blocks; worker processes parse, count and encode, the parent writes. Memory is bounded
whatever the files' size, and the result does not depend on the number of workers. Everything is written to a
temporary directory beside DIR, which is renamed to DIR at the end: DIR is complete or absent. With
`--runner=DirectRunner`, or another of Apache Beam's, its workers do what the worker processes do.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from xdeepint_ext.data.columns import columns_of_schema
from xdeepint_ext.data.encoder import BlockEncoder, EncodedBlock
from xdeepint_ext.data.finish import Statistics
from xdeepint_ext.data.growth import Growth, reserve_rows
from xdeepint_ext.data.loaders import LOADERS, loader_options, make_loader
from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest, Shard, describe_tables
from xdeepint_ext.data.materialize import materialize_into
from xdeepint_ext.data.parallel import encode_in_processes
from xdeepint_ext.data.source import Source
from xdeepint_ext.data.table_sizes import parse_buckets, with_hashing, with_min_count
from xdeepint_ext.data.writer import SHARD_BYTES, AtomicDirectory, ShardWriter
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.progress import Progress

__all__ = ["describe", "prepare"]

# Below this many bytes a worker, starting processes costs more than it saves.
_BYTES_PER_WORKER = 32 << 20
LOCAL = "local"


def prepare(
    dataset: str,
    *,
    output_dir: str | os.PathLike[str],
    raw_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    min_count: int | None = None,
    compression: str = "",
    num_workers: int | None = None,
    num_shards: int = 4,
    shard_bytes: int = SHARD_BYTES,
    max_bad_rows: int = 0,
    overwrite: bool = False,
    materialize: bool = False,
    vocabulary_from: str | os.PathLike[str] | None = None,
    max_values: int | None = None,
    hash_buckets: str = "",
    grow: bool = False,
    reserve: float = 0.0,
    evict_after: int | None = None,
    evict: str | os.PathLike[str] | None = None,
    runner: str = LOCAL,
    beam_args: str = "",
    **options: Any,
) -> Manifest:
    """Makes a prepared directory.

    Args:
      dataset: name of a loader: see `xdeepint_ext.data.loaders.LOADERS`.
      output_dir: the directory to make.
      raw_dir: where the raw files are; None for `synthetic`.
      seed: for random splits, for dealing records to shards, and for synthetic data.
      min_count: values seen less often in training stay out of the vocabularies; None = the loader's choice.
      compression: "" or "GZIP".
      num_workers: worker processes; None = as many as there are cores, fewer for small data. 1 = none. A script that
        starts some needs `if __name__ == "__main__":` around its own calls, as ever with multiprocessing.
      num_shards: training shards written at a time.
      shard_bytes: size at which a shard is full.
      max_bad_rows: so many unreadable records are skipped, counted and noted in the manifest; one more is an error.
      overwrite: replace an output directory that is there already.
      materialize: write the Preprocessor's output instead of raw values; see `materialize.materialize`.
      vocabulary_from: a directory that was prepared with the same options, days apart: ids, bins and scales mean what
        they mean there, so that a model of that directory goes on with this one's records.
      max_values: a vocabulary holds so many values at most, the most frequent ones; the others are treated as those
        below min_count. The manifest notes how many these were.
      hash_buckets: `table:buckets,table:buckets`: ids of these tables are hashes of the values; no vocabulary is made.
      grow: the vocabularies of `vocabulary_from` go on: old values keep their ids, and values that the training records
        hold `min_count` times follow. Days that grow so, each from the one before, are what `--warm_start` wants.
      reserve: rows beyond a vocabulary, as a share of it, that wait for new values, so that growth needs no new shape
        until they are used up; see `Feature.capacity`.
      evict_after: with `grow`, a value leaves its vocabulary when the training records of so many directories in a row
        do not hold it.
      evict: with `grow`, folder with files of values, in the form of vocabularies, that leave where no training record
        holds them.
      runner: `local`, or one of Apache Beam's, such as `DirectRunner`, `DataflowRunner`, `FlinkRunner`, `SparkRunner`
        (extra `beam`). The content is the same; a shard may end at another record. Raw files and output directory must
        be visible to its workers under the same names.
      beam_args: further options of Beam's pipeline, as on a command line: `"--project=p --region=r"`.
      **options: the loader's own arguments, such as `numeric="quantile"`.

    Returns:
      The directory's manifest.

    Raises:
      ValueError: an argument or option is out of range or unknown.
      DataError: a raw file is empty, damaged, or holds more than `max_bad_rows` records that cannot be read (the
        message names file, row and column); a split is empty.
      SchemaError: the schema contradicts itself or the data.
      FileExistsError: the output directory exists, is not empty, and may not be overwritten.
      FileNotFoundError: a raw file is missing.
      ImportError: a runner of Beam's, and Beam is not installed.
      OSError: the output cannot be written.

    Example:
      >>> manifest = prepare("synthetic", output_dir="synthetic_data", rows=1000)
      >>> sum(manifest.records(split) for split in ("train", "valid", "test"))
      1000
    """
    counts = {"num_workers": num_workers, "num_shards": num_shards, "shard_bytes": shard_bytes, "min_count": min_count}
    _check(compression, {**counts, "max_values": max_values}, max_bad_rows)
    if runner == LOCAL and beam_args:
        raise ValueError(f"beam_args are for a runner of Beam's, got {beam_args!r} with runner={runner!r}")
    known = None if vocabulary_from is None else os.fspath(vocabulary_from)
    growth = Growth(reserve, evict_after, None if evict is None else os.fspath(evict))
    _check_growth(known, grow, growth)
    source = make_loader(dataset, options).open(raw_dir if raw_dir is None else os.fspath(raw_dir), seed)
    if min_count is not None:
        source = dataclasses.replace(source, schema=with_min_count(source.schema, min_count))
    if hash_buckets:
        source = dataclasses.replace(source, schema=with_hashing(source.schema, parse_buckets(hash_buckets)))
    with ExitStack() as stack:
        directory = stack.enter_context(AtomicDirectory(output_dir, overwrite))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="scratch-", dir=directory))
        statistics = Statistics(source.schema, scratch, max_values)
        encoder = _encoder(source, statistics, seed, num_shards, compression)
        raw_records = scratch if materialize else directory
        seen = _Seen(dataset, source, statistics, max_bad_rows)
        if runner == LOCAL:
            workers = num_workers or min(os.cpu_count() or 1, -(-source.size // _BYTES_PER_WORKER))
            blocks = stack.enter_context(closing(encode_in_processes(encoder, source.blocks(), workers)))
            writer = ShardWriter(raw_records, num_shards, compression, shard_bytes)
            stack.callback(writer.abort)
            seen.take_all(blocks, writer)
            splits = writer.finish()
        else:
            splits = _on_beam(
                runner, beam_args, source, encoder, statistics, seen, raw_records, compression, shard_bytes
            )
        notes = {"seed": seed, "options": options, **source.notes, **seen.notes()}
        empty = [split for split in source.splits if split not in splits]
        if empty:
            raise DataError(f"{dataset}: no record for split {empty[0]!r}; the others: {sorted(splits)}")
        raw = Manifest(dataset, splits, {}, "", compression, notes=notes)
        raw = _write_meaning(raw_records, source, statistics, raw, _Known(known, grow, growth))
        return materialize_into(raw_records, directory) if materialize else raw


def _check(compression: str, at_least_one: dict[str, int | None], max_bad_rows: int) -> None:
    if compression not in ("", "GZIP"):
        raise ValueError(f"compression must be '' or 'GZIP', got {compression!r}")
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    if max_bad_rows < 0:
        raise ValueError(f"max_bad_rows must be >= 0, got {max_bad_rows}")


def _encoder(source: Source, statistics: Statistics, seed: int, num_shards: int, compression: str) -> BlockEncoder:
    schema = source.schema
    columns = columns_of_schema(schema, source.separators, source.label_values)
    weights = {feature.raw_name: feature.weights for feature in schema if feature.weights}
    labels = tuple(feature.raw_name for feature in schema.labels)
    return BlockEncoder(source.parse, columns, labels, weights, statistics.needs, seed, num_shards, compression)


def _on_beam(
    runner: str,
    beam_args: str,
    source: Source,
    encoder: BlockEncoder,
    statistics: Statistics,
    seen: _Seen,
    raw_records: str,
    compression: str,
    shard_bytes: int,
) -> dict[str, list[Shard]]:
    from xdeepint_ext.data.beam import BeamRun, encode_with_beam

    with tempfile.TemporaryDirectory(prefix="beam-", dir=raw_records) as returned:
        run = BeamRun(runner, shlex.split(beam_args), returned, raw_records, compression, shard_bytes)
        return encode_with_beam(run, source.blocks, encoder, source.schema, statistics, seen.take)


class _Seen:
    """Takes in all blocks, and knows what the manifest should note about them."""

    def __init__(self, dataset: str, source: Source, statistics: Statistics, max_bad_rows: int) -> None:
        self._dataset, self._source, self._statistics = dataset, source, statistics
        self._bad = _BadRows(max_bad_rows)
        self._extra: list[dict[str, np.ndarray]] = []

    def take(self, block: EncodedBlock) -> None:
        self._bad.add(block)
        self._statistics.add(block)
        if block.extra:
            self._extra.append(block.extra)

    def take_all(self, blocks: Iterable[EncodedBlock], writer: ShardWriter) -> None:
        with Progress(None, "rows", f"prepare {self._dataset}") as progress:
            for block in blocks:
                self.take(block)
                writer.add(block.chunks)
                progress.update(block.rows, fraction=block.done)

    def notes(self) -> dict[str, Any]:
        notes = {**self._statistics.notes(), **self._bad.notes()}
        if self._source.finish is not None and self._extra:
            columns = {name: np.concatenate([part[name] for part in self._extra]) for name in self._extra[0]}
            notes |= self._source.finish(columns)
        return notes


class _Known(NamedTuple):
    """Whose ids a directory takes over (None = nobody's), and whether and how they grow."""

    directory: str | None
    grows: bool
    growth: Growth


def _check_growth(known: str | None, grow: bool, growth: Growth) -> None:
    if grow and known is None:
        raise ValueError("grow: vocabularies go on from those of vocabulary_from, which is not given")
    wrong = [name for name in ("evict_after", "evict") if getattr(growth, name) is not None]
    if wrong and not grow:
        raise ValueError(f"{wrong[0]} is for vocabularies that grow: say grow=True, with vocabulary_from")
    if growth.reserve and known is not None and not grow:
        raise ValueError("reserve: the tables of vocabulary_from stay as they are, unless grow=True")


def _write_meaning(
    directory: str, source: Source, statistics: Statistics, manifest: Manifest, known: _Known
) -> Manifest:
    """Writes vocabularies, schema and manifest."""
    vocabulary_dir = os.path.join(directory, VOCABULARY)
    os.makedirs(vocabulary_dir)
    if known.directory is None:
        schema = reserve_rows(statistics.finish(vocabulary_dir, source.selected), known.growth)
        if statistics.left_out:
            manifest.notes["values_beyond_max_values"] = statistics.left_out
    else:
        everything = Manifest.load(known.directory).notes.get("all_features")
        schema = Schema.from_json(everything) if everything else Schema.load(known.directory)
        growth = known.growth if known.grows else None
        schema, notes = statistics.finish_as(schema, vocabulary_dir, known.directory, growth)
        manifest.notes |= notes
    if source.selected is not None:
        manifest.notes["all_features"] = schema.to_json()
        schema = schema.select(source.selected)
    schema.save(directory)
    manifest.schema = schema.fingerprint()
    manifest.tables = describe_tables(schema, vocabulary_dir)
    manifest.save(directory)
    return manifest


class _BadRows:
    """Counts records that could not be read, and stops where they are too many."""

    def __init__(self, allowed: int) -> None:
        self._allowed, self._count = allowed, 0
        self._messages: list[str] = []

    def add(self, block: EncodedBlock) -> None:
        self._count += block.num_bad
        self._messages = (self._messages + block.bad)[:10]
        if self._count > self._allowed:
            shown = "\n  ".join(self._messages)
            if self._allowed:
                raise DataError(f"more than max_bad_rows={self._allowed} records cannot be read; the first:\n  {shown}")
            raise DataError(shown if self._count == 1 else f"records that cannot be read (max_bad_rows=0):\n  {shown}")

    def notes(self) -> dict[str, Any]:
        return {"bad_rows": {"count": self._count, "first": self._messages}}


# Flag, type, help; the defaults are `prepare`'s. Loaders add their own options.
_FLAGS: tuple[tuple[str, type, str], ...] = (
    ("raw_dir", str, "directory with the raw files"),
    ("output_dir", str, "directory to make"),
    ("seed", int, "for random splits, dealing to shards, synthetic data"),
    ("min_count", int, "values seen less often in training stay out of the vocabularies"),
    ("compression", str, "GZIP compresses the records"),
    ("num_workers", int, "worker processes; default: all cores, fewer for small data"),
    ("num_shards", int, "training shards written at a time"),
    ("shard_bytes", int, "size at which a shard is full"),
    ("max_bad_rows", int, "so many unreadable records are skipped and counted"),
    ("overwrite", bool, "replace an output directory that is there"),
    ("vocabulary_from", str, "prepared directory whose ids, bins and scales are taken over"),
    ("materialize", bool, "write preprocessed ids and floats instead of raw values"),
    ("max_values", int, "most values of a vocabulary, the most frequent ones"),
    ("hash_buckets", str, "table:buckets,... whose ids are hashes, without a vocabulary"),
    ("grow", bool, "the vocabularies of vocabulary_from go on: old values keep their ids, new ones follow"),
    ("reserve", float, "rows beyond a vocabulary, as a share of it, that wait for new values"),
    ("evict_after", int, "with grow: a value leaves that so many directories in a row do not hold"),
    ("evict", str, "with grow: folder with files of values that leave where no training record holds them"),
    ("runner", str, "local, or Apache Beam's DirectRunner, DataflowRunner (untested), FlinkRunner (untested), ..."),
    ("beam_args", str, "further options of Beam's pipeline, in one text"),
)
_DEFINE: dict[type, Any] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
}


def _define_flags() -> None:
    flags.DEFINE_enum("dataset", None, sorted(LOADERS), "which raw data these are", required=True)
    for name, kind, text in _FLAGS:
        _DEFINE[kind](name, None, text)
    flags.mark_flag_as_required("output_dir")
    for name, (kind, text) in loader_options().items():
        _DEFINE[kind](name, None, text)


def _arguments_of_flags() -> dict[str, Any]:
    """The flags that were given, as arguments of `prepare`."""
    names = ["dataset", *(name for name, _, _ in _FLAGS), *loader_options()]
    given = {name: flags.FLAGS[name].value for name in names}
    return {name: value for name, value in given.items() if value is not None}


def main(argv: Sequence[str]) -> None:
    """Reads the flags, prepares, and prints what was made."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    # So that a terminated run, too, removes its temporary directory.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        arguments = _arguments_of_flags()
        manifest = prepare(**arguments)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    print(describe(arguments["output_dir"], manifest))


def describe(output_dir: str, manifest: Manifest) -> str:
    """What a prepared directory holds, in a few lines of text."""
    lines = [f"{output_dir}: {manifest.dataset}"]
    for split, shards in manifest.splits.items():
        means = manifest.notes["label_mean"].get(split, {})
        labels = ", ".join(f"mean {name} {mean:.4f}" for name, mean in means.items())
        size = sum(shard.bytes for shard in shards) / 1e6
        lines.append(
            f"  {split}: {manifest.records(split):,} records in {len(shards)} shards, {size:,.1f} MB; {labels}"
        )
    rows = sum(table["rows"] for table in manifest.tables.values())
    lines.append(f"  {len(manifest.tables)} tables with {rows:,} ids")
    if manifest.notes["bad_rows"]["count"]:
        lines.append(f"  {manifest.notes['bad_rows']['count']:,} records could not be read and were skipped")
    if "best_auc" in manifest.notes:
        best = manifest.notes
        lines.append(f"  best reachable on test: AUC {best['best_auc']:.4f}, log loss {best['best_logloss']:.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
