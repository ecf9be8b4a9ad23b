"""Finding damaged records: which file, which record, what is wrong; and copies of files without them."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.data.manifest import DataError

# A record: length (8 bytes), its checksum (4), the data, its checksum (4).
_HEAD, _TAIL = 12, 4
Parse = Callable[[tf.Tensor], Any]
# TensorFlow puts a damaged record's bytes into its message, which then may be no text.
READING_ERRORS = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeDecodeError)


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """One damaged record.

    Args:
      file: path of the file.
      record: its index in the file, from 0.
      reason: what is wrong with it.
      lost: further records that cannot be read because of it.
    """

    file: str
    record: int
    reason: str
    lost: int = 0

    def __str__(self) -> str:
        rest = f"; {self.lost} records behind it are lost with it" if self.lost else ""
        return f"{self.file}, record {self.record}: {self.reason}{rest}"


def inspect(file: str, records: int, parse: Parse) -> tuple[list[bytes], list[BadRecord]]:
    """Reads a file record by record.

    Args:
      file: a TFRecord file, gzip by its ending `.gz`.
      records: how many it should hold.
      parse: serialized batch -> anything; raises where a record does not fit.

    Returns:
      (the good records, the bad ones), both in order.
    """
    content, broken = _content(file)
    framed = list(_frames(content))
    sound = _checksums_hold(content, framed)
    bad = [BadRecord(file, i, "its checksum does not match: corrupted") for i, fine in enumerate(sound) if not fine]
    kept = [(i, content[start:end]) for i, ((start, end), fine) in enumerate(zip(framed, sound, strict=True)) if fine]
    misfits = dict(_misfits(kept, parse))
    bad += [BadRecord(file, i, reason) for i, reason in misfits.items()]
    if len(framed) < records:
        reason = broken or "truncated or corrupted: no whole record starts here"
        bad.append(BadRecord(file, len(framed), reason, records - len(framed) - 1))
    good = [payload for i, payload in kept if i not in misfits]
    return good, sorted(bad, key=lambda record: record.record)


def repair(file: str, records: int, parse: Parse, directory: str) -> tuple[str, int, list[BadRecord]]:
    """A file's good records: the file itself where all are, else an uncompressed copy without the bad ones.

    Returns:
      (path, its number of records, the bad ones).
    """
    if _reads_well(file, records, parse):
        return file, records, []
    good, bad = inspect(file, records, parse)
    handle, copy = tempfile.mkstemp(suffix=".tfrecord", dir=directory)
    os.close(handle)
    _write(copy, good)
    return copy, len(good), bad


def name_damage(dataset: tf.data.Dataset, files: Sequence[tuple[str, int]], parse: Parse) -> tf.data.Dataset:
    """The dataset, whose iteration from Python explains a reading error: a `DataError` that names file and record.

    Where a graph iterates, its caller can do the same: `dataset.explain(error)` is the error to raise instead.

    Records carry no name of their own on the way, which would cost more than reading them; the files are searched when
    an error has come.
    """
    kind = type(dataset)

    def __iter__(self: Any) -> Any:
        iterator = kind.__iter__(self)
        iterator.__class__ = _naming(type(iterator), files, parse)
        return iterator

    dataset.__class__ = type(kind.__name__, (kind,), {"__iter__": __iter__})
    dataset.explain = lambda error: explain(error, files, parse)
    return dataset


def _naming(kind: Any, files: Sequence[tuple[str, int]], parse: Parse) -> type:
    def __next__(self: Any) -> Any:
        try:
            return kind.__next__(self)
        except READING_ERRORS as error:
            raise explain(error, files, parse) from error

    return type(kind.__name__, (kind,), {"__next__": __next__})


def explain(error: Exception, files: Sequence[tuple[str, int]], parse: Parse) -> Exception:
    """A `DataError` that names the first bad record, or the error itself where the files are sound."""
    for file, records in files:
        if not _reads_well(file, records, parse):
            _, bad = inspect(file, records, parse)
            if bad:
                return DataError(f"{bad[0]} (max_bad_records skips such records)")
    return error


def _reads_well(file: str, records: int, parse: Parse) -> bool:
    """Whether the whole file reads and parses: the quick way, in TensorFlow's own reader."""
    seen = 0
    try:
        for batch in tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "").batch(1024):
            parse(batch)
            seen += int(tf.size(batch))
    except (tf.errors.OpError, UnicodeDecodeError):
        return False
    return seen == records


def _content(file: str) -> tuple[bytes, str]:
    """The uncompressed bytes, as far as they can be had, and what went wrong."""
    if not file.endswith(".gz"):
        with open(file, "rb") as stream:
            return stream.read(), ""
    parts: list[bytes] = []
    with gzip.open(file, "rb") as stream:
        try:
            while block := stream.read(1 << 16):
                parts.append(block)
        except (EOFError, OSError, zlib.error) as error:
            return b"".join(parts), f"the gzip stream is damaged: {error}"
    return b"".join(parts), ""


def _frames(content: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of every record's data, up to where the framing breaks."""
    at = 0
    while at + _HEAD <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        end = at + _HEAD + length
        if end + _TAIL > len(content) or struct.unpack_from("<I", content, at + 8)[0] != _masked_crc(
            content[at : at + 8]
        ):
            return
        yield at + _HEAD, end
        at = end + _TAIL


def _checksums_hold(content: bytes, framed: list[tuple[int, int]]) -> list[bool]:
    """Compares with what TensorFlow's own writer gives for the same data: a checksum in Python would take minutes."""
    with tempfile.TemporaryDirectory() as directory:
        copy = os.path.join(directory, "copy")
        _write(copy, [content[start:end] for start, end in framed])
        with open(copy, "rb") as stream:
            written = stream.read()
    return [content[end : end + _TAIL] == written[end : end + _TAIL] for _, end in framed]


def _write(file: str, payloads: list[bytes]) -> None:
    with tf.io.TFRecordWriter(file) as writer:
        for payload in payloads:
            writer.write(payload)


def _misfits(records: list[tuple[int, bytes]], parse: Parse, most: int = 1024) -> Iterator[tuple[int, str]]:
    """(index, reason) of the records that do not parse, by halving the batches that do not."""
    for start in range(0, len(records), most):
        batch = records[start : start + most]
        try:
            parse(tf.constant([payload for _, payload in batch]))
        except UnicodeDecodeError:
            reason = "it is no tf.Example"
        except tf.errors.OpError as error:
            reason = plain(str(error.message))
        else:
            continue
        if len(batch) == 1:
            yield batch[0][0], reason
        else:
            yield from _misfits(batch, parse, max(len(batch) // 2, 1))


def plain(message: str) -> str:
    """TensorFlow's message without node names, and without Python's notation for its bytes."""
    message = re.sub(r"\{\{.*?\}\}\s*|\[Op:\w+\]( name:)?|Name: <unknown>, |Summarized data: ", "", message)
    message = re.sub(
        r"Expected 'tf\.Tensor\(False, shape=\(\), dtype=bool\)' to be true\.|assertion failed:", "", message
    )
    message = re.sub(r"\bb(['\"])(.*?)(?<!\\)\1", r"\2", message).replace("\\'", "'")
    return " ".join(message.split()).strip(" .")


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def _masked_crc(data: bytes) -> int:
    """TFRecord's masked CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
