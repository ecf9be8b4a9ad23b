"""`read`: a prepared directory -> a `tf.data.Dataset` of (features, labels[, weights])."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from xdeepint_ext.data import damage, memory
from xdeepint_ext.data.epochs import permutation, plain_options, repeat_epochs, shuffled_batches, steps_per_epoch
from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest, Shard
from xdeepint_ext.data.packing import Packing
from xdeepint_ext.data.parsing import labels_and_weights, raw_columns, raw_feature_spec
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.schema import Schema

SHUFFLE_BUFFER = 65_536
READ_BUFFER = 1 << 20
BLOCK = 128
INTERLEAVED_FILES = 8  # a constant: the order must not depend on the number of cores


def read(
    data_dir: str | os.PathLike[str],
    split: str,
    batch_size: int,
    *,
    shuffle: bool = False,
    epochs: int | None = 1,
    deterministic: bool = True,
    seed: int = 0,
    start_step: int = 0,
    input_context: tf.distribute.InputContext | None = None,
    max_bad_records: int = 0,
    schema: Schema | None = None,
    preprocessor: Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]] | None = None,
    cache: bool = False,
    drop_remainder: bool = False,
    shuffle_buffer: int = SHUFFLE_BUFFER,
    parallelism: int | None = None,
) -> tf.data.Dataset:
    """Batches of a split, in an order that depends on (seed, epoch, worker) only.

    Files are interleaved, records shuffled in windows, a whole batch parsed at once and preprocessed on the host.

    Args:
      data_dir: what `data.prepare` wrote, raw or materialised.
      split: `train`, `valid`, `test`, or another that the manifest has.
      batch_size: records of the global batch; a worker of an `input_context` gets its share.
      shuffle: order of files and records drawn anew for each epoch.
      epochs: how many, counted from epoch 0; None = without end.
      deterministic: False lets parallel steps overtake each other: faster where they are uneven, order no longer fixed.
      seed: of the order.
      start_step: batches taken before (all epochs together): reading goes on behind them. They are not parsed.
      input_context: of `tf.distribute`: worker i of n reads every n-th file, or every n-th record where files are
        fewer.
      max_bad_records: damaged or unfit records that may be skipped; above it, and by default, they are an error. To
        find them costs one more pass over the split at the start. Those skipped are logged and counted in the
        dataset's `skipped`.
      schema: instead of the directory's: another choice of features of the same columns (raw records only).
      preprocessor: instead of `Preprocessor(schema, data_dir/vocabulary)`; raw records only.
      cache: keep the preprocessed split in memory; it is then shuffled as a whole.
      drop_remainder: leave out the short batch at the end of an epoch.
      shuffle_buffer: records of a shuffle window.
      parallelism: batches parsed at a time and files read at a time; default: the number of cores.

    Returns:
      A dataset of (features, labels) or (features, labels, weights), with the attributes `steps_per_epoch`,
      `preprocessor`, `records` and `skipped`. Features: see `Preprocessor`. Labels: float32 (B, 1), a dict of it by
      task for several labels, -1 where one is missing. Weights: float32 (B,).

    Raises:
      DataError: the directory, split, schema and records do not fit together, or a file is damaged; names the file, and
        record and feature where there are such. A damaged record is found when it is read.

    Example:
      >>> from xdeepint_ext.data import prepare
      >>> prepare.prepare("synthetic", output_dir="doctest_data", rows=1000)  # doctest: +SKIP
      >>> features, labels = next(iter(read("doctest_data", "train", 256, shuffle=True)))  # doctest: +SKIP
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be > 0, got {batch_size}")
    data_dir = os.fspath(data_dir)
    manifest = Manifest.load(data_dir)
    parse, preprocessor = _parser(data_dir, manifest, schema, preprocessor)
    source = _Source(_files(data_dir, manifest, split))
    _check_columns(source.files[0], data_dir, manifest, schema)
    if max_bad_records:
        source = _repaired(source, parse, max_bad_records)
    else:
        _check_sizes(source, manifest.shards(split), parse)
    if input_context is not None:
        batch_size, source = _share(source, batch_size, input_context)
    if cache:
        everything = _read(source, parse, 4096, False, 1, True, 0, 0, False, 1, parallelism or os.cpu_count() or 1)
        dataset = memory.batches(
            memory.collect(everything),
            batch_size,
            shuffle=shuffle,
            epochs=epochs,
            seed=seed,
            start_step=start_step,
            drop_remainder=drop_remainder,
        )
    else:
        dataset = _read(
            source,
            parse,
            batch_size,
            shuffle,
            epochs,
            deterministic,
            seed,
            start_step,
            drop_remainder,
            shuffle_buffer,
            parallelism or os.cpu_count() or 1,
        )
    dataset.records = source.records
    dataset.steps_per_epoch = steps_per_epoch(source.records, batch_size, drop_remainder)
    dataset.skipped = source.skipped
    dataset.preprocessor = preprocessor
    return dataset


@dataclasses.dataclass(frozen=True)
class _Source:
    """Files with their numbers of records; this worker's part of the records; what was skipped."""

    counted_files: tuple[tuple[str, int], ...]
    worker: int = 0
    by_record: int = 1
    skipped: tuple[damage.BadRecord, ...] = ()
    scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def files(self) -> list[str]:
        return [file for file, _ in self.counted_files]

    @property
    def records(self) -> int:
        everything = sum(count for _, count in self.counted_files)
        return everything if self.by_record == 1 else len(range(self.worker, everything, self.by_record))


def _read(
    source: _Source,
    parse: damage.Parse,
    batch_size: int,
    shuffle: bool,
    epochs: int | None,
    deterministic: bool,
    seed: int,
    start_step: int,
    drop_remainder: bool,
    shuffle_buffer: int,
    parallelism: int,
) -> tf.data.Dataset:
    count = len(source.files)
    by_record = source.by_record > 1
    # Where workers divide the records of the same files, all must see these in one order.
    files_key = 0 if by_record else source.worker

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = permutation(count, seed, epoch, files_key, -1) if shuffle else tf.range(count)
        names = tf.data.Dataset.from_tensor_slices(tf.gather(tf.constant(source.files), order))
        if shuffle and count > 1:
            blocks = names.interleave(
                _blocks,
                cycle_length=min(count, INTERLEAVED_FILES),
                num_parallel_calls=parallelism,
                deterministic=deterministic or by_record,
            )
        else:
            blocks = names.flat_map(_blocks)
        if by_record:
            blocks = blocks.unbatch().shard(source.by_record, source.worker).batch(BLOCK)
        if not shuffle:
            return blocks.rebatch(batch_size, drop_remainder)
        return shuffled_batches(blocks, batch_size, shuffle_buffer, (seed, epoch, source.worker), drop_remainder)

    steps = steps_per_epoch(source.records, batch_size, drop_remainder)
    serialized = repeat_epochs(one_epoch, steps, epochs, start_step)
    dataset = serialized.map(parse, num_parallel_calls=parallelism, deterministic=deterministic).prefetch(2)
    return damage.name_damage(plain_options(dataset, deterministic), source.counted_files, parse)


def _blocks(name: tf.Tensor) -> tf.data.Dataset:
    """A file's records, a few at a time: every element of a dataset has its price."""
    return _records(name).batch(BLOCK)


def _records(name: tf.Tensor) -> tf.data.Dataset:
    compression = tf.where(tf.strings.regex_full_match(name, r".*\.gz"), "GZIP", "")
    return tf.data.TFRecordDataset(name, compression_type=compression, buffer_size=READ_BUFFER)


def _files(data_dir: str, manifest: Manifest, split: str) -> tuple[tuple[str, int], ...]:
    found = []
    for shard in manifest.shards(split):
        file = os.path.join(data_dir, shard.file)
        if not os.path.exists(file):
            raise DataError(f"{file} is missing; the manifest counts {shard.records} records in it")
        size = os.path.getsize(file)
        if size == 0:
            raise DataError(f"{file} is empty; the manifest counts {shard.records} records in it")
        found.append((file, shard.records))
    return tuple(found)


def _parser(
    data_dir: str,
    manifest: Manifest,
    schema: Schema | None,
    preprocessor: Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]] | None,
) -> tuple[damage.Parse, Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]]]:
    """(serialized batch -> (features, labels[, weights]), the preprocessor whose ids these are)."""
    own = Schema.load(data_dir, overlay="")
    if own.fingerprint() != manifest.schema:
        raise DataError(
            f"{data_dir}: schema.pbtxt is not the one that the manifest was written with (fingerprints "
            f"{own.fingerprint()} and {manifest.schema}); give another choice of features as `schema`, or in roles.yaml"
        )
    vocabulary = os.path.join(data_dir, VOCABULARY)
    if manifest.packed is not None:
        if schema is not None or preprocessor is not None:
            raise ValueError(
                f"{data_dir} holds materialised records: schema and preprocessor cannot be changed any more"
            )
        packing = Packing(own)
        spec = packing.feature_spec()
        preprocess: Any = Preprocessor(own, vocabulary)

        def parts(serialized: tf.Tensor) -> Any:
            return packing.unpack(tf.io.parse_example(serialized, spec))
    else:
        schema = schema or Schema.load(data_dir)
        preprocess = preprocessor or Preprocessor(schema, vocabulary)
        raw_spec = raw_feature_spec(schema)

        def parts(serialized: tf.Tensor) -> Any:
            raw = tf.io.parse_example(serialized, raw_spec)
            return dict(preprocess(raw)), *labels_and_weights(schema, raw)

    @tf.autograph.experimental.do_not_convert
    def parse(serialized: tf.Tensor) -> Any:
        features, labels, weights = parts(serialized)
        return (features, labels) if weights is None else (features, labels, weights)

    return parse, preprocess


def _check_columns(file: str, data_dir: str, manifest: Manifest, schema: Schema | None) -> None:
    """Compares the first record's columns with the schema's: a misspelt optional one would read as missing."""
    if manifest.packed is not None:
        return
    schema = schema or Schema.load(data_dir)
    try:
        serialized = next(iter(_records(tf.constant(file)).batch(256)))
    except tf.errors.OpError:
        return  # a damaged file is reported, or skipped, where it is read
    present: dict[str, str] = {}
    for record in serialized.numpy():
        try:
            example = tf.train.Example.FromString(record)
        except Exception:
            return
        for name, value in example.features.feature.items():
            present.setdefault(name, value.WhichOneof("kind") or "")
    kinds = {"string": "bytes_list", "int": "int64_list", "float": "float_list"}
    for name, feature in raw_columns(schema).items():
        kind = present.get(name)
        if kind and kind != kinds[feature.dtype]:
            raise DataError(f"{file}: feature {name!r} is a {kind} in the records, but {feature.dtype} in the schema")
        if kind is None and feature.required:
            near = difflib.get_close_matches(name, present, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise DataError(
                f"{file}: none of the first records has feature {name!r} of the schema{hint} They have "
                f"{sorted(present)}; required=False is for features that records may lack"
            )


def _check_sizes(source: _Source, shards: list[Shard], parse: damage.Parse) -> None:
    """A truncated file shows at once, not hours into the training."""
    for (file, records), shard in zip(source.counted_files, shards, strict=True):
        size = os.path.getsize(file)
        if size != shard.bytes:
            _, bad = damage.inspect(file, records, parse)
            raise DataError(f"{bad[0] if bad else file}; it has {size} bytes, the manifest says {shard.bytes}")


def _share(source: _Source, batch_size: int, context: tf.distribute.InputContext) -> tuple[int, _Source]:
    """This worker's batch size and part of the records."""
    workers, worker = context.num_input_pipelines, context.input_pipeline_id
    replicas = max(context.num_replicas_in_sync // workers, 1)
    batch_size = context.get_per_replica_batch_size(batch_size) * replicas
    if workers == 1:
        return batch_size, source
    if len(source.files) >= workers:
        return batch_size, dataclasses.replace(
            source, counted_files=source.counted_files[worker::workers], worker=worker
        )
    return batch_size, dataclasses.replace(source, worker=worker, by_record=workers)


def _repaired(source: _Source, parse: damage.Parse, max_bad_records: int) -> _Source:
    scratch = tempfile.TemporaryDirectory(prefix="xdeepint-repaired-")
    files: list[tuple[str, int]] = []
    skipped: list[damage.BadRecord] = []
    for file, records in source.counted_files:
        copy, kept, bad = damage.repair(file, records, parse, scratch.name)
        files += [(copy, kept)] if kept else []
        skipped += bad
    lost = sum(1 + record.lost for record in skipped)
    if lost > max_bad_records:
        shown = "\n  ".join(str(record) for record in skipped[:10])
        raise DataError(f"{lost} bad records, but max_bad_records is {max_bad_records}:\n  {shown}")
    if not files:
        raise DataError(f"no record is left of {lost}; the first:\n  {skipped[0]}")
    for record in skipped:
        logging.warning("skipped: %s", record)
    return dataclasses.replace(source, counted_files=tuple(files), skipped=tuple(skipped), scratch=scratch)
