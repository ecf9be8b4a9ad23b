"""Small prepared directories, made with TensorFlow's own record writer rather than with `data.prepare`."""

import os

import numpy as np
import tensorflow as tf

from xdeepint_ext.data import Manifest, Preprocessor
from xdeepint_ext.data.manifest import Shard, describe_tables, shard_name, vocabulary_file
from xdeepint_ext.data.packing import Packing
from xdeepint_ext.data.parsing import labels_and_weights, raw_feature_spec
from xdeepint_ext.schema import Feature, Schema

CITIES = ("oslo", "bern", "rome")
SCHEMA = Schema(
    [
        Feature("number", "numeric", scaling="none"),
        Feature("city", num_values=len(CITIES)),
        Feature("tags", "multi", dtype="int", lookup="identity", num_values=9, max_length=3),
        Feature("click", "numeric", "label"),
    ]
)


def record(i):
    """Record i of SCHEMA; `number` tells which one it is."""
    tags = [j % 9 for j in range(i % 4)]
    return {"number": float(i), "city": (*CITIES, "paris")[i % 4], "tags": tags, "click": float(i % 3 == 0)}


def example(values):
    """A serialized tf.Example of strings, ints and floats, single or in lists; None = absent."""
    features = {}
    for name, value in values.items():
        if value is None:
            continue
        value = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
        if value and isinstance(value[0], str):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in value]))
        elif value and isinstance(value[0], float):
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=value))
        else:
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_file(path, payloads):
    """One TFRecord file, gzip by its ending."""
    options = tf.io.TFRecordOptions(compression_type="GZIP" if str(path).endswith(".gz") else "")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for payload in payloads:
            writer.write(payload)


def write(folder, shards, *, schema=SCHEMA, split="train", compression="", vocabularies=None):
    """A prepared directory whose `split` has these shards, lists of records (dicts) or of payloads (bytes)."""
    folder.mkdir(exist_ok=True)
    vocabulary = folder / "vocabulary"
    vocabulary.mkdir(exist_ok=True)
    for table, words in ({"city": CITIES} if vocabularies is None else vocabularies).items():
        with open(vocabulary_file(vocabulary, table), "w", encoding="utf-8") as stream:
            stream.writelines(f"{word}\n" for word in words)
    described = []
    for index, shard in enumerate(shards):
        payloads = [row if isinstance(row, bytes) else example(row) for row in shard]
        name = shard_name(split, index, len(shards), compression)
        write_file(folder / name, payloads)
        described.append(Shard(name, len(payloads), os.path.getsize(folder / name)))
    schema.save(folder)
    tables = describe_tables(schema, vocabulary)
    manifest = Manifest("test", {split: described}, tables, schema.fingerprint(), compression)
    manifest.save(folder)
    return folder


def numbered(folder, counts, **options):
    """A directory of `record(0)`, `record(1)` ..., `counts` of them a shard."""
    ends = np.cumsum(counts)
    return write(folder, [[record(i) for i in range(e - n, e)] for n, e in zip(counts, ends, strict=True)], **options)


def materialise(source, target):
    """The same records packed: the Preprocessor's output as one id vector and one float vector."""
    schema, manifest = Schema.load(source), Manifest.load(source)
    preprocess, packing = Preprocessor(schema, source / "vocabulary"), Packing(schema)
    spec, (split,) = raw_feature_spec(schema), manifest.splits
    shards = []
    for shard in manifest.shards(split):
        payloads = list(tf.data.TFRecordDataset(str(source / shard.file)).as_numpy_iterator())
        raw = tf.io.parse_example(payloads, spec)
        packed = packing.pack(preprocess(raw), *labels_and_weights(schema, raw))
        shards.append(
            [{name: value.numpy()[i].tolist() for name, value in packed.items()} for i in range(len(payloads))]
        )
    write(target, shards, schema=schema, split=split)
    manifest = Manifest.load(target)
    manifest.packed = {"ids": packing.num_ids, "floats": packing.num_floats, "preprocessor": preprocess.fingerprint()}
    manifest.save(target)
    return target


def numbers(dataset):
    """The `number` of every record, batch by batch."""
    return [batch[0]["number"].numpy()[:, 0].astype(int).tolist() for batch in dataset]


def flat(batches):
    """All batches as one list."""
    return [number for batch in batches for number in batch]
