"""`read`: a prepared directory -> a `tf.data.Dataset` of (features, labels[, weights])."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.data import damage
from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest
from xdeepint_ext.data.packing import Packing
from xdeepint_ext.data.parsing import labels_and_weights, raw_columns, raw_feature_spec
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.data.shares import BatchShare
from xdeepint_ext.data.stream import SHUFFLE_BUFFER, Order, first_file, records_of, stream
from xdeepint_ext.schema import Schema


def read(
    data_dir: str | os.PathLike[str],
    split: str,
    batch_size: int,
    *,
    shuffle: bool = False,
    epochs: int | None = 1,
    deterministic: bool = True,
    seed: int = 0,
    start_step: int = 0,
    input_context: tf.distribute.InputContext | None = None,
    max_bad_records: int = 0,
    schema: Schema | None = None,
    preprocessor: Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]] | None = None,
    cache: bool = False,
    drop_remainder: bool = False,
    shuffle_buffer: int = SHUFFLE_BUFFER,
    parallelism: int | None = None,
    share: BatchShare | None = None,
    equal_steps: bool = False,
) -> tf.data.Dataset:
    """Batches of a split, in an order that depends on (seed, epoch, worker) only.

    Files are interleaved, records shuffled in windows, a whole batch parsed at once and preprocessed on the host.

    Args:
      data_dir: what `data.prepare` wrote, raw or materialised.
      split: `train`, `valid`, `test`, or another that the manifest has.
      batch_size: records of the global batch; a worker of an `input_context` gets its share.
      shuffle: order of files and records drawn anew for each epoch.
      epochs: how many, counted from epoch 0; None = without end.
      deterministic: False lets parallel steps overtake each other: faster where they are uneven, order no longer fixed.
      seed: of the order.
      start_step: batches taken before (all epochs together): reading goes on behind them. They are not parsed.
      input_context: of `tf.distribute`: worker i of n reads every n-th file, or every n-th record where files are
        fewer.
      max_bad_records: damaged or unfit records that may be skipped; above it, and by default, they are an error. To
        find them costs one more pass over the split at the start. Those skipped are logged and counted in the
        dataset's `skipped`.
      schema: instead of the directory's: another choice of features of the same columns (raw records only).
      preprocessor: instead of `Preprocessor(schema, data_dir/vocabulary)`; raw records only.
      cache: keep the preprocessed split in memory; it is then shuffled as a whole.
      drop_remainder: leave out the short batch at the end of an epoch.
      shuffle_buffer: records of a shuffle window.
      parallelism: batches parsed at a time and files read at a time; default: the number of cores.
      share: the parts of every batch, of those that one worker would have, that are given; default: all.
      equal_steps: empty batches at the end of an epoch where another worker of the `input_context` has more records, so
        that all workers make as many steps.

    Returns:
      A dataset of (features, labels) or (features, labels, weights), with the attributes `steps_per_epoch`,
      `preprocessor`, `records` and `skipped`. Features: see `Preprocessor`. Labels: float32 (B, 1), a dict of it by
      task for several labels, -1 where one is missing. Weights: float32 (B,).

    Raises:
      DataError: the directory, split, schema and records do not fit together, or a file is damaged; names the file, and
        record and feature where there are such. A damaged record is found when it is read.

    Example:
      >>> from xdeepint_ext.data import prepare
      >>> prepare.prepare("synthetic", output_dir="doctest_data", rows=1000)  # doctest: +SKIP
      >>> features, labels = next(iter(read("doctest_data", "train", 256, shuffle=True)))  # doctest: +SKIP
    """
    data_dir = os.fspath(data_dir)
    manifest = Manifest.load(data_dir)
    if manifest.lists is not None:
        raise DataError(f"{data_dir} holds lists, not single examples: read_lists reads them")
    parse, preprocessor = _parser(data_dir, manifest, schema, preprocessor)
    _check_columns(first_file(data_dir, manifest, split), data_dir, manifest, schema)
    dataset = stream(
        data_dir,
        manifest,
        split,
        batch_size,
        parse,
        Order(
            *(shuffle, epochs, deterministic, seed, start_step, drop_remainder, shuffle_buffer, parallelism),
            share=share or BatchShare(),
            equal_steps=equal_steps,
        ),
        input_context=input_context,
        max_bad_records=max_bad_records,
        cache=cache,
    )
    dataset.preprocessor = preprocessor
    return dataset


def _parser(
    data_dir: str,
    manifest: Manifest,
    schema: Schema | None,
    preprocessor: Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]] | None,
) -> tuple[damage.Parse, Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]]]:
    """(serialized batch -> (features, labels[, weights]), the preprocessor whose ids these are)."""
    own = Schema.load(data_dir, overlay="")
    if own.fingerprint() != manifest.schema:
        raise DataError(
            f"{data_dir}: schema.pbtxt is not the one that the manifest was written with (fingerprints "
            f"{own.fingerprint()} and {manifest.schema}); give another choice of features as `schema`, or in roles.yaml"
        )
    vocabulary = os.path.join(data_dir, VOCABULARY)
    if manifest.packed is not None:
        if schema is not None or preprocessor is not None:
            raise ValueError(
                f"{data_dir} holds materialised records: schema and preprocessor cannot be changed any more"
            )
        packing = Packing(own)
        spec = packing.feature_spec()
        preprocess: Any = Preprocessor(own, vocabulary)

        def parts(serialized: tf.Tensor) -> Any:
            return packing.unpack(tf.io.parse_example(serialized, spec))
    else:
        schema = schema or Schema.load(data_dir)
        preprocess = preprocessor or Preprocessor(schema, vocabulary)
        raw_spec = raw_feature_spec(schema)

        def parts(serialized: tf.Tensor) -> Any:
            raw = tf.io.parse_example(serialized, raw_spec)
            return dict(preprocess(raw)), *labels_and_weights(schema, raw)

    @tf.autograph.experimental.do_not_convert
    def parse(serialized: tf.Tensor) -> Any:
        features, labels, weights = parts(serialized)
        return (features, labels) if weights is None else (features, labels, weights)

    return parse, preprocess


def _check_columns(file: str, data_dir: str, manifest: Manifest, schema: Schema | None) -> None:
    """Compares the first record's columns with the schema's: a misspelt optional one would read as missing."""
    if manifest.packed is not None:
        return
    schema = schema or Schema.load(data_dir)
    try:
        serialized = next(iter(records_of(tf.constant(file)).batch(256)))
    except tf.errors.OpError:
        return  # a damaged file is reported, or skipped, where it is read
    present: dict[str, str] = {}
    for record in serialized.numpy():
        try:
            example = tf.train.Example.FromString(record)
        except Exception:
            return
        for name, value in example.features.feature.items():
            present.setdefault(name, value.WhichOneof("kind") or "")
    kinds = {"string": "bytes_list", "int": "int64_list", "float": "float_list"}
    for name, feature in raw_columns(schema).items():
        kind = present.get(name)
        if kind and kind != kinds[feature.dtype]:
            raise DataError(f"{file}: feature {name!r} is a {kind} in the records, but {feature.dtype} in the schema")
        if kind is None and feature.required:
            near = difflib.get_close_matches(name, present, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise DataError(
                f"{file}: none of the first records has feature {name!r} of the schema{hint} They have "
                f"{sorted(present)}; required=False is for features that records may lack"
            )
