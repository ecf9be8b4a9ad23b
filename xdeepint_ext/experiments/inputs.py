"""`Inputs`: the records of a run, from files or from memory."""

from __future__ import annotations

import fnmatch
import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext import data
from xdeepint_ext.data import memory
from xdeepint_ext.data.manifest import FILE_NAME, VOCABULARY, DataError, Manifest
from xdeepint_ext.data.shares import BatchShare
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.named_losses import DEFAULT
from xdeepint_ext.experiments.predictions import Predictions, make_predict
from xdeepint_ext.experiments.reading import check_reading, group_numbers, loss_of, with_lists
from xdeepint_ext.models import RankingModel
from xdeepint_ext.schema import Schema

__all__ = ["Inputs", "select_features"]

# Splits that are evaluated again and again stay in memory up to this size.
KEPT_BYTES = 512 << 20
# Where one worker's share of the files is larger than this many times another's, the others would mostly wait.
MOST_UNEQUAL = 2


class Inputs:
    """The records of a run.

    Args:
      config: its `data_dir`, `features`, `order`, `grouping`, `batch_size`, `seed`, `cache` and `max_bad_records`.

    Attributes:
      manifest: of the data.
      schema: the features that the model is made of.
      records: training records.
      steps_per_epoch: batches of them.
      skipped: split -> damaged records that were left out, of the splits read so far.

    Raises:
      DataError: the data directory is not fit to be read.
      ValueError: `features` names a column that is not there, or `order` and `grouping` do not fit the data.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.manifest = Manifest.load(config.data_dir)
        self.schema = select_features(config.data_dir, self.manifest, config.features)
        check_reading(config, self.schema)
        self._kept: dict[str, list[Any]] = {}
        self.records = self.manifest.records("train")
        self.skipped: dict[str, int] = {}
        self._whole_train: tf.data.Dataset | None = None
        if config.max_bad_records:
            self._whole_train = self.train(0)
            self.records = self._whole_train.records
        self.steps_per_epoch = data.steps_per_epoch(self.records, config.batch_size)

    def divide_among(self, workers: int) -> None:
        """Adapts `steps_per_epoch` to so many workers, of which each reads a part of the records.

        Raises:
          ValueError: the records are in memory, or may be skipped, or one worker would have hardly any.
        """
        if self._config.sharding == "batches":
            return
        if self._config.cache:
            raise ValueError("sharding=files reads files, and cache keeps all records in memory: leave one of them out")
        if self._config.max_bad_records:
            raise ValueError("sharding=files shares what the manifest counts: leave max_bad_records out")
        of_files = [shard.records for shard in self.manifest.shards("train")]
        if len(of_files) >= workers:
            found = [sum(of_files[worker::workers]) for worker in range(workers)]
        else:
            found = [len(range(worker, sum(of_files), workers)) for worker in range(workers)]
        if max(found) > MOST_UNEQUAL * min(found):
            raise ValueError(
                f"sharding=files: the {len(of_files)} files of train give the {workers} workers {found} records each, "
                f"and most steps of an epoch would have one worker; prepare the data with --num_shards={4 * workers} "
                "or more, or say --sharding=batches"
            )
        self.steps_per_epoch = data.steps_per_epoch(max(found), self._config.batch_size // workers)

    def loss(self) -> Any:
        """What the model is trained with; None = the log loss.

        Raises:
          ValueError: the config names a loss of lists, or lists that the model's loss does not have.
        """
        if self._config.loss != DEFAULT:
            raise ValueError(
                f"loss={self._config.loss} is for lists, but {self._config.data_dir} holds single examples"
            )
        return loss_of(self._config)

    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """What training keeps an eye on."""
        return [tf.keras.metrics.AUC(from_logits=True, name="auc")]

    def predictor(self, model: RankingModel, strategy: tf.distribute.Strategy) -> Callable[..., Any]:
        """A function from a split to its predictions.

        Args:
          model: a built model.
          strategy: where its variables live.

        Returns:
          (split, final=False) -> predictions; `final` says that training has ended.
        """
        predict = make_predict(model, strategy, self._config.slices)

        def of_split(split: str, final: bool = False) -> Predictions:
            found: Predictions = predict(self.batches(split))
            return found

        return of_split

    @property
    def vocabulary_dir(self) -> str:
        """Directory of the vocabularies."""
        return os.path.join(self._config.data_dir, VOCABULARY)

    def preprocessor(self) -> data.Preprocessor:
        """What makes the model's inputs of raw values."""
        return data.Preprocessor(self.schema, self.vocabulary_dir)

    def train(self, start_step: int, worker: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """Training batches without end, from a step on; their order depends on the seed only.

        Args:
          start_step: batches that were taken before.
          worker: of several: his parts of every batch; or, with `sharding` files, batches of his part of the records.
            There is an element for each of his replicas, one after the other.
        """
        config = self._config
        if self._whole_train is not None and start_step == 0 and worker is None:
            return self._whole_train
        order: dict[str, Any] = {"shuffle": True, "epochs": None, "seed": config.seed, "start_step": start_step}
        if not config.cache:
            return with_lists(self._read("train", **order, **_of_worker(config, worker)), config.grouping)
        order["share"] = BatchShare.of_worker(worker)
        arrays = self._arrays("train")
        groups = group_numbers(arrays, config.order)
        dataset = memory.batches(arrays, config.batch_size, groups=groups, **order)
        dataset.records = int(tf.nest.flatten(arrays)[0].shape[0])
        return with_lists(dataset, config.grouping)

    def batches(self, split: str) -> Iterable[Any]:
        """All batches of a split once, in the records' order.

        Raises:
          DataError: there is no such split, or it is empty.
        """
        if split not in self._kept and self._config.cache:
            self._kept[split] = _cut(self._arrays(split), self._config.batch_size)
        elif split not in self._kept:
            dataset = self._read(split)
            specs = tf.nest.flatten(dataset.element_spec)
            values = sum(spec.shape[1:].num_elements() or 1 for spec in specs if spec.shape.rank)
            if 8 * values * dataset.records > KEPT_BYTES:
                return dataset
            self._kept[split] = list(dataset)
        return self._kept[split]

    def _read(self, split: str, **options: Any) -> tf.data.Dataset:
        schema = None if self.manifest.packed else self.schema
        bad = self._config.max_bad_records
        options = {"schema": schema, "max_bad_records": bad, **options}
        dataset = data.read(self._config.data_dir, split, self._config.batch_size, **options)
        self.skipped[split] = len(dataset.skipped)
        return dataset

    def _arrays(self, split: str) -> Any:
        config = self._config
        written = os.path.getmtime(os.path.join(config.data_dir, FILE_NAME))
        arrays, skipped = _arrays(config.data_dir, written, split, self.schema.to_json(), config.max_bad_records)
        self.skipped[split] = skipped
        return arrays


def _of_worker(config: Config, worker: tf.distribute.InputContext | None) -> dict[str, Any]:
    """What `data.read` is told of a worker."""
    if worker is None or config.sharding == "batches":
        return {"share": BatchShare.of_worker(worker)}
    replicas = worker.num_replicas_in_sync // worker.num_input_pipelines
    return {"input_context": worker, "equal_steps": True, "share": BatchShare(0, replicas, replicas)}


def _cut(arrays: Any, batch_size: int) -> list[Any]:
    size = int(tf.nest.flatten(arrays)[0].shape[0])
    starts = range(0, size, batch_size)
    return [tf.nest.map_structure(lambda array, i=i: array[i : i + batch_size], arrays) for i in starts]


@functools.lru_cache(maxsize=12)
def _arrays(data_dir: str, written: float, split: str, schema: str, max_bad_records: int) -> tuple[Any, int]:
    """A split as tensors, and how many records were skipped; kept for the next run of a sweep."""
    packed = Manifest.load(data_dir).packed
    given = None if packed else Schema.from_json(schema)
    dataset = data.read(data_dir, split, 8192, schema=given, max_bad_records=max_bad_records)
    return memory.collect(dataset), len(dataset.skipped)


def select_features(data_dir: str, manifest: Manifest, features: tuple[str, ...]) -> Schema:
    """The directory's schema, or the chosen features of all that `data.prepare` keeps statistics of.

    Args:
      data_dir: a prepared directory.
      manifest: its manifest.
      features: names or patterns of model inputs; empty = those of schema.pbtxt. Labels and side inputs always stay.

    Raises:
      ValueError: a name or pattern fits no input.
    """
    own = Schema.load(data_dir)
    if not features:
        return own
    if manifest.packed:
        raise DataError(f"{data_dir} holds materialised records: features cannot be chosen any more, got {features}")
    everything = manifest.notes.get("all_features")
    known = Schema.from_json(everything) if everything else own
    inputs = [feature.name for feature in known.inputs]
    chosen: set[str] = set()
    for pattern in features:
        found = fnmatch.filter(inputs, pattern)
        if not found:
            raise ValueError(f"features: {pattern!r} fits no input of {data_dir}; it has {inputs}")
        chosen.update(found)
    return known.select([feature.name for feature in known if feature.name in chosen or not feature.is_input])


def record_keys(data_dir: str, split: str) -> np.ndarray:
    """A 63-bit fingerprint of each record's bytes, in the order of `Inputs.batches`."""
    manifest = Manifest.load(data_dir)
    files = [os.path.join(data_dir, shard.file) for shard in manifest.shards(split)]
    records = tf.data.TFRecordDataset(files, compression_type=manifest.compression)
    hashes = records.batch(8192).map(lambda serialized: tf.strings.to_hash_bucket_fast(serialized, 2**63 - 1))
    return np.concatenate([part.numpy() for part in hashes])


def sample_rows(data_dir: str, schema: Schema, split: str, count: int) -> list[dict[str, Any]] | None:
    """The first records of a split as raw column -> value, None = missing; None where the records are materialised.

    Args:
      data_dir: a prepared directory.
      schema: whose inputs' columns are wanted.
      split: of which split.
      count: how many records.
    """
    manifest = Manifest.load(data_dir)
    if manifest.packed:
        return None
    files = [os.path.join(data_dir, shard.file) for shard in manifest.shards(split)]
    columns = {feature.raw_name: feature.length for feature in schema.inputs}
    columns |= {feature.weights: feature.length for feature in schema.inputs if feature.weights}
    rows = []
    for record in tf.data.TFRecordDataset(files, compression_type=manifest.compression).take(count):
        found = tf.train.Example.FromString(record.numpy()).features.feature
        rows.append({name: _raw_value(found.get(name), several=n > 1) for name, n in columns.items()})
    return rows


def _raw_value(value: Any, several: bool) -> Any:
    kind = value.WhichOneof("kind") if value is not None else None
    values = list(getattr(value, kind).value) if kind else []
    values = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in values]
    return values if several else values[0] if values else None
