"""Raw records -> materialised records: the Preprocessor's output as one id vector and one float vector each."""

from __future__ import annotations

import dataclasses
import gzip
import os
import shutil
from collections.abc import Iterator

from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest, Shard
from xdeepint_ext.data.packing import FLOATS, IDS, Packing
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.data.read import read
from xdeepint_ext.data.records import frame_examples, packed_features
from xdeepint_ext.data.writer import AtomicDirectory
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.progress import Progress

__all__ = ["materialize", "materialize_into"]

_BATCH = 4096


def materialize(
    data_dir: str | os.PathLike[str], output_dir: str | os.PathLike[str], overwrite: bool = False
) -> Manifest:
    """Makes a directory of materialised records out of one of raw records.

    Look-ups, hashing, binning and scaling are done once and for all, and parsing costs a fifth; another schema or
    preprocessor then needs the raw records again. The order of the records and the number of shards stay.

    Args:
      data_dir: what `prepare` wrote.
      output_dir: the directory to make; complete or absent, as with `prepare`.
      overwrite: replace it where it is there already.

    Returns:
      The new directory's manifest; its `packed` holds the vectors' lengths and the preprocessor's fingerprint.

    Raises:
      DataError: `data_dir` is no prepared directory, is damaged, or is materialised already.
      FileExistsError: the output directory exists, is not empty, and may not be overwritten.
      OSError: the output cannot be written.

    Example:
      >>> from xdeepint_ext.data.prepare import prepare
      >>> raw = prepare("synthetic", output_dir="raw_data", rows=1000, fields=10)
      >>> materialize("raw_data", "packed_data").packed["ids"]
      10
    """
    with AtomicDirectory(output_dir, overwrite) as directory:
        return materialize_into(os.fspath(data_dir), directory)


def materialize_into(data_dir: str, directory: str) -> Manifest:
    """`materialize` into a directory that is there and empty."""
    manifest = Manifest.load(data_dir)
    if manifest.packed is not None:
        raise DataError(f"{data_dir} holds materialised records already")
    schema = Schema.load(data_dir)
    packing = Packing(schema)
    vocabulary_dir = os.path.join(data_dir, VOCABULARY)
    fingerprint = Preprocessor(schema, vocabulary_dir).fingerprint()
    splits = {}
    total = sum(manifest.records(split) for split in manifest.splits)
    with Progress(total, "rows", f"materialize {manifest.dataset}") as progress:
        for split in manifest.splits:
            batches = _packed(data_dir, split, packing, progress)
            splits[split] = _write(directory, manifest.shards(split), batches, manifest.compression)
    shutil.copytree(vocabulary_dir, os.path.join(directory, VOCABULARY))
    schema.save(directory)
    packed = {"ids": packing.num_ids, "floats": packing.num_floats, "preprocessor": fingerprint}
    result = dataclasses.replace(manifest, splits=splits, packed=packed)
    result.save(directory)
    return result


def _packed(data_dir: str, split: str, packing: Packing, progress: Progress) -> Iterator[list[bytes]]:
    """Serialized `tf.train.Features` of a split, batch by batch, in the order of the raw records."""
    for features, labels, *weight in read(data_dir, split, _BATCH):
        vectors = packing.pack(features, labels, weight[0] if weight else None)
        ids, floats = (vectors[name].numpy() if name in vectors else None for name in (IDS, FLOATS))
        batch = packed_features(IDS, ids, FLOATS, floats)
        progress.update(len(batch))
        yield batch


def _write(directory: str, shards: list[Shard], batches: Iterator[list[bytes]], compression: str) -> list[Shard]:
    """Cuts the stream of records into shards as long as those given."""
    written = []
    rest: list[bytes] = []
    for shard in shards:
        size, missing = 0, shard.records
        with open(os.path.join(directory, shard.file), "wb") as stream:
            while missing:
                rest = rest or next(batches)
                data = frame_examples(rest[:missing])
                data = gzip.compress(data, compresslevel=6, mtime=0) if compression else data
                stream.write(data)
                size += len(data)
                taken = min(missing, len(rest))
                missing, rest = missing - taken, rest[taken:]
        written.append(Shard(shard.file, shard.records, size))
    return written
