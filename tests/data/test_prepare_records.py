"""The bytes that `prepare` writes by hand are those that TensorFlow reads."""

import gzip
import pathlib
import struct

import numpy as np
import pytest
import tensorflow as tf

from tests.data.prepared import values
from xdeepint_ext.data.records import crc32c, encode_feature, frame_examples, packed_features

INT64 = [0, 1, 127, 128, 16383, 16384, 2**31, 2**62, 2**63 - 1, -1, -(2**63) + 1]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("string", [b"a", "\u00e9".encode(), b"\xff\x00", b"x" * 300]),
        ("string", []),
        ("int", INT64),
        ("int", []),
        ("float", [0.0, -1.5, float(np.float32(3.1)), float(np.finfo(np.float32).max)]),
        ("float", []),
    ],
)
def test_entry_is_what_protobuf_reads(dtype: str, expected: list) -> None:
    features = tf.train.Features.FromString(encode_feature("a name \u00e9", dtype, expected))
    assert list(features.feature) == ["a name \u00e9"]
    kind = {"string": "bytes_list", "int": "int64_list", "float": "float_list"}[dtype]
    assert features.feature["a name \u00e9"].WhichOneof("kind") == kind
    assert values(features.feature["a name \u00e9"]) == expected


def test_records_are_byte_for_byte_tensorflows(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    # More than one group of the lockstep checksum, lengths from 0 to beyond a varint of two bytes.
    features = [
        encode_feature("v", "string", [rng.bytes(n)]) if n else b"" for n in [*range(300), *([40] * 4200), 20000]
    ]
    path = str(tmp_path / "theirs")
    with tf.io.TFRecordWriter(path) as writer:
        for content in features:
            example = tf.train.Example(features=tf.train.Features.FromString(content))
            writer.write(example.SerializeToString(deterministic=True))
    assert frame_examples(features) == pathlib.Path(path).read_bytes()


def test_checksum_is_the_one_of_rfc_3720() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, of ones, ascending, descending.
    rows = [bytes(32), b"\xff" * 32, bytes(range(32)), bytes(range(31, -1, -1))]
    expected = [0x8A9136AA, 0x62A8AB43, 0x46DD794E, 0x113FDB5C]
    assert crc32c(rows).tolist() == expected
    assert crc32c([b""]).tolist() == [0]


def test_gzip_members_one_after_another_are_one_file(tmp_path: pathlib.Path) -> None:
    parts = [frame_examples([encode_feature("v", "int", [i])]) for i in range(3)]
    (tmp_path / "x.gz").write_bytes(b"".join(gzip.compress(part, mtime=0) for part in parts))
    found = [
        tf.train.Example.FromString(record).features.feature["v"].int64_list.value[0]
        for record in tf.data.TFRecordDataset(str(tmp_path / "x.gz"), "GZIP").as_numpy_iterator()
    ]
    assert found == [0, 1, 2]


@pytest.mark.parametrize("largest", [1, 127, 128, 2**20, 2**63 - 1])
def test_packed_vectors(largest: int) -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, largest, (50, 7), np.int64, endpoint=True)
    floats = rng.standard_normal((50, 3)).astype(np.float32)
    rows = packed_features("ids", ids, "floats", floats)
    for row, expected_ids, expected_floats in zip(rows, ids, floats, strict=True):
        feature = tf.train.Features.FromString(row).feature
        assert values(feature["ids"]) == expected_ids.tolist()
        assert values(feature["floats"]) == expected_floats.tolist()


def test_packed_vectors_of_negative_ids_and_of_one_kind_only() -> None:
    ids = np.array([INT64, INT64[::-1]])
    rows = packed_features("ids", ids, "floats", None)
    assert [values(tf.train.Features.FromString(row).feature["ids"]) for row in rows] == ids.tolist()
    (row,) = packed_features("ids", None, "floats", np.array([[1.5]], np.float32))
    assert list(tf.train.Features.FromString(row).feature) == ["floats"]


def test_the_frame_holds_the_length() -> None:
    framed = frame_examples([b"", encode_feature("v", "int", [7])])
    first = struct.unpack("<Q", framed[:8])[0]
    assert first == len(tf.train.Example(features=tf.train.Features()).SerializeToString())
