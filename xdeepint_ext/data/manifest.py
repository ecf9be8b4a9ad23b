"""`Manifest`: what a prepared data directory holds, and the fingerprints that tie ids, checkpoints and exports."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import Any
from urllib.parse import quote

from xdeepint_ext.schema import Schema

FORMAT = 1
FILE_NAME = "manifest.json"
VOCABULARY = "vocabulary"
SPLITS = ("train", "valid", "test")


class DataError(ValueError):
    """Data on disk is missing, damaged, or does not fit its schema."""


@dataclasses.dataclass
class Shard:
    """One TFRecord file: its name in the directory, its number of records and its size in bytes."""

    file: str
    records: int
    bytes: int


@dataclasses.dataclass
class Manifest:
    """What a prepared directory holds.

    Args:
      dataset: name of the data set.
      splits: split name -> its shards, in order.
      tables: embedding table -> {"offset", "rows", "fingerprint"} (of its vocabulary; "" where it has none).
      schema: `Schema.fingerprint()`.
      compression: "" or "GZIP".
      packed: None for raw records; for materialised ones {"ids": length, "floats": length, "preprocessor":
        fingerprint}.
      lists: None for single examples; for lists (`data.write_lists`) how they were drawn.
      notes: what else is worth knowing: rows skipped and why, the best reachable AUC of synthetic data ...

    Example:
      >>> Manifest("adult", {"train": [Shard("train-00000-of-00001.tfrecord", 10, 900)]}, {}, "abc").records("train")
      10
    """

    dataset: str
    splits: dict[str, list[Shard]]
    tables: dict[str, dict[str, Any]]
    schema: str
    compression: str = ""
    packed: dict[str, Any] | None = None
    lists: dict[str, Any] | None = None
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def records(self, split: str) -> int:
        """Number of records of a split."""
        return sum(shard.records for shard in self.shards(split))

    def has(self, split: str) -> bool:
        """Whether a split is there and holds a record."""
        return any(shard.records for shard in self.splits.get(split, []))

    def shards(self, split: str) -> list[Shard]:
        """The files of a split.

        Raises:
          DataError: the split is not there, or holds no record.
        """
        if not self.has(split):
            known = {name: sum(s.records for s in found) for name, found in self.splits.items()}
            raise DataError(f"split {split!r} is empty or absent; the manifest has (records) {known}")
        return [shard for shard in self.splits[split] if shard.records]

    def table_fingerprint(self) -> str:
        """One fingerprint of all tables: equal if and only if ids mean the same."""
        return hashlib.sha256(json.dumps(self.tables, sort_keys=True).encode()).hexdigest()[:16]

    def fingerprint(self) -> str:
        """Equal data have equal ones: `table_fingerprint`, and of lists all that says how they were drawn.

        Without tables, as questions are, what the files hold: their records and bytes, and the notes.
        """
        if self.lists is None and self.tables:
            return self.table_fingerprint()
        content = {"tables": self.tables, "lists": self.lists, "notes": self.notes}
        if not self.tables:
            content["splits"] = dataclasses.asdict(self)["splits"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def save(self, data_dir: str | os.PathLike[str]) -> None:
        """Writes manifest.json."""
        with open(os.path.join(data_dir, FILE_NAME), "w", encoding="utf-8") as stream:
            json.dump({"format": FORMAT, **dataclasses.asdict(self)}, stream, indent=1)
            stream.write("\n")

    @classmethod
    def load(cls, data_dir: str | os.PathLike[str], name: str = FILE_NAME) -> Manifest:
        """Reads manifest.json.

        Args:
          data_dir: where it is.
          name: of the file; that of a run's copy is another.

        Raises:
          DataError: there is none, or it is not one that this version can read.
        """
        file = os.path.join(data_dir, name)
        if not os.path.exists(file):
            raise DataError(f"{data_dir} is not a prepared data directory: no {name}. Run xdeepint_ext.data.prepare")
        with open(file, encoding="utf-8") as stream:
            try:
                content = json.load(stream)
            except json.JSONDecodeError as error:
                raise DataError(f"{file} is not JSON: {error}") from None
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise DataError(f"{file}: expected a manifest of format {FORMAT}")
        try:
            splits = {name: [Shard(**shard) for shard in shards] for name, shards in content.pop("splits").items()}
            return cls(splits=splits, **content)
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{file} is not a manifest: {type(error).__name__} {error}") from None


def shard_name(split: str, index: int, count: int, compression: str = "") -> str:
    """File name of a shard: `train-00003-of-00016.tfrecord`, with `.gz` where compressed."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord" + (".gz" if compression else "")


def vocabulary_file(vocabulary_dir: str | os.PathLike[str], table: str) -> str:
    """Path of a table's vocabulary: one value a line, the i-th line (from 0) is id 1 + num_oov + i."""
    return os.path.join(vocabulary_dir, quote(table, safe="") + ".txt")


def describe_tables(schema: Schema, vocabulary_dir: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The manifest's `tables` for a schema and its vocabulary files."""
    with_vocabulary = {feature.table_name for feature in schema.inputs if feature.uses_vocabulary}
    described = {}
    for name, table in schema.tables.items():
        fingerprint = sha256(vocabulary_file(vocabulary_dir, name)) if name in with_vocabulary else ""
        described[name] = {"offset": table.offset, "rows": table.rows, "fingerprint": fingerprint}
    return described


def sha256(file: str | os.PathLike[str]) -> str:
    """The first 16 hex digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()[:16]
