"""`read_lists`: a directory of lists -> a `tf.data.Dataset` of (features, labels), a list a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2

from xdeepint_ext.data.lists.draw import IMPRESSION
from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest
from xdeepint_ext.data.parsing import raw_feature_spec
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.data.shares import BatchShare
from xdeepint_ext.data.stream import Order, stream
from xdeepint_ext.schema import Feature, Schema

__all__ = ["STAGES", "read_lists"]

STAGES = ("impression", "candidate", "random")
"""Names of the stages 0, 1, 2."""
SHUFFLE_BUFFER = 4096
_OF_ITEMS = ("item", "item_id", "label", "stage", "teacher", "soft_label")
_PADDING = {"stages": -1, "item_ids": -1}


def read_lists(
    data_dir: str | os.PathLike[str],
    split: str,
    batch_size: int,
    *,
    list_size: int | None = None,
    stages: Sequence[str] = STAGES,
    ragged: bool = False,
    shuffle: bool = False,
    epochs: int | None = 1,
    deterministic: bool = True,
    seed: int = 0,
    start_step: int = 0,
    input_context: tf.distribute.InputContext | None = None,
    max_bad_records: int = 0,
    schema: Schema | None = None,
    cache: bool = False,
    drop_remainder: bool = False,
    shuffle_buffer: int = SHUFFLE_BUFFER,
    parallelism: int | None = None,
    share: BatchShare | None = None,
    equal_steps: bool = False,
) -> tf.data.Dataset:
    """Batches of U lists, parsed at once and preprocessed on the host; order and resumption as with `read`.

    Args:
      data_dir: what `write_lists` wrote.
      split: `train`, `valid`, `test`.
      batch_size: lists of the global batch.
      list_size: n, the places of a list. None = the longest list of the batch; a number makes shapes static, and a
        longer list is an error.
      stages: items of other stages are left out; such a test set is `("impression",)`.
      ragged: items as `tf.RaggedTensor` rather than padded.
      shuffle: order of files and lists drawn anew for each epoch.
      epochs: how many, counted from epoch 0; None = without end.
      deterministic: False lets parallel steps overtake each other.
      seed: of the order.
      start_step: batches taken before (all epochs together).
      input_context: of `tf.distribute`.
      max_bad_records: damaged or unfit lists that may be skipped; by default they are an error.
      schema: instead of the directory's: another choice of features of the same columns.
      cache: keep the preprocessed split in memory, which needs a list_size.
      drop_remainder: leave out the short batch at the end of an epoch.
      shuffle_buffer: lists of a shuffle window.
      parallelism: batches parsed at a time and files read at a time; default: the number of cores.
      share: the parts of every batch, of those that one worker would have, that are given; default: all.
      equal_steps: empty batches where another worker of the `input_context` has more lists.

    Returns:
      A dataset of (features, labels) with the attributes of `read`'s. Features of users, and the side input
      `group_ids`, are as `read` has them, (U, length). Those of items have a rank more, (U, n, length); `stages`,
      `teacher` (NaN where there is no score), `soft_label`, `item_ids` are (U, n). Labels: float32 (U, n) grades, -1
      behind the end of a list, or a dict of it by task. Padding has id 0, number 0, stage and item id -1. `list_mask`
      (U, n) is True where there is an item; ragged lists need none.

    Raises:
      ValueError: an argument is out of range.
      DataError: the directory, split, schema and records do not fit together, or a record is damaged, an impression
        without a teacher's score, or longer than list_size; names file and record.

    Example:
      >>> features, labels = next(iter(read_lists("lists", "train", 256, shuffle=True)))  # doctest: +SKIP
    """
    if list_size is not None and list_size < 1:
        raise ValueError(f"list_size must be > 0, got {list_size}")
    if cache and (list_size is None or ragged):
        raise ValueError("cache needs a list_size, and no ragged lists: batches must be of one shape")
    data_dir = os.fspath(data_dir)
    manifest = Manifest.load(data_dir)
    if manifest.lists is None:
        raise DataError(f"{data_dir} holds single examples, not lists: read reads them, write_lists makes lists")
    own = Schema.load(data_dir, overlay="")
    if own.fingerprint() != manifest.schema:
        raise DataError(
            f"{data_dir}: schema.pbtxt is not the one that the manifest was written with (fingerprints "
            f"{own.fingerprint()} and {manifest.schema}); give another choice of features as `schema`, or in roles.yaml"
        )
    preprocessor = Preprocessor(schema or Schema.load(data_dir), os.path.join(data_dir, VOCABULARY))
    dataset = stream(
        data_dir,
        manifest,
        split,
        batch_size,
        _parser(preprocessor, list_size, _stage_numbers(stages, preprocessor.schema), ragged),
        Order(
            *(shuffle, epochs, deterministic, seed, start_step, drop_remainder, shuffle_buffer, parallelism),
            share=share or BatchShare(),
            equal_steps=equal_steps,
        ),
        input_context=input_context,
        max_bad_records=max_bad_records,
        cache=cache,
        parsed_at_once=256,
    )
    dataset.preprocessor = preprocessor
    return dataset


def _stage_numbers(stages: Sequence[str], schema: Schema) -> list[int]:
    names = (stages,) if isinstance(stages, str) else tuple(stages)
    unknown = [name for name in names if name not in STAGES]
    if unknown or not names:
        raise ValueError(f"stages must be some of {STAGES}, got {unknown or names}")
    if set(names) != set(STAGES) and "stages" not in schema.side_inputs:
        raise ValueError(f"stages {names} asks for a part of the lists, but no feature of the schema has role stage")
    return [STAGES.index(name) for name in names]


def _parser(preprocessor: Preprocessor, list_size: int | None, stages: list[int], ragged: bool) -> Callable[..., Any]:
    """Serialized ELWC records (U,) -> (features, labels)."""
    users, items = _parts(preprocessor.schema)
    user_spec, item_spec = raw_feature_spec(users), raw_feature_spec(items)
    tasks = {feature.name: feature.raw_name for feature in items.labels}

    @tf.autograph.experimental.do_not_convert
    def parse(serialized: tf.Tensor) -> Any:
        contexts, examples, lists = _example_lists(serialized)
        raw = tf.io.parse_example(examples, item_spec)
        found = preprocessor.part(raw, items)
        labels = {task: _grades(task, raw[column]) for task, column in tasks.items()}
        with tf.control_dependencies(_demands(found)):
            size = tf.size(serialized, tf.int64)
            if "stages" in found and len(set(stages)) < len(STAGES):
                kept = tf.reduce_any(found["stages"][:, None] == tf.constant(stages, tf.int64), axis=1)
                found, labels, lists = tf.nest.map_structure(lambda x: tf.boolean_mask(x, kept), (found, labels, lists))
            rows = tf.RaggedTensor.from_value_rowids(lists, lists, size)
            rows = _not_longer(rows, list_size)
        features = preprocessor.part(tf.io.parse_example(contexts, user_spec), users)
        if ragged:
            features |= {name: rows.with_flat_values(values) for name, values in found.items()}
            targets = {task: rows.with_flat_values(values) for task, values in labels.items()}
        else:
            of_items = {
                name: _dense(rows.with_flat_values(x), list_size, _PADDING.get(name, 0)) for name, x in found.items()
            }
            targets = {task: _dense(rows.with_flat_values(x), list_size, -1.0) for task, x in labels.items()}
            mask = _dense(rows.with_flat_values(tf.ones_like(lists, tf.bool)), list_size, False)
            features |= {**of_items, "list_mask": mask}
        return features, targets if len(targets) > 1 else next(iter(targets.values()))

    return parse


def _parts(schema: Schema) -> tuple[Schema, Schema]:
    """The context's features and the examples'."""
    parts: dict[bool, list[Feature]] = {True: [], False: []}
    for feature in schema:
        roles = set(feature.roles)
        if not roles & {"user", "context", *_OF_ITEMS}:
            raise DataError(f"feature {feature.name!r} of lists must have the role user, context or item, got {roles}")
        parts[bool(roles & {"user", "context"})].append(feature)
    if not schema.labels:
        raise DataError("lists need a feature of role label")
    return Schema(parts[True]), Schema(parts[False])


def _descriptor() -> bytes:
    """What `tf.io.decode_proto` must know of ExampleListWithContext; its messages stay serialized."""
    files = descriptor_pb2.FileDescriptorSet()
    message = files.file.add(name="lists.proto", package="xdeepint_ext", syntax="proto3").message_type.add(name="Lists")
    kind = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="examples", number=1, type=kind.TYPE_BYTES, label=kind.LABEL_REPEATED)
    message.field.add(name="context", number=2, type=kind.TYPE_BYTES, label=kind.LABEL_OPTIONAL)
    return b"bytes://" + files.SerializeToString()


_DESCRIPTOR = _descriptor()


def _example_lists(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Contexts (U,), examples of all lists (N,), and the list of each example (N,)."""
    sizes, (contexts, examples) = tf.io.decode_proto(
        serialized, "xdeepint_ext.Lists", ["context", "examples"], [tf.string, tf.string], _DESCRIPTOR
    )
    here = tf.sequence_mask(sizes[:, 1], tf.shape(examples)[1])
    # Without a context the message is a wrong one, such as a single tf.Example.
    whole = tf.debugging.Assert(
        tf.reduce_all(sizes[:, 0] == 1), ["a record is no ExampleListWithContext with a context"]
    )
    with tf.control_dependencies([] if whole is None else [whole]):
        return contexts[:, 0], tf.boolean_mask(examples, here), tf.where(here)[:, 0]


def _grades(task: str, raw: tf.Tensor) -> tf.Tensor:
    labels = tf.reshape(tf.cast(raw, tf.float32), [-1])
    fine = tf.logical_and(labels >= 0.0, tf.math.is_finite(labels))
    wrong = tf.boolean_mask(labels, tf.logical_not(fine))
    check = tf.debugging.Assert(tf.reduce_all(fine), [f"feature {task!r}: labels must be finite and >= 0, got", wrong])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(labels)


def _demands(found: Mapping[str, tf.Tensor]) -> list[tf.Operation]:
    """Checks of the side inputs."""
    if "stages" not in found:
        return []
    stages = found["stages"]
    known = tf.logical_and(stages >= 0, stages < len(STAGES))
    checks = [tf.debugging.Assert(tf.reduce_all(known), [f"stages must be 0 .. {len(STAGES) - 1}, got", stages])]
    if "teacher" in found:
        lacking = tf.logical_and(stages == IMPRESSION, tf.math.is_nan(found["teacher"]))
        number = tf.reduce_sum(tf.cast(lacking, tf.int32))
        checks.append(tf.debugging.Assert(number == 0, ["impressions without a teacher's score:", number]))
    return [check for check in checks if check is not None]


def _not_longer(rows: tf.RaggedTensor, list_size: int | None) -> tf.RaggedTensor:
    """The lists, once it is sure that none is longer than list_size."""
    if list_size is None:
        return rows
    longest = rows.bounding_shape(1)
    check = tf.debugging.Assert(longest <= list_size, [f"a list has more items than list_size {list_size}:", longest])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.RaggedTensor.from_row_splits(rows.values, tf.identity(rows.row_splits), validate=False)


def _dense(lists: tf.RaggedTensor, list_size: int | None, padding: Any) -> tf.Tensor:
    """Lists of items (U, n, ...), padded behind their end."""
    inner = lists.flat_values.shape[1:]
    dense = lists.to_tensor(tf.cast(padding, lists.dtype), shape=(None, list_size, *inner))
    return tf.ensure_shape(dense, (None, list_size, *inner))
