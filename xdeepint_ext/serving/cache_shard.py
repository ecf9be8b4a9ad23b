"""A shard of an item cache: the files of its arrays, mapped or read. Needs NumPy alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

import numpy as np

from xdeepint_ext.serving.quantize import SCALES, VALUES, decode

FORMAT = 1
SHARD, WRITING = "shard-", ".writing-"


class CacheError(ValueError):
    """A cache, or what is to go into it, is damaged, does not fit the model, or lacks an item."""


class Shard:
    """The arrays of a shard, mapped into memory.

    Args:
      folder: of the shard.
      tasks: the tasks whose representations it holds.

    Raises:
      FileNotFoundError: it is not there.
      CacheError: a file is damaged.
    """

    def __init__(self, folder: str, tasks: Sequence[str]) -> None:
        self.folder = folder
        self.ids = self._array("ids")
        self.fingerprints = self._array("fingerprints")
        self.kept = {task: {part: self._array(array_name(task, part)) for part in self._parts(task)} for task in tasks}
        wrong = [name for name, array in self._named() if len(array) != len(self.ids)]
        if wrong:
            raise CacheError(
                f"{folder} is damaged: {wrong} have another length than ids, {len(self.ids)}; remove it and run "
                "serving.cache_items again"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """The row of each id, -1 where it is not here."""
        # In the shard's type: NumPy would else copy the shard's ids into a common one.
        wanted = ids.astype(self.ids.dtype)
        found = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return np.where((self.ids[found] == wanted) & (wanted == ids), found, -1)

    def vectors(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Task -> the rows' representations, float32."""
        return {task: decode({part: array[rows] for part, array in kept.items()}) for task, kept in self.kept.items()}

    def stored(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Array name -> the rows as they stand in the file."""
        return {name: array[rows] for name, array in self._named()}

    def read(self, begin: int, end: int) -> dict[str, np.ndarray]:
        """As `vectors`, of rows one after another: read, not mapped, so that nothing of them stays in memory."""
        return {
            task: decode({part: _read(array, begin, end) for part, array in kept.items()})
            for task, kept in self.kept.items()
        }

    def _parts(self, task: str) -> list[str]:
        scaled = os.path.exists(os.path.join(self.folder, f"{array_name(task, SCALES)}.npy"))
        return [VALUES, SCALES] if scaled else [VALUES]

    def _named(self) -> Iterator[tuple[str, np.memmap]]:
        yield "fingerprints", self.fingerprints
        for task, kept in self.kept.items():
            yield from ((array_name(task, part), array) for part, array in kept.items())

    def _array(self, name: str) -> np.memmap:
        file = os.path.join(self.folder, f"{name}.npy")
        try:
            return np.load(file, mmap_mode="r")
        except (EOFError, ValueError) as error:
            raise CacheError(
                f"{file} is damaged: {error}; remove {self.folder} and run serving.cache_items again"
            ) from None


def array_name(task: str, part: str) -> str:
    """File name, without ending, of an array of a task."""
    return f"{quote(task, safe='')}.{part}"


def _read(array: np.memmap, begin: int, end: int) -> np.ndarray:
    width = int(np.prod(array.shape[1:], dtype=np.int64))
    place = array.offset + begin * width * array.itemsize
    flat = np.fromfile(str(array.filename), array.dtype, (end - begin) * width, offset=place)
    return flat.reshape((end - begin, *array.shape[1:]))


def write_shard(cache: str, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays of a shard beside, and renames the folder into place.

    Args:
      cache: the cache's folder.
      name: of the shard, see `shard_name`.
      arrays: `ids`, `fingerprints`, and what `array_name` names.
    """
    folder = os.path.join(cache, f"{WRITING}{name}-{uuid.uuid4().hex[:8]}")
    os.makedirs(folder)
    try:
        for array, values in arrays.items():
            with open(os.path.join(folder, f"{array}.npy"), "wb") as stream:
                np.save(stream, values)
                stream.flush()
                os.fsync(stream.fileno())
        os.rename(folder, os.path.join(cache, name))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def shard_name(model: str, dtype: str, ids: np.ndarray, fingerprints: np.ndarray) -> str:
    """Name of the shard that holds just these items, by this model, in this type."""
    digest = hashlib.blake2b(f"{FORMAT} {model} {dtype} {ids.dtype}".encode(), digest_size=12)
    digest.update(np.ascontiguousarray(ids).tobytes())
    digest.update(np.ascontiguousarray(fingerprints).tobytes())
    return SHARD + digest.hexdigest()
