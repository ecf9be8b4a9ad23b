"""What the tests of `prepare` share: reading a prepared directory back with TensorFlow's own parser."""

import pathlib
from typing import Any

import tensorflow as tf

from xdeepint_ext.data.manifest import Manifest, vocabulary_file


def records(data_dir: pathlib.Path, split: str) -> list[dict[str, Any]]:
    """Every record of a split: feature -> list of values; absent features are absent."""
    manifest = Manifest.load(data_dir)
    files = [str(data_dir / shard.file) for shard in manifest.splits.get(split, [])]
    found = []
    for serialized in tf.data.TFRecordDataset(files, manifest.compression).as_numpy_iterator() if files else []:
        example = tf.train.Example.FromString(serialized)
        found.append({name: values(feature) for name, feature in example.features.feature.items()})
    return found


def values(feature: tf.train.Feature) -> list[Any]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value)


def ordered(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records in an order of their own: training records are dealt to shards at random."""
    return sorted(found, key=lambda record: str(sorted(record.items())))


def all_records(data_dir: pathlib.Path) -> list[dict[str, Any]]:
    return [record for split in ("train", "valid", "test") for record in records(data_dir, split)]


def vocabulary(data_dir: pathlib.Path, table: str) -> list[str]:
    return pathlib.Path(vocabulary_file(data_dir / "vocabulary", table)).read_text("utf-8").splitlines()


def contents(data_dir: pathlib.Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {str(p.relative_to(data_dir)): p.read_bytes() for p in sorted(data_dir.rglob("*")) if p.is_file()}
