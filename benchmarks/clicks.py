"""Generated clicks: ids by Zipf's law, in memory and as a prepared directory of raw, named, string-valued records."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.settings import ZIPF, Setting
from xdeepint_ext.data.manifest import VOCABULARY, Manifest, describe_tables, vocabulary_file
from xdeepint_ext.data.records import encode_feature, frame_examples
from xdeepint_ext.data.writer import ShardWriter
from xdeepint_ext.schema import Feature, Schema

_SHARDS = 4
_BLOCK = 16_384


def draw(setting: Setting, records: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (records, fields) int32, rank 0 the most frequent, and labels (records, 1) float32 that depend on them."""
    rng = np.random.default_rng(0)
    weights = np.arange(1, setting.ids_per_field + 1, dtype=np.float64) ** -ZIPF
    cumulative = np.cumsum(weights / weights.sum())
    drawn = np.searchsorted(cumulative, rng.random((records, setting.fields)))
    ranks = np.minimum(drawn, setting.ids_per_field - 1).astype(np.int32)
    effects = rng.normal(scale=0.5, size=(setting.fields, setting.ids_per_field)).astype(np.float32)
    score = effects[np.arange(setting.fields), ranks].sum(axis=1, keepdims=True)
    return ranks, (rng.random((records, 1)) < 1 / (1 + np.exp(-score))).astype(np.float32)


def make_schema(setting: Setting) -> Schema:
    """Categorical string features C01, C02 ... and a label."""
    names = [f"C{i + 1:02d}" for i in range(setting.fields)]
    features = [Feature(name, num_values=setting.ids_per_field) for name in names]
    return Schema([*features, Feature("label", "numeric", "label")])


def write_raw(setting: Setting, ranks: np.ndarray, labels: np.ndarray, directory: str) -> None:
    """Writes what `data.prepare` would: shards, the vocabularies of all ids, schema and manifest."""
    schema = make_schema(setting)
    vocabulary_dir = os.path.join(directory, VOCABULARY)
    os.makedirs(vocabulary_dir)
    entries = []
    for number, feature in enumerate(schema.inputs):
        values = _values(setting, number)
        with open(vocabulary_file(vocabulary_dir, feature.table_name), "wb") as stream:
            stream.write(b"\n".join(values.tolist()) + b"\n")
        seen, places = np.unique(ranks[:, number], return_inverse=True)
        encoded = [encode_feature(feature.name, "string", [value]) for value in values[seen].tolist()]
        entries.append((np.array(encoded, dtype=object), places))
    encoded = [encode_feature("label", "float", [label]) for label in (0.0, 1.0)]
    entries.append((np.array(encoded, dtype=object), labels[:, 0].astype(np.int64)))
    writer = ShardWriter(directory, _SHARDS, "")
    for lane, start in enumerate(range(0, len(ranks), _BLOCK)):
        columns = [table[places[start : start + _BLOCK]].tolist() for table, places in entries]
        records = [b"".join(parts) for parts in zip(*columns, strict=True)]
        writer.add([("train", lane % _SHARDS, len(records), frame_examples(records))])
    schema.save(directory)
    tables = describe_tables(schema, vocabulary_dir)
    Manifest("benchmark", writer.finish(), tables, schema.fingerprint()).save(directory)


def _values(setting: Setting, field: int) -> np.ndarray:
    """The field's values by rank: eight hexadecimal digits, as in Criteo's files; all different."""
    numbers = np.arange(setting.ids_per_field, dtype=np.uint64) + np.uint64(field * setting.ids_per_field)
    mixed = (numbers * np.uint64(2654435761) % np.uint64(2**32)).astype(">u4")
    return np.frombuffer(mixed.tobytes().hex().encode(), "S8")
