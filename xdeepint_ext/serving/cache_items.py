"""Computes the item tower's representations of a catalogue and keeps them on disk.

    python -m xdeepint_ext.serving.cache_items --model=EXPORTED --items items.tfrecord --output=CACHE [--dtype=int8]

Killed and started again, it goes on behind the last finished shard. Run again after items have changed, it computes the
new and the changed ones alone. Needs TensorFlow and the exported folder, and nothing of the training code.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.serving.cache_accuracy import measure
from xdeepint_ext.serving.cache_shard import SHARD, WRITING, CacheError, Shard, array_name, shard_name, write_shard
from xdeepint_ext.serving.item_cache import MANIFEST, CacheManifest, ItemCache, as_ids, plain_ids, remove_leftovers
from xdeepint_ext.serving.item_source import Items, ItemSource
from xdeepint_ext.serving.loaded_towers import LoadedTowers, as_towers
from xdeepint_ext.serving.quantize import DTYPES, VALUES, OutOfRangeError, encode
from xdeepint_ext.serving.rows import SEPARATOR, is_csv, read_rows, read_text
from xdeepint_ext.serving.version_folder import SAMPLE_ROWS
from xdeepint_ext.utils.progress import Progress

LOCK = ".lock"
ITEMS_PER_SHARD, BATCH_SIZE, CHECKED_ITEMS = 65536, 4096, 2048


def write_item_cache(
    model: LoadedTowers | str | os.PathLike[str],
    items: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    id_column: str | None = None,
    users: str | os.PathLike[str] | None = None,
    separator: str = SEPARATOR,
    items_per_shard: int = ITEMS_PER_SHARD,
    batch_size: int = BATCH_SIZE,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the item cache of a model, or brings it up to date.

    Items are told apart by their id, and changed ones by a fingerprint of their features' bytes. The cache on disk is
    the old one until the new one is complete; the old one's shards stay for who reads them until the job runs again. In
    memory are the items of one shard.

    Args:
      model: an export with towers, loaded or its folder: a version, or the base folder (highest version).
      items: files of all items; see `ItemSource`. Items of the cache that they lack leave it.
      output: the cache's folder.
      dtype: `float32`; `float16`, half the size; `int8`, a third. Default: float32, our choice.
      id_column: raw column of the item's id; None = that of the feature with role `item_id`.
      users: rows of users, JSON or CSV, with whom the loss of accuracy is measured on up to 2,048 items; None = the
        export's sample_rows.json. Where there are none, nothing is measured.
      separator: of several values in a cell of CSV.
      items_per_shard: that are computed and written together. An open cache holds three files or more of each shard.
      batch_size: items that the tower sees at a time.
      overwrite: replace a cache of another model; else it is refused.

    Returns:
      `items`, of which `computed`, `copied` (rows of the old cache) and `kept` (in shards that were there already);
      `bytes_per_item`; `accuracy`, as `cache_accuracy.measure` gives it, or None.

    Raises:
      CacheError: an item has no id, occurs twice, lacks a column, or cannot be kept in the dtype; or the output is
        another model's cache, or no cache.
      RowError: a row of text does not fit.
      ValueError: the model has no towers, or an argument is out of range.
      OSError: the cache cannot be written.

    Example:
      >>> write_item_cache("models/clicks", ["items.csv"], "caches/clicks", dtype="int8")  # doctest: +SKIP
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    for argument, value in {"items_per_shard": items_per_shard, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{argument} must be >= 1, got {value}")
    towers = as_towers(model)
    source = ItemSource(items, towers, id_column, separator)
    sample_users = _users(towers, users, separator)
    folder = os.fspath(output)
    with _claimed(folder):
        old = _old(folder, towers, overwrite)
        job = _Job(towers, folder, dtype, batch_size, old)
        with Progress(None, "items", "item cache") as progress:
            for chunk in source.chunks(items_per_shard):
                job.add(chunk)
                progress.update(len(chunk), fraction=source.bytes and chunk.bytes_read / source.bytes)
        return job.finish(sample_users)


class _Job:
    """One run: shard after shard, then the manifest."""

    def __init__(self, towers: LoadedTowers, folder: str, dtype: str, batch_size: int, old: ItemCache | None) -> None:
        self._towers, self._folder, self._dtype, self._batch_size = towers, folder, dtype, batch_size
        self._before = () if old is None else tuple(old.manifest.shards)
        alike = old is not None and (old.manifest.fingerprint, old.manifest.dtype) == (towers.fingerprint, dtype)
        self._old = old if alike else None
        self._shards: dict[str, Shard] = {}
        self._sample = _Sample(CHECKED_ITEMS)
        self.counts = {"computed": 0, "copied": 0, "kept": 0}

    def add(self, chunk: Items) -> None:
        """Makes the shard of a chunk, unless it is there."""
        chunk = chunk.take(np.argsort(chunk.ids, kind="stable"))
        # As wide as this shard needs, so that its name does not depend on the other items.
        ids = as_ids(chunk.ids.tolist(), "int" if chunk.ids.dtype.kind == "i" else "string")
        chunk = dataclasses.replace(chunk, ids=ids)
        self._refuse_repeated(chunk)
        fingerprints = chunk.fingerprints()
        self._sample.add(chunk, fingerprints)
        name = shard_name(self._towers.fingerprint, self._dtype, chunk.ids, fingerprints)
        if os.path.isdir(os.path.join(self._folder, name)):
            self.counts["kept"] += len(chunk)
        else:
            write_shard(self._folder, name, self._arrays(chunk, fingerprints))
        self._shards[name] = Shard(os.path.join(self._folder, name), self._towers.tasks)

    def finish(self, users: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
        """Measures, publishes, removes what is no longer needed."""
        if not self._shards:
            raise CacheError("items: the files hold no item")
        kept = next(iter(self._shards.values())).kept
        manifest = CacheManifest(
            self._towers.fingerprint,
            self._dtype,
            {task: list(arrays[VALUES].shape[1:]) for task, arrays in kept.items()},
            {name: len(shard) for name, shard in self._shards.items()},
        )
        cache = ItemCache(self._folder, manifest=manifest)
        if users is not None:
            manifest.accuracy = measure(self._towers, cache, users, *self._sample.items())
        manifest.save(self._folder)
        remove_leftovers(self._folder, {*manifest.shards, *self._before})
        report = {"items": len(cache), **self.counts, "bytes_per_item": cache.bytes_per_item()}
        return {**report, "accuracy": manifest.accuracy}

    def _refuse_repeated(self, chunk: Items) -> None:
        twice = np.flatnonzero(chunk.ids[1:] == chunk.ids[:-1])
        places = [chunk.places[i + 1] for i in twice[:1].tolist()]
        for shard in self._shards.values():
            places += [chunk.places[i] for i in np.flatnonzero(shard.rows(chunk.ids) >= 0)[:1].tolist()]
        if places:
            file, number = places[0]
            which = chunk.places.index(places[0])
            (value,) = plain_ids(chunk.ids[which : which + 1])
            raise CacheError(f"{file}, item {number}: item id {value!r} occurs twice; ids must be unique")

    def _arrays(self, chunk: Items, fingerprints: np.ndarray) -> dict[str, np.ndarray]:
        """What the shard holds: rows of the old cache where the item is as it was, else the tower's."""
        arrays: dict[str, np.ndarray] = {}
        old = np.full(len(chunk), -1) if self._old is None else self._old.unchanged(chunk.ids, fingerprints)

        def fill(places: np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
            for name, values in rows.items():
                if name not in arrays:
                    arrays[name] = np.empty((len(chunk), *values.shape[1:]), values.dtype)
                arrays[name][places] = values

        here = np.flatnonzero(old >= 0)
        if self._old is not None:
            for places, rows in self._old.stored(old[here]):
                fill(here[places], rows)
        wanted = np.flatnonzero(old < 0)
        for begin in range(0, len(wanted), self._batch_size):
            places = wanted[begin : begin + self._batch_size]
            fill(places, self._computed(chunk.take(places)))
        self.counts["copied"] += len(here)
        self.counts["computed"] += len(wanted)
        return {**arrays, "ids": chunk.ids, "fingerprints": fingerprints}

    def _computed(self, some: Items) -> dict[str, np.ndarray]:
        rows: dict[str, np.ndarray] = {}
        for task, vectors in self._representations(some).items():
            try:
                kept = encode(vectors, self._dtype)
            except OutOfRangeError as error:
                file, number = some.places[error.row]
                (value,) = plain_ids(some.ids[error.row : error.row + 1])
                raise CacheError(f"{file}, item {number}, id {value!r}: {error}") from None
            rows |= {array_name(task, part): values for part, values in kept.items()}
        return rows

    def _representations(self, some: Items) -> dict[str, np.ndarray]:
        try:
            return self._towers.items(some.examples)
        except tf.errors.InvalidArgumentError:
            # One of them is bad: which one, the message about a batch does not say.
            for example, (file, number) in zip(some.examples, some.places, strict=True):
                try:
                    self._towers.items([example])
                except tf.errors.InvalidArgumentError as error:
                    raise CacheError(f"{file}, item {number}: {error.message}") from None
            raise


class _Sample:
    """Some items for the measurement: those of the lowest fingerprints, which are as good as drawn."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: list[tuple[int, Any, bytes]] = []

    def add(self, chunk: Items, fingerprints: np.ndarray) -> None:
        lowest = np.argsort(fingerprints, kind="stable")[: self._size].tolist()
        self._found += [(int(fingerprints[i]), chunk.ids[i], chunk.examples[i]) for i in lowest]
        self._found = sorted(self._found, key=lambda item: item[0])[: self._size]

    def items(self) -> tuple[np.ndarray, list[bytes]]:
        return np.array([item for _, item, _ in self._found]), [example for _, _, example in self._found]


def _old(folder: str, towers: LoadedTowers, overwrite: bool) -> ItemCache | None:
    """The cache that is there.

    Raises:
      CacheError: it is another model's, and may not be overwritten.
    """
    if not os.path.exists(os.path.join(folder, MANIFEST)):
        return None
    fingerprint = CacheManifest.load(folder).fingerprint
    if fingerprint != towers.fingerprint and not overwrite:
        raise CacheError(
            f"output: the item cache {folder} is of model {fingerprint}, but this model is {towers.fingerprint}; "
            "write to another folder, or overwrite"
        )
    return ItemCache(folder)


@contextlib.contextmanager
def _claimed(folder: str) -> Iterator[None]:
    """Makes the folder or goes on in it, and keeps other jobs out."""
    os.makedirs(folder, exist_ok=True)
    others = [n for n in os.listdir(folder) if n not in (MANIFEST, LOCK) and not n.startswith((SHARD, WRITING))]
    if others:
        raise CacheError(f"output: {folder} exists and is no item cache: it holds {sorted(others)[:5]}")
    with open(os.path.join(folder, LOCK), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CacheError(f"output: another job is writing {folder}") from None
        remove_leftovers(folder, [n for n in os.listdir(folder) if n.startswith(SHARD)])
        yield


def _users(towers: LoadedTowers, file: str | os.PathLike[str] | None, separator: str) -> dict[str, np.ndarray] | None:
    """Representations of the users to measure with."""
    if file is None:
        file = os.path.join(towers.folder, SAMPLE_ROWS)
        if not os.path.exists(file):
            return None
    text = read_text(os.fspath(file))
    return towers.users(read_rows(text), cells=is_csv(text), separator=separator)


def describe(report: Mapping[str, Any]) -> str:
    """The report of `write_item_cache` as text."""
    lines = [
        "{items:,} items: {computed:,} computed, {copied:,} copied, {kept:,} in shards that were there".format(**report)
    ]
    lines.append(f"{report['bytes_per_item']:,} bytes an item")
    accuracy = report["accuracy"]
    if accuracy is None:
        return "\n".join([*lines, "accuracy not measured: no rows of users"])
    lines.append(f"beside the tower in float32, {accuracy['users']:,} users and {accuracy['items']:,} items:")
    for task, found in accuracy["tasks"].items():
        errors = [
            f"{kind} error {found[f'{kind}_error']['largest']:.2g} (mean {found[f'{kind}_error']['mean']:.2g})"
            for kind in ("logit", "probability")
        ]
        overlaps = [f"{share:.1%} of the best {k} kept" for k, share in found["overlap"].items()]
        correlation = f"rank correlation {found['rank_correlation']:.6f}"
        lines.append(f"  {task}: " + ", ".join([*errors, correlation, *overlaps]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, or 1 after an error that the message on standard error explains."""
    parser = argparse.ArgumentParser(
        prog="python -m xdeepint_ext.serving.cache_items", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--model", required=True, help="folder of the export: a version, or the base folder")
    parser.add_argument("--items", required=True, nargs="+", help="files of all items: TFRecord, CSV or JSON")
    parser.add_argument("--output", required=True, help="folder of the cache")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--id_column", help="raw column of the item's id; default: that of role item_id")
    parser.add_argument("--users", help=f"file of users to measure the accuracy with; default: {SAMPLE_ROWS}")
    parser.add_argument("--separator", default=SEPARATOR, help="between several values in a cell of CSV")
    parser.add_argument("--items_per_shard", type=int, default=ITEMS_PER_SHARD)
    parser.add_argument("--batch_size", type=int, default=BATCH_SIZE)
    parser.add_argument("--overwrite", action="store_true", help="replace a cache of another model")
    try:
        print(describe(write_item_cache(**vars(parser.parse_args(arguments)))))
    except (OSError, ValueError, tf.errors.OpError) as error:
        print(f"cache_items: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
