"""`RetrievalInputs`: users with their items, as a run wants them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext import data
from xdeepint_ext.data.manifest import FILE_NAME, Manifest
from xdeepint_ext.data.sequences import Sequences, read_sequences, training_batches
from xdeepint_ext.data.shares import BatchShare
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import Inputs, select_features
from xdeepint_ext.experiments.named_losses import DEFAULT
from xdeepint_ext.experiments.retrieval_options import RetrievalOptions
from xdeepint_ext.experiments.retrieval_predictions import RetrievalPredictions
from xdeepint_ext.experiments.retrieval_ranking import Ranker
from xdeepint_ext.models import RankingModel, RetrievalModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.catalogue import CANDIDATES, CORRECTIONS, OWNERS

__all__ = ["RetrievalInputs"]


class RetrievalInputs(Inputs):
    """Users with their items: the training part in memory, from which batches are drawn, and the users of the others.

    Args:
      config: as `Inputs`; its model is one of retrieval.

    Raises:
      DataError: the data directory is not fit to be read.
      ValueError: the config asks for what there is not: another kind of model or loss, slices, skipped records.
    """

    def __init__(self, config: Config) -> None:
        if not isinstance(config.options, RetrievalOptions):
            raise ValueError(
                f"model: {config.data_dir} holds users with their items, which {config.model!r} cannot train on"
            )
        for name in ("slices", "max_bad_records"):
            if getattr(config, name):
                raise ValueError(f"{name} is of single examples, but {config.data_dir} holds users with their items")
        if config.jit_compile:
            raise ValueError("jit_compile is of a model's trunk, which a retrieval model's training step does not have")
        if config.loss != DEFAULT:
            raise ValueError(f"loss={config.loss} is for lists; that of a retrieval model is --objective")
        self._config = config
        self.manifest = Manifest.load(config.data_dir)
        self.schema = select_features(config.data_dir, self.manifest, config.features)
        self.records = self.manifest.records("train")
        self.skipped: dict[str, int] = {}
        self._options: RetrievalOptions = config.options
        self.steps_per_epoch = self.train(0).steps_per_epoch

    def loss(self) -> Any:
        return self._options.loss(self.sequences("train").catalogue.size)

    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """None: training never runs a metric whose cost grows with the catalogue."""
        return []

    def train(self, start_step: int, worker: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """Training batches without end, from a step on; each depends on seed and step only.

        A worker of several gets his parts of the users; all candidates are everyone's.
        """
        sampling = self._options.sampling(self._config.batch_size, self._config.seed)
        batches = training_batches(self.sequences("train"), sampling, start_step)
        return batches if worker is None else _parts(batches, BatchShare.of_worker(worker))

    def divide_among(self, workers: int) -> None:
        if self._config.sharding == "files":
            raise ValueError("sharding=files reads files, but users with their items are in memory: leave it out")

    def batches(self, split: str) -> Iterable[Any]:
        """One: of all users' inputs."""
        return [(self.sequences(split).features(),)]

    def predictor(self, model: RankingModel, strategy: tf.distribute.Strategy) -> Callable[..., RetrievalPredictions]:
        """See `Inputs.predictor`. One replica does it all."""
        assert isinstance(model, RetrievalModel)
        rank = Ranker(model, self.sequences("train").catalogue, self._options.remove_seen)

        def predict(split: str, final: bool = False) -> RetrievalPredictions:
            return rank(self.sequences(split))

        return predict

    def preprocessor(self) -> data.Preprocessor:
        return data.Preprocessor(self.schema, self.vocabulary_dir)

    def sequences(self, split: str) -> Sequences:
        """A split's users."""
        written = os.path.getmtime(os.path.join(self._config.data_dir, FILE_NAME))
        return _sequences(self._config.data_dir, written, split, self.schema.to_json())


def _parts(batches: tf.data.Dataset, share: BatchShare) -> tf.data.Dataset:
    """A worker's parts of every batch, and with each of them all candidates, whose owners are rows of the part."""

    def cut(features: Mapping[str, tf.Tensor], number: tf.Tensor) -> tuple[dict[str, tf.Tensor]]:
        rows = {name: x for name, x in features.items() if name not in (CANDIDATES, OWNERS, CORRECTIONS)}
        start, end = share.bounds(tf.shape(next(iter(rows.values())))[0], number)
        owners = tf.cast(features[OWNERS], tf.int64)
        mine = tf.logical_and(owners >= start, owners < end)
        part = {name: x[start:end] for name, x in rows.items()}
        part[OWNERS] = tf.cast(tf.where(mine, owners - start, tf.constant(-1, tf.int64)), features[OWNERS].dtype)
        return ({**part, **{name: features[name] for name in (CANDIDATES, CORRECTIONS)}},)

    numbers = tf.data.Dataset.range(share.first, share.first + share.count)
    return batches.flat_map(lambda features: numbers.map(lambda number: cut(features, number)))


@functools.lru_cache(maxsize=6)
def _sequences(data_dir: str, written: float, split: str, schema: str) -> Sequences:
    """A split, kept for the next run of a sweep."""
    return read_sequences(data_dir, split, Schema.from_json(schema))
