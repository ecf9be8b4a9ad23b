"""The catalogue beside the lists: the features of every item that can be drawn, as tf.Examples."""

from __future__ import annotations

import os
from collections.abc import Callable

import tensorflow as tf

from xdeepint_ext.data.manifest import VOCABULARY, DataError
from xdeepint_ext.data.parsing import raw_feature_spec
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.data.records import frame_examples
from xdeepint_ext.schema import Schema

__all__ = ["CATALOGUE", "read_catalogue", "write_catalogue"]

CATALOGUE = "catalogue.tfrecord"
_AT_ONCE = 4096


def write_catalogue(directory: str, encode: Callable[[int], bytes], size: int) -> None:
    """Writes all items in their order.

    Args:
      directory: of the lists.
      encode: position -> serialized `tf.train.Features`.
      size: how many items there are.
    """
    with open(os.path.join(directory, CATALOGUE), "wb") as stream:
        for start in range(0, size, _AT_ONCE):
            stream.write(frame_examples([encode(i) for i in range(start, min(start + _AT_ONCE, size))]))


def read_catalogue(data_dir: str | os.PathLike[str], schema: Schema | None = None) -> dict[str, tf.Tensor]:
    """Features of every item that could be drawn for the lists of a directory, as the item tower takes them.

    Args:
      data_dir: what `write_lists` wrote.
      schema: instead of the directory's: another choice of features of the same columns.

    Returns:
      Features of items (N, length), and `item_ids` (N,), as `read_lists` gives them for the items of lists.

    Raises:
      DataError: the directory has no catalogue.

    Example:
      >>> items = read_catalogue("lists")  # doctest: +SKIP
      >>> representations = model.item_tower(items)  # doctest: +SKIP
    """
    data_dir = os.fspath(data_dir)
    file = os.path.join(data_dir, CATALOGUE)
    if not os.path.exists(file):
        raise DataError(f"{data_dir} has no {CATALOGUE}: write_lists writes it beside the lists")
    preprocessor = Preprocessor(schema or Schema.load(data_dir), os.path.join(data_dir, VOCABULARY))
    items = Schema(f for f in preprocessor.schema if set(f.roles) & {"item", "item_id"})
    spec = raw_feature_spec(items)
    blocks = tf.data.TFRecordDataset(file).batch(_AT_ONCE)
    parts = [preprocessor.part(tf.io.parse_example(block, spec), items) for block in blocks]
    return {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]}
