"""The records of a split as parsed batches: order, resumption, workers' shares, damaged records, the cache."""

from __future__ import annotations

import dataclasses
import os
import tempfile

import tensorflow as tf
from absl import logging

from xdeepint_ext.data import damage, memory
from xdeepint_ext.data.epochs import permutation, plain_options, repeat_epochs, shuffled_batches, steps_per_epoch
from xdeepint_ext.data.manifest import DataError, Manifest, Shard
from xdeepint_ext.data.shares import BatchShare

__all__ = ["SHUFFLE_BUFFER", "Order", "first_file", "records_of", "stream"]

SHUFFLE_BUFFER = 65_536
READ_BUFFER = 1 << 20
BLOCK = 128
INTERLEAVED_FILES = 8  # a constant: the order must not depend on the number of cores


@dataclasses.dataclass(frozen=True)
class Order:
    """In which order records come, how often, and how they are taken; see `data.read` for the arguments."""

    shuffle: bool = False
    epochs: int | None = 1
    deterministic: bool = True
    seed: int = 0
    start_step: int = 0
    drop_remainder: bool = False
    shuffle_buffer: int = SHUFFLE_BUFFER
    parallelism: int | None = None
    share: BatchShare = dataclasses.field(default_factory=BatchShare)
    equal_steps: bool = False

    @property
    def workers(self) -> int:
        """Batches parsed at a time and files read at a time."""
        return self.parallelism or os.cpu_count() or 1


def stream(
    data_dir: str,
    manifest: Manifest,
    split: str,
    batch_size: int,
    parse: damage.Parse,
    order: Order,
    *,
    input_context: tf.distribute.InputContext | None = None,
    max_bad_records: int = 0,
    cache: bool = False,
    parsed_at_once: int = 4096,
) -> tf.data.Dataset:
    """Parsed batches of a split; see `data.read` for what the arguments mean, and for the errors.

    Args:
      data_dir: the prepared directory.
      manifest: its manifest.
      split: name of the split.
      batch_size: records of the global batch.
      parse: serialized batch -> nest of tensors; raises where a record does not fit.
      order: of the records.
      input_context: of `tf.distribute`.
      max_bad_records: that may be skipped.
      cache: keep the parsed split in memory.
      parsed_at_once: records of the batches that the cache is filled with.

    Returns:
      A dataset with the attributes `records`, `steps_per_epoch` and `skipped`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be > 0, got {batch_size}")
    source = _Source(_files(data_dir, manifest, split))
    if max_bad_records:
        source = _repaired(source, parse, max_bad_records)
    else:
        _check_sizes(source, manifest.shards(split), parse)
    if input_context is not None:
        batch_size, source = _share(source, batch_size, input_context)
    if cache:
        everything = _read(source, parse, parsed_at_once, Order(parallelism=order.parallelism))
        dataset = memory.batches(
            memory.collect(everything),
            batch_size,
            shuffle=order.shuffle,
            epochs=order.epochs,
            seed=order.seed,
            start_step=order.start_step,
            drop_remainder=order.drop_remainder,
            share=order.share,
        )
    else:
        dataset = _read(source, parse, batch_size, order)
    dataset.records = source.records
    dataset.steps_per_epoch = _steps(source, batch_size, order)
    dataset.skipped = source.skipped
    return dataset


def first_file(data_dir: str, manifest: Manifest, split: str) -> str:
    """Path of a split's first file.

    Raises:
      DataError: a file of the split is missing or empty, or the split is.
    """
    return _files(data_dir, manifest, split)[0][0]


@dataclasses.dataclass(frozen=True)
class _Source:
    """Files with their numbers of records; this worker's part of the records; most of a worker; what was skipped."""

    counted_files: tuple[tuple[str, int], ...]
    worker: int = 0
    by_record: int = 1
    most: int = 0
    skipped: tuple[damage.BadRecord, ...] = ()
    scratch: tempfile.TemporaryDirectory[str] | None = None

    @property
    def files(self) -> list[str]:
        return [file for file, _ in self.counted_files]

    @property
    def records(self) -> int:
        everything = sum(count for _, count in self.counted_files)
        return everything if self.by_record == 1 else len(range(self.worker, everything, self.by_record))


def _read(source: _Source, parse: damage.Parse, batch_size: int, order: Order) -> tf.data.Dataset:
    count = len(source.files)
    by_record = source.by_record > 1
    # Where workers divide the records of the same files, all must see these in one order.
    files_key = 0 if by_record else source.worker

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        names_order = permutation(count, order.seed, epoch, files_key, -1) if order.shuffle else tf.range(count)
        names = tf.data.Dataset.from_tensor_slices(tf.gather(tf.constant(source.files), names_order))
        if order.shuffle and count > 1:
            blocks = names.interleave(
                _blocks,
                cycle_length=min(count, INTERLEAVED_FILES),
                num_parallel_calls=order.workers,
                deterministic=order.deterministic or by_record,
            )
        else:
            blocks = names.flat_map(_blocks)
        if by_record:
            blocks = blocks.unbatch().shard(source.by_record, source.worker).batch(BLOCK)
        if order.shuffle:
            keys = (order.seed, epoch, source.worker)
            batches = shuffled_batches(blocks, batch_size, order.shuffle_buffer, keys, order.drop_remainder)
        else:
            batches = blocks.rebatch(batch_size, order.drop_remainder)
        return batches.concatenate(empty) if lacking else batches

    steps = _steps(source, batch_size, order)
    lacking = steps - steps_per_epoch(source.records, batch_size, order.drop_remainder)
    empty = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string)).repeat(lacking)
    serialized = order.share.of(repeat_epochs(one_epoch, steps, order.epochs, order.start_step))
    dataset = serialized.map(parse, num_parallel_calls=order.workers, deterministic=order.deterministic).prefetch(2)
    return damage.name_damage(plain_options(dataset, order.deterministic), source.counted_files, parse)


def _steps(source: _Source, batch_size: int, order: Order) -> int:
    """Batches of an epoch: with `equal_steps` as many as the worker with most records has."""
    records = max(source.most, source.records) if order.equal_steps else source.records
    return steps_per_epoch(records, batch_size, order.drop_remainder)


def _blocks(name: tf.Tensor) -> tf.data.Dataset:
    """A file's records, a few at a time: every element of a dataset has its price."""
    return records_of(name).batch(BLOCK)


def records_of(name: tf.Tensor) -> tf.data.Dataset:
    """A file's records, gzip by its ending `.gz`."""
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
        most = max(sum(count for _, count in source.counted_files[i::workers]) for i in range(workers))
        return batch_size, dataclasses.replace(
            source, counted_files=source.counted_files[worker::workers], worker=worker, most=most
        )
    most = -(-source.records // workers)
    return batch_size, dataclasses.replace(source, worker=worker, by_record=workers, most=most)


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
