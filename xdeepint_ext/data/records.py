"""tf.Example and lists of them on the wire, made by hand from cached pieces; TFRecords with a vectorised CRC-32C.

A column's value repeats far more often than it changes, so the bytes of `features { feature { key: ... value: ... }
}` are made once for each distinct value and joined for each record. That costs a few microseconds a record of 40
columns; building a protobuf costs some 60. See https://protobuf.dev/programming-guides/encoding/ and
tensorflow/core/lib/io/record_writer.h. ExampleListWithContext is in tensorflow_serving/apis/input.proto: examples = 1
(repeated), context = 2.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

__all__ = ["crc32c", "encode_example_list", "encode_feature", "frame_examples", "frame_records", "packed_features"]

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
_GROUP = 4096


def encode_feature(name: str, dtype: str, values: Iterable[Any]) -> bytes:
    """One entry of a tf.Example's feature map.

    Args:
      name: the feature.
      dtype: `string` (values are bytes), `int` or `float`.
      values: any number of them.

    Returns:
      The entry's bytes; the concatenation of entries is a serialized `tf.train.Features`.
    """
    if dtype == "string":
        return _entry(name, 1, b"".join([_first_field(len(value)) + value for value in values]))
    if dtype == "float":
        return _packed_entry(name, 2, np.asarray(list(values), "<f4").tobytes())
    return _packed_entry(name, 3, b"".join([_varint(value % 2**64) for value in values]))


def packed_features(ids_name: str, ids: np.ndarray | None, floats_name: str, floats: np.ndarray | None) -> list[bytes]:
    """Serialized `tf.train.Features` of records that hold one int vector and one float vector.

    Args:
      ids_name: name of the int vector.
      ids: (n, num_ids) int64, or None.
      floats_name: name of the float vector.
      floats: (n, num_floats) float32, or None.

    Returns:
      One for each of the n rows.
    """
    parts = []
    if ids is not None:
        parts.append([_packed_entry(ids_name, 3, row) for row in _varint_rows(ids)])
    if floats is not None:
        packed = np.ascontiguousarray(floats, "<f4")
        parts.append([_packed_entry(floats_name, 2, row.tobytes()) for row in packed])
    return list(map(b"".join, zip(*parts, strict=True)))


def _packed_entry(name: str, kind: int, packed: bytes) -> bytes:
    return _entry(name, kind, _first_field(len(packed)) + packed if packed else b"")


def _entry(name: str, kind: int, content: bytes) -> bytes:
    """The entry of a feature; `kind` is the list's field number in tf.train.Feature, `content` the list's bytes."""
    return _entry_head(name, kind, len(content)) + content


@functools.lru_cache(1 << 16)
def _entry_head(name: str, kind: int, length: int) -> bytes:
    """All of an entry that stands before the list's content: it depends on the content's length alone."""
    content = bytes(length)
    entry = _field(1, _field(1, name.encode()) + _field(2, _field(kind, content)))
    return entry[: len(entry) - length]


def _varint_rows(values: np.ndarray) -> list[bytes]:
    """Each row as varints, one after another."""
    left = values.astype(np.int64).view(np.uint64)[:, :, None]
    most_bits = int(left.max(initial=0)).bit_length()
    rest = left >> np.arange(0, max(most_bits, 1), 7, dtype=np.uint64)
    used = rest > 0
    used[:, :, 0] = True
    follows = np.zeros_like(used)
    follows[:, :, :-1] = used[:, :, 1:]
    content = ((rest & np.uint64(127)) | (follows.astype(np.uint64) << np.uint64(7))).astype(np.uint8)
    ends = np.cumsum(used.sum((1, 2))).tolist()
    data = content[used].tobytes()
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def frame_examples(features: Sequence[bytes]) -> bytes:
    """TFRecords, ready to be appended to a file, of tf.Examples whose serialized `tf.train.Features` are given."""
    return frame_records([_first_field(len(content)) + content for content in features])


def encode_example_list(context: bytes, items: Iterable[bytes]) -> bytes:
    """An `ExampleListWithContext` (ELWC), whose examples and context are tf.Examples.

    Args:
      context: serialized `tf.train.Features`.
      items: one a piece for the examples, in their order.
    """
    pieces: list[bytes] = []
    for features in items:
        # The example's content is its one field, with a head of its own.
        head = _first_field(len(features))
        pieces += (_first_field(len(head) + len(features)), head, features)
    return b"".join(pieces) + _field(2, _first_field(len(context)) + context)


def frame_records(records: Sequence[bytes]) -> bytes:
    """TFRecords, ready to be appended to a file."""
    headers = [_record_header(len(record)) for record in records]
    footers = _mask(crc32c(records)).astype("<u4").view("V4").tolist()
    return b"".join(chain.from_iterable(zip(headers, records, footers, strict=True)))


def crc32c(records: Sequence[bytes]) -> np.ndarray:
    """CRC-32C (uint32) of each record, all records in lockstep, four bytes a step.

    The register starts at 0 here, where leading zeros change nothing: so records are padded in front to a common
    length. What a start at 0xFFFFFFFF adds depends on the length alone.
    """
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    low, high = _tables()
    result = np.empty(len(records), np.uint32)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), _GROUP):
        group = order[start : start + _GROUP]
        width = -(-int(lengths[group[-1]]) // 4) * 4
        padded = b"".join([records[i].rjust(width, b"\0") for i in group.tolist()])
        words = np.ascontiguousarray(np.frombuffer(padded, "<u4").reshape(len(group), -1).T)
        state = np.zeros(len(group), np.uint32)
        for word in words:
            state ^= word
            state = low[state & 0xFFFF] ^ high[state >> 16]
        result[group] = state
    return ~(result ^ _start_effect(int(lengths.max(initial=0)))[lengths])


def _mask(crc: np.ndarray) -> np.ndarray:
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


def _step(state: np.ndarray, zero_bytes: int) -> np.ndarray:
    for _ in range(8 * zero_bytes):
        state = (state >> 1) ^ np.where(state & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return state


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The register after four zero bytes, by its lower and by its upper half."""
    halves = np.arange(65536, dtype=np.uint32)
    return _step(halves, 4), _step(halves << np.uint32(16), 4)


@functools.cache
def _start_effects() -> list[np.ndarray]:
    return [np.array([0xFFFFFFFF], np.uint32)]


def _start_effect(length: int) -> np.ndarray:
    """The register that starts at 0xFFFFFFFF after 0, 1, ... `length` (or more) zero bytes."""
    cache = _start_effects()
    if len(cache[0]) <= length:
        table = _step(np.arange(256, dtype=np.uint32), 1).tolist()
        states = cache[0].tolist()
        while len(states) <= 2 * length:
            states.append(table[states[-1] & 0xFF] ^ (states[-1] >> 8))
        cache[0] = np.array(states, np.uint32)
    return cache[0]


@functools.lru_cache(1 << 14)
def _record_header(length: int) -> bytes:
    head = struct.pack("<Q", length)
    return head + _mask(crc32c([head])).astype("<u4").tobytes()


@functools.lru_cache(1 << 14)
def _first_field(length: int) -> bytes:
    """What stands before the content of field number 1 with a content of this length."""
    return b"\x0a" + _varint(length)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    if value < 128:
        return bytes([value])
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
