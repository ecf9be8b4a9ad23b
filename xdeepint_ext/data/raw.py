"""Raw text files as blocks of whole records, whatever their compression; memory is bounded by the block size."""

from __future__ import annotations

import dataclasses
import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from xdeepint_ext.data.manifest import DataError

__all__ = ["BLOCK_BYTES", "Block", "TextFile", "find_file", "first_line", "read_blocks", "split_lines"]

BLOCK_BYTES = 2 << 20
# A longer record is a binary file, or a quote that nobody closed.
MAX_RECORD_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A text file of records, plain, gzip, or a member of a gzipped tar.

    Args:
      path: the file.
      header: the first line holds no record.
      quoted: a newline inside double quotes belongs to the value (CSV).
      member: name of the file inside the tar; None = `path` is no tar.
      split: index in `SPLITS` of all its records, where the file decides it.
    """

    path: str
    header: bool = False
    quoted: bool = False
    member: str | None = None
    split: int | None = None

    @property
    def name(self) -> str:
        """How messages call the file."""
        base = os.path.basename(self.path)
        return f"{base}:{self.member}" if self.member else base


@dataclasses.dataclass(frozen=True)
class Block:
    """Some consecutive records of a file.

    Args:
      file: its name, for messages.
      number: the first record's number in the file, from 1; a header line is number 1.
      count: how many records (blank lines included).
      data: the bytes.
      index: which of the data set's files this is; with the number it identifies a record.
      split: index in `SPLITS` where the file decides it.
      done: share of all raw bytes that was read when the block ended.
    """

    file: str
    number: int
    count: int
    data: bytes = b""
    index: int = 0
    split: int | None = None
    done: float = 1.0


def find_file(raw_dir: str | os.PathLike[str] | None, *names: str) -> str:
    """Path of the first of `names` that lies in `raw_dir`, plain or with `.gz`.

    Raises:
      FileNotFoundError: none is there.
    """
    if raw_dir is None:
        raise FileNotFoundError(f"raw_dir is needed: the directory that holds {' or '.join(names)}")
    for name in names:
        for candidate in (name, name + ".gz"):
            path = os.path.join(raw_dir, candidate)
            if os.path.isfile(path):
                return path
    there = sorted(os.listdir(raw_dir))[:20] if os.path.isdir(raw_dir) else "no such directory"
    raise FileNotFoundError(f"raw_dir {os.fspath(raw_dir)!r}: expected {' or '.join(names)} (or .gz); it has {there}")


def first_line(path: str) -> bytes:
    """The first line of a plain or gzip file, without its end; the byte order mark is dropped."""
    with open(path, "rb") as raw, _decompressed(TextFile(path), raw) as stream:
        return stream.readline(MAX_RECORD_BYTES).rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")


def read_blocks(files: Sequence[TextFile], block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The records of all files in order, in blocks of about `block_bytes` bytes of (decompressed) text.

    Raises:
      DataError: a file is empty, truncated or damaged, or a record is longer than 64 MiB; names file and record.
    """
    sizes = [os.path.getsize(file.path) for file in files]
    before = 0
    for index, (file, size) in enumerate(zip(files, sizes, strict=True)):
        with open(file.path, "rb") as raw, _decompressed(file, raw) as stream:
            for number, count, data in _blocks_of(file, stream, block_bytes):
                done = (before + min(raw.tell(), size)) / max(1, sum(sizes))
                yield Block(file.name, number, count, data, index, file.split, done)
        before += size


def _decompressed(file: TextFile, raw: IO[bytes]) -> IO[bytes]:
    magic = raw.read(2)
    raw.seek(0)
    if file.member is not None:
        return _member(file, raw)
    return gzip.GzipFile(fileobj=raw) if magic == b"\x1f\x8b" else raw  # type: ignore[return-value]


def _member(file: TextFile, raw: IO[bytes]) -> IO[bytes]:
    try:
        archive = tarfile.open(fileobj=raw, mode="r|*")  # noqa: SIM115 - its member is read on
        for member in archive:
            if os.path.basename(member.name) == file.member:
                return archive.extractfile(member)  # type: ignore[return-value]
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{os.path.basename(file.path)}: truncated or damaged: {error}") from None
    raise DataError(f"{os.path.basename(file.path)}: no member {file.member} in the archive")


def _blocks_of(file: TextFile, stream: IO[bytes], block_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    number, rest = 1, b""
    while chunk := _chunk(file, stream, block_bytes, number):
        data = rest + chunk if rest else chunk
        end, count = _last_record_end(data, file.quoted)
        if not end:
            if len(data) > MAX_RECORD_BYTES:
                raise DataError(f"{file.name}, row {number}: longer than 64 MiB; not a text file, or an unclosed quote")
            rest = data
            continue
        rest = data[end:]
        yield from _without_header(file, number, count, data[:end])
        number += count
    if rest:
        yield from _without_header(file, number, 1, rest)
        number += 1
    if number == 1:
        raise DataError(f"{file.name} is empty")


def _chunk(file: TextFile, stream: IO[bytes], block_bytes: int, number: int) -> bytes:
    try:
        return stream.read(block_bytes)
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{file.name}: truncated or damaged, in or after row {number}: {error}") from None


def _last_record_end(data: bytes, quoted: bool) -> tuple[int, int]:
    """Where the last complete record ends (0 = there is none), and how many records end up to there."""
    if not quoted or b'"' not in data:
        end = data.rfind(b"\n") + 1
        return end, data.count(b"\n", 0, end)
    text = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(text == ord("\n"))
    quotes = np.flatnonzero(text == ord('"'))
    outside = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
    return (int(outside[-1]) + 1, len(outside)) if len(outside) else (0, 0)


def _without_header(file: TextFile, number: int, count: int, data: bytes) -> Iterator[tuple[int, int, bytes]]:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if number == 1 and file.header:
        end = data.find(b"\n") + 1 or len(data)
        number, count, data = 2, count - 1, data[end:]
    if count:
        yield number, count, data


def split_lines(
    block: Block, separator: bytes, num_columns: int, comment: bytes | None = None
) -> tuple[list[tuple[bytes, ...]], np.ndarray, list[tuple[int, str]]]:
    """The columns of a block of unquoted text.

    Args:
      block: the records.
      separator: between two values.
      num_columns: how many values a record has.
      comment: lines that begin with it are skipped, as blank lines are.

    Returns:
      A tuple of values for each column; the records' numbers, int64; and `(number, message)` for each record with
      another number of values, which is left out.
    """
    lines = block.data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    numbers = np.arange(block.number, block.number + len(lines))
    if b"" in lines or comment:
        kept = [i for i, line in enumerate(lines) if line and not (comment and line.startswith(comment))]
        lines, numbers = [lines[i] for i in kept], numbers[kept]
    rows = [line.split(separator) for line in lines]
    return columns_of(rows, numbers, num_columns)


def columns_of(
    rows: list[list[bytes]], numbers: np.ndarray, num_columns: int
) -> tuple[list[tuple[bytes, ...]], np.ndarray, list[tuple[int, str]]]:
    """Turns rows into columns; see `split_lines`."""
    wrong = {i for i, row in enumerate(rows) if len(row) != num_columns}
    bad = [(int(numbers[i]), f"expected {num_columns} columns, got {len(rows[i])}") for i in sorted(wrong)]
    if wrong:
        kept = [i for i in range(len(rows)) if i not in wrong]
        rows, numbers = [rows[i] for i in kept], numbers[kept]
    return list(zip(*rows, strict=True)) if rows else [()] * num_columns, numbers, bad
