"""`ItemCache`: items' representations on disk, read by item id or one after another, in bounded memory.

    CACHE/manifest.json            which shards there are, of which model; replaced whole by each run of the job
          shard-DIGEST/ids.npy     (n,) int64 or bytes, ascending
                       fingerprints.npy  (n,) uint64, of the items' features
                       TASK.values.npy   (n, ...) float32, float16 or int8
                       TASK.scales.npy   (n, ..., blocks) float32, int8 only

A shard's name is a digest of its ids, fingerprints, model and type, so that a shard with that name need not be computed
again. Needs NumPy alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from xdeepint_ext.serving.cache_shard import FORMAT, SHARD, WRITING, CacheError, Shard
from xdeepint_ext.serving.quantize import VALUES

MANIFEST = "manifest.json"


@dataclasses.dataclass
class CacheManifest:
    """What a cache holds.

    Args:
      fingerprint: of the model, see towers.json.
      dtype: `float32`, `float16` or `int8`.
      shapes: task -> shape of one item's representation.
      shards: folder -> number of items, in order.
      accuracy: what `cache_items` measured, or None.
    """

    fingerprint: str
    dtype: str
    shapes: dict[str, list[int]]
    shards: dict[str, int]
    accuracy: dict[str, Any] | None = None

    def save(self, folder: str) -> None:
        """Writes manifest.json beside and renames it into place."""
        part = os.path.join(folder, f"{WRITING}{MANIFEST}")
        with open(part, "w", encoding="utf-8") as stream:
            json.dump({"format": FORMAT, **dataclasses.asdict(self)}, stream, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, os.path.join(folder, MANIFEST))

    @classmethod
    def load(cls, folder: str) -> CacheManifest:
        """Reads manifest.json.

        Raises:
          CacheError: there is none, or it is none of this format.
        """
        file = os.path.join(folder, MANIFEST)
        try:
            with open(file, encoding="utf-8") as stream:
                content = json.load(stream)
            if content.pop("format") != FORMAT:
                raise KeyError("format")
            return cls(**content)
        except FileNotFoundError:
            raise CacheError(f"{folder} is no item cache: no {MANIFEST}; make one with serving.cache_items") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CacheError(f"{file} is no item cache's manifest of format {FORMAT}: {error!r}") from None


class ItemCache:
    """The representations of all items by one model.

    Positions count the items through all shards, in their order.

    Args:
      folder: what `cache_items` wrote.
      fingerprint: of the model that is to score with it; None = any.
      manifest: of a cache that is being made; None = the folder's.

    Raises:
      CacheError: there is no cache, it is damaged, or another model's.

    Example:
      >>> cache = ItemCache("caches/clicks", towers.fingerprint)  # doctest: +SKIP
      >>> positions = cache.look_up(np.array([17, 4]))  # doctest: +SKIP
      >>> towers.score(user, cache.vectors(positions))  # doctest: +SKIP
    """

    def __init__(
        self, folder: str | os.PathLike[str], fingerprint: str | None = None, *, manifest: CacheManifest | None = None
    ) -> None:
        self.folder = os.fspath(folder)
        self.manifest = manifest or CacheManifest.load(self.folder)
        if fingerprint not in (None, self.manifest.fingerprint):
            raise CacheError(
                f"the item cache {self.folder} is of model {self.manifest.fingerprint}, but this model is "
                f"{fingerprint}: representations of two models do not go together; make a cache of this one"
            )
        self.tasks = tuple(self.manifest.shapes)
        self.shards = self._open()
        self._ends = np.cumsum([len(shard) for shard in self.shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def id_dtype(self) -> str:
        """`int` or `string`."""
        return "int" if self.shards[0].ids.dtype.kind == "i" else "string"

    def bytes_per_item(self) -> int:
        """Bytes of one item's representation as it is kept, ids and fingerprints left out."""
        kept = [array for of_task in self.shards[0].kept.values() for array in of_task.values()]
        return sum(array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)) for array in kept)

    def look_up(self, ids: Sequence[int | str | bytes] | np.ndarray) -> np.ndarray:
        """The position of each id, -1 where the cache has no such item.

        Raises:
          CacheError: ids of another type than the cache's.
        """
        wanted = self._ids(ids)
        positions = np.full(len(wanted), -1, np.int64)
        for number, shard in enumerate(self.shards):
            left = np.flatnonzero(positions < 0)
            if not len(left):
                break
            rows = shard.rows(wanted[left])
            positions[left] = np.where(rows >= 0, rows + self._begin(number), -1)
        return positions

    def ids(self, positions: np.ndarray) -> list[int | str]:
        """The ids at positions."""
        found: list[int | str] = [0] * len(positions)
        for number, (places, rows) in self._by_shard(positions):
            for place, value in zip(places.tolist(), plain_ids(self.shards[number].ids[rows]), strict=True):
                found[place] = value
        return found

    def vectors(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Task -> the representations at positions, (n, ...) float32."""
        found = {task: np.empty((len(positions), *shape), np.float32) for task, shape in self.manifest.shapes.items()}
        for number, (places, rows) in self._by_shard(positions):
            for task, vectors in self.shards[number].vectors(rows).items():
                found[task][places] = vectors
        return found

    def unchanged(self, ids: np.ndarray, fingerprints: np.ndarray) -> np.ndarray:
        """The position of each id whose item has this fingerprint, -1 of new and changed ones."""
        positions = self.look_up(ids)
        for number, (places, rows) in self._by_shard(positions, some=True):
            changed = self.shards[number].fingerprints[rows] != fingerprints[places]
            positions[places[changed]] = -1
        return positions

    def stored(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Shard by shard: (places in `positions`, array name -> rows as they stand in the file)."""
        for number, (places, rows) in self._by_shard(positions):
            yield places, self.shards[number].stored(rows)

    def chunks(self, items_at_once: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """All items in order, few at a time: (position of the first, task -> representations)."""
        for number, shard in enumerate(self.shards):
            for begin in range(0, len(shard), items_at_once):
                yield self._begin(number) + begin, shard.read(begin, min(begin + items_at_once, len(shard)))

    def _open(self) -> list[Shard]:
        try:
            shards = [Shard(os.path.join(self.folder, name), self.tasks) for name in self.manifest.shards]
        except FileNotFoundError as error:
            raise CacheError(
                f"the item cache {self.folder} is damaged: {error}; run serving.cache_items again"
            ) from None
        for (name, items), shard in zip(self.manifest.shards.items(), shards, strict=True):
            shapes = {task: list(kept[VALUES].shape[1:]) for task, kept in shard.kept.items()}
            if len(shard) != items or shapes != self.manifest.shapes:
                raise CacheError(
                    f"{shard.folder}: the manifest says {items} items of {self.manifest.shapes}, but there are "
                    f"{len(shard)} of {shapes}; remove {name} and run serving.cache_items again"
                )
        return shards

    def _begin(self, shard: int) -> int:
        return int(self._ends[shard - 1]) if shard else 0

    def _by_shard(
        self, positions: np.ndarray, some: bool = False
    ) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
        """(shard, (places in `positions`, rows in the shard)) of shards that hold some; with `some`, -1 is passed."""
        positions = np.array(positions, np.int64)
        wrong = (positions < (-1 if some else 0)) | (positions >= len(self))
        if wrong.any():
            raise CacheError(f"positions must be in 0 .. {len(self) - 1}, got {positions[wrong][0]}")
        shards = np.where(positions < 0, -1, np.searchsorted(self._ends, positions, "right"))
        for number in np.unique(shards[shards >= 0]).tolist():
            places = np.flatnonzero(shards == number)
            yield number, (places, positions[places] - self._begin(number))

    def _ids(self, ids: Sequence[int | str | bytes] | np.ndarray) -> np.ndarray:
        wanted = ids if isinstance(ids, np.ndarray) and ids.dtype != object else as_ids(list(ids), self.id_dtype)
        if wanted.dtype.kind != self.shards[0].ids.dtype.kind:
            raise CacheError(f"item ids of the cache are of type {self.id_dtype}, got {wanted.dtype}")
        return wanted


def as_ids(values: Sequence[Any], dtype: str) -> np.ndarray:
    """Item ids as the cache keeps them: int64, or bytes.

    Raises:
      CacheError: a value is of another type; names it.
    """
    text = dtype == "string"
    for number, value in enumerate(values):
        fine = isinstance(value, str | bytes) if text else isinstance(value, int | np.integer)
        if not fine or (text and value[-1:] in ("\0", b"\0")):
            raise CacheError(f"item id {number + 1} must be {'text' if text else 'a whole number'}, got {value!r}")
    if not text:
        return np.array(values, np.int64)
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return np.array(encoded, f"S{max([1, *map(len, encoded)])}")


def plain_ids(ids: np.ndarray) -> list[int | str]:
    """Kept item ids as Python's numbers or text."""
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in ids.tolist()]


def remove_leftovers(folder: str, keep: Collection[str]) -> None:
    """Removes all shards but those that are named, and what killed jobs began."""
    for name in os.listdir(folder):
        if name.startswith((SHARD, WRITING)) and name not in keep:
            path = os.path.join(folder, name)
            shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else _remove(path)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
