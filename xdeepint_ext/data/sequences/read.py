"""`read_sequences`: a part of users with their items, as arrays."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.damage import READING_ERRORS
from xdeepint_ext.data.manifest import VOCABULARY, Manifest
from xdeepint_ext.data.parsing import raw_feature_spec
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.data.stream import Order, stream
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.catalogue import Catalogue

__all__ = ["Sequences", "read_sequences"]

_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Users with their items: row u has `items[item_splits[u] : item_splits[u + 1]]`, oldest first.

    It takes 4 bytes an item, whole histories, and 24 a user.

    Args:
      catalogue: whose ids these are.
      users: (n,) int64, ids; 0 where the schema has no id of the user.
      items: int32, ids; unseen items have those below `catalogue.first`.
      item_splits: (n + 1,) int64.
      targets: int32, ids of the items to be found, distinct but for unseen ones; none in a training part.
      target_splits: (n + 1,) int64.
      repeated_targets: how many were left out because a record named them twice.
    """

    catalogue: Catalogue
    users: np.ndarray
    items: np.ndarray
    item_splits: np.ndarray
    targets: np.ndarray
    target_splits: np.ndarray
    repeated_targets: int = 0

    def __len__(self) -> int:
        return len(self.users)

    def take(self, start: int, stop: int) -> Sequences:
        """The users start .. stop - 1."""
        ends = [splits[start : stop + 1] for splits in (self.item_splits, self.target_splits)]
        flat = [x[e[0] : e[-1]] for x, e in zip((self.items, self.targets), ends, strict=True)]
        return Sequences(
            self.catalogue, self.users[start:stop], flat[0], ends[0] - ends[0][0], flat[1], ends[1] - ends[1][0]
        )

    def features(self) -> dict[str, tf.Tensor]:
        """The user's inputs of a model: his id (n, 1), and the last items of his history, (n, max_length), int64."""
        found: dict[str, tf.Tensor] = {}
        if self.catalogue.user is not None:
            found[self.catalogue.user.name] = tf.constant(self.users[:, np.newaxis])
        if self.catalogue.history is not None:
            length = self.catalogue.history.length
            starts = np.maximum(self.item_splits[:-1], self.item_splits[1:] - length)[:, np.newaxis]
            places = starts + np.arange(length)
            inside = places < self.item_splits[1:, np.newaxis]
            padded = np.append(self.items, np.int32(0))
            ids = np.where(inside, padded[np.where(inside, places, len(self.items))], 0)
            found[self.catalogue.history.name] = tf.constant(ids, tf.int64)
        return found


def read_sequences(data_dir: str | os.PathLike[str], split: str, schema: Schema | None = None) -> Sequences:
    """Reads a part of a directory whose records are users, into memory as a whole; see `data.sequences.records`.

    Args:
      data_dir: what `data.prepare` wrote, such as of `gowalla` or `amazon_books`; not materialised.
      split: `train`, `valid` or `test`.
      schema: instead of the directory's: another choice of its features, or another `max_length`.

    Raises:
      DataError: the directory, split and records do not fit together; names file and record.
      SchemaError: the schema is none of users with their items.

    Example:
      >>> from xdeepint_ext.data.prepare import prepare
      >>> _ = prepare("gowalla", raw_dir="lightgcn/gowalla", output_dir="gowalla")  # doctest: +SKIP
      >>> len(read_sequences("gowalla", "test"))  # doctest: +SKIP
      29858
    """
    data_dir = os.fspath(data_dir)
    manifest = Manifest.load(data_dir)
    schema = schema or Schema.load(data_dir)
    catalogue = Catalogue.of(schema)
    ids = _Ids(catalogue, os.path.join(data_dir, VOCABULARY))
    dataset = stream(data_dir, manifest, split, _AT_ONCE, ids.parser(schema), Order())
    parts: list[list[np.ndarray]] = []
    try:
        for part in dataset:
            parts.append([x.numpy() for x in part])
    except READING_ERRORS as error:
        raise dataset.explain(error) from error
    users, items, lengths, targets, numbers = (np.concatenate(found) for found in zip(*parts, strict=True))
    targets, target_splits, repeated = _distinct(targets, numbers, catalogue.first)
    return Sequences(
        catalogue, users, items.astype(np.int32), _splits(lengths), targets.astype(np.int32), target_splits, repeated
    )


class _Ids:
    """Raw columns of a batch of records -> flat ids, by the look-ups of a model's own `Preprocessor`."""

    def __init__(self, catalogue: Catalogue, vocabulary_dir: str) -> None:
        self._catalogue = catalogue
        sources = {"item": catalogue.item, "user": catalogue.user}
        self._schema = Schema(_one_id(name, source) for name, source in sources.items() if source is not None)
        self._preprocessor = Preprocessor(self._schema, vocabulary_dir)

    def parser(self, schema: Schema) -> Any:
        """Serialized records -> (users, items, how many, targets, how many)."""
        spec = raw_feature_spec(schema)
        user, history, item = self._catalogue.user, self._catalogue.history, self._catalogue.item

        @tf.autograph.experimental.do_not_convert
        def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
            raw = tf.io.parse_example(serialized, spec)
            targets = raw[item.raw_name]
            items = raw[history.raw_name] if history is not None else targets[:, :0]
            count = tf.size(items.flat_values)
            flat = self._look_up("item", tf.concat([items.flat_values, targets.flat_values], 0))
            users = (
                tf.zeros(tf.shape(serialized), tf.int64) if user is None else self._look_up("user", raw[user.raw_name])
            )
            return users, flat[:count], items.row_lengths(), flat[count:], targets.row_lengths()

        return parse

    def _look_up(self, name: str, values: tf.Tensor) -> tf.Tensor:
        found = self._preprocessor.part({name: values}, self._schema.select([name]))
        return tf.reshape(found[name], [-1])


def _one_id(name: str, feature: Feature) -> Feature:
    """A feature of one id in the table of another."""
    options = {**feature.options(), "kind": "categorical", "table": feature.table_name}
    left_out = ("max_length", "source", "combiner", "role", "required")
    return Feature(name, **{option: value for option, value in options.items() if option not in left_out})


def _splits(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _distinct(targets: np.ndarray, lengths: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Targets without those that a record names again, row splits, and how many these were.

    Unseen items share an id, so that nothing is known about their being distinct: all stay.
    """
    rows = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((targets, rows))
    same = (np.diff(rows[order], prepend=-1) == 0) & (np.diff(targets[order], prepend=-1) == 0)
    again = np.zeros(len(targets), bool)
    again[order] = same & (targets[order] >= first)
    kept = np.bincount(rows[~again], minlength=len(lengths))
    return targets[~again], _splits(kept), int(again.sum())
