"""Questions as TFRecord: a directory with `train-`, `valid-` and `test-` files and a manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from xdeepint_ext.data.manifest import DataError, Manifest, Shard, shard_name
from xdeepint_ext.data.qa.questions import Answer, Question

__all__ = ["load_questions", "write_questions"]

SCHEMA = "questions-1"
"""What the manifest of such a directory says in place of a schema's fingerprint."""

TEXTS = ("id", "question", "context", "source")


def write_questions(
    output_dir: str | os.PathLike[str],
    splits: Mapping[str, Sequence[Question]],
    dataset: str,
    notes: Mapping[str, Any] | None = None,
) -> Manifest:
    """Writes each split as one TFRecord file of tf.Examples, and manifest.json last.

    The columns, all bytes or int64: `id`, `question`, `context`, `source`; `answers`, `starts` with `num_starts`, how
    many of them each answer has; `alternatives` with `num_alternatives`, how many texts each alternative set has.

    Args:
      output_dir: made where it does not exist; must not hold a manifest.
      splits: split -> its questions; `train`, `valid`, `test`.
      dataset: a name.
      notes: for the manifest.

    Raises:
      FileExistsError: the directory holds prepared data already.
      DataError: a question is wrong.
      OSError: it cannot be written.
    """
    directory = os.fspath(output_dir)
    os.makedirs(directory, exist_ok=True)
    if os.path.exists(os.path.join(directory, "manifest.json")):
        raise FileExistsError(f"output_dir: {directory} holds prepared data already")
    shards = {}
    for split, questions in splits.items():
        name = shard_name(split, 0, 1)
        path = os.path.join(directory, name)
        with tf.io.TFRecordWriter(f"{path}.part") as writer:
            for question in questions:
                question.check()
                writer.write(_encode(question))
        os.replace(f"{path}.part", path)
        shards[split] = [Shard(name, len(questions), os.path.getsize(path))]
    manifest = Manifest(dataset, shards, {}, SCHEMA, notes=dict(notes or {}))
    manifest.save(directory)
    return manifest


def load_questions(data_dir: str | os.PathLike[str], split: str) -> list[Question]:
    """The questions of a split, in the file's order.

    Raises:
      DataError: the directory holds no questions, the split is empty or absent, or a record is damaged; names file and
        record.
    """
    directory = os.fspath(data_dir)
    manifest = Manifest.load(directory)
    if manifest.schema != SCHEMA:
        raise DataError(f"{directory} holds no questions: run python -m xdeepint_ext.data.qa.prepare")
    found = []
    for shard in manifest.shards(split):
        path = os.path.join(directory, shard.file)
        count = 0
        try:
            for record in tf.data.TFRecordDataset(path):
                question = _decode(record.numpy())
                question.check()
                found.append(question)
                count += 1
        except (tf.errors.DataLossError, tf.errors.NotFoundError, DecodeError, KeyError, ValueError) as error:
            raise DataError(f"{path}, record {count}: {error}") from error
        if count != shard.records:
            raise DataError(f"{path} holds {count} records, and the manifest says {shard.records}")
    return found


def _encode(question: Question) -> bytes:
    texts = {name: [getattr(question, name)] for name in TEXTS}
    texts["answers"] = list(question.answer_texts)
    texts["alternatives"] = [text for texts in question.alternatives for text in texts]
    numbers = {
        "starts": [start for answer in question.answers for start in answer.starts],
        "num_starts": [len(answer.starts) for answer in question.answers],
        "num_alternatives": [len(texts) for texts in question.alternatives],
    }
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode() for text in found]))
        for name, found in texts.items()
    } | {name: tf.train.Feature(int64_list=tf.train.Int64List(value=found)) for name, found in numbers.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _decode(record: bytes) -> Question:
    feature = tf.train.Example.FromString(record).features.feature
    texts = {name: feature[name].bytes_list.value[0].decode() for name in TEXTS if feature[name].bytes_list.value}
    missing = [name for name in TEXTS if name not in texts]
    if missing:
        raise KeyError(f"no value in the columns {missing}")
    starts = _grouped(feature["starts"].int64_list.value, feature["num_starts"].int64_list.value)
    answers = zip(feature["answers"].bytes_list.value, starts, strict=True)
    alternatives = [text.decode() for text in feature["alternatives"].bytes_list.value]
    return Question(
        texts["id"],
        texts["question"],
        texts["context"],
        tuple(Answer(text.decode(), places) for text, places in answers),
        tuple(_grouped(alternatives, feature["num_alternatives"].int64_list.value)),
        texts["source"],
    )


def _grouped(values: Sequence[Any], sizes: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """The values cut into groups of the sizes."""
    for first, last in pairwise(accumulate(sizes, initial=0)):
        yield tuple(values[first:last])
