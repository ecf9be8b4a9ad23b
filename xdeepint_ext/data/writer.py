"""A directory that appears complete or not at all, and the shards inside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from types import TracebackType
from typing import BinaryIO

from xdeepint_ext.data.manifest import SPLITS, Shard, shard_name

__all__ = ["AtomicDirectory", "ShardWriter"]

SHARD_BYTES = 256 << 20


class AtomicDirectory:
    """Context manager: a temporary directory beside `path`, renamed to `path` when the block ends without an error.

    After an error the temporary directory is removed, and `path` is as it was before.

    Args:
      path: the directory to make.
      overwrite: replace a directory that is there already.

    Raises:
      FileExistsError: `path` is there, is not empty, and may not be overwritten.
      OSError: `path` cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        self.path = os.path.abspath(path)
        self._overwrite = overwrite
        self._temporary = ""

    def __enter__(self) -> str:
        self._check()
        parent, name = os.path.split(self.path)
        os.makedirs(parent, exist_ok=True)
        self._temporary = tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=parent)
        os.chmod(self._temporary, 0o777 & ~_umask())
        return self._temporary

    def _check(self) -> None:
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise FileExistsError(f"output_dir {self.path!r} is a file, expected a directory or nothing")
        if os.path.isdir(self.path) and os.listdir(self.path) and not self._overwrite:
            raise FileExistsError(f"output_dir {self.path!r} exists and is not empty; overwrite replaces it")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._check()
                self._rename()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            raise OSError(error.errno, f"{error.strerror} (while writing {self.path})") from error

    def _rename(self) -> None:
        if not os.path.isdir(self.path):
            os.rename(self._temporary, self.path)
            return
        old = tempfile.mkdtemp(prefix=f".{os.path.basename(self.path)}.", suffix=".old", dir=os.path.dirname(self.path))
        os.rename(self.path, os.path.join(old, "data"))
        try:
            os.rename(self._temporary, self.path)
        except OSError:
            os.rename(os.path.join(old, "data"), self.path)
            os.rmdir(old)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class ShardWriter:
    """Appends chunks of TFRecords to the shards of each split.

    Training records are dealt to `num_shards` shards at a time, so that small data too has several files to
    interleave; when they are full, the next ones begin. Validation and test records keep the raw files' order, one
    shard after another. The number and content of the shards depend on the chunks alone.

    Args:
      directory: where the shards go.
      num_shards: training shards written at a time.
      compression: "" or "GZIP"; the chunks must be compressed already.
      shard_bytes: a shard that is larger than this after a chunk is full.
    """

    def __init__(self, directory: str, num_shards: int, compression: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._directory, self._compression, self._shard_bytes = directory, compression, shard_bytes
        self._lanes = {split: num_shards if split == "train" else 1 for split in SPLITS}
        self._open: dict[tuple[str, int], tuple[BinaryIO, Shard]] = {}
        self._shards: dict[str, list[Shard]] = {split: [] for split in SPLITS}
        self._groups = {split: 0 for split in SPLITS}

    def add(self, chunks: Iterable[tuple[str, int, int, bytes]]) -> None:
        """Appends chunks: split, lane (below the number of shards at a time), number of records, bytes."""
        written = set()
        for split, lane, records, data in chunks:
            stream, shard = self._shard(split, lane)
            stream.write(data)
            shard.records += records
            shard.bytes += len(data)
            written.add(split)
        for split in sorted(written):
            if any(s.bytes >= self._shard_bytes for (name, _), (_, s) in self._open.items() if name == split):
                self._close(split)

    def _shard(self, split: str, lane: int) -> tuple[BinaryIO, Shard]:
        if (split, lane) not in self._open:
            name = f"{split}-{self._groups[split] * self._lanes[split] + lane:08d}.partial"
            stream = open(os.path.join(self._directory, name), "wb")  # noqa: SIM115 - closed when the shard is full
            self._open[split, lane] = (stream, Shard(name, 0, 0))
        return self._open[split, lane]

    def _close(self, split: str) -> None:
        for key in sorted(key for key in self._open if key[0] == split):
            stream, shard = self._open.pop(key)
            stream.close()
            self._shards[split].append(shard)
        self._groups[split] += 1

    def finish(self) -> dict[str, list[Shard]]:
        """Closes the shards and gives them their final names, which state how many they are."""
        for split in SPLITS:
            self._close(split)
        for split, shards in self._shards.items():
            for index, shard in enumerate(shards):
                name = shard_name(split, index, len(shards), self._compression)
                os.rename(os.path.join(self._directory, shard.file), os.path.join(self._directory, name))
                shard.file = name
        return {split: shards for split, shards in self._shards.items() if shards}

    def abort(self) -> None:
        """Closes the files as they are; what they still buffer is lost."""
        for stream, _ in self._open.values():
            # On a full disk closing fails as writing did, and that error is on its way already.
            with contextlib.suppress(OSError):
                stream.close()
