"""`ListInputs`: the lists of a run, and `open_inputs`, which knows lists from single examples."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xdeepint_ext import data
from xdeepint_ext.data import memory
from xdeepint_ext.data.lists.read import STAGES
from xdeepint_ext.data.manifest import FILE_NAME, DataError, Manifest
from xdeepint_ext.data.sequences.records import are_users
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.list_batches import trimmed
from xdeepint_ext.experiments.list_predictions import ListPredictions
from xdeepint_ext.experiments.list_scoring import ListRanker
from xdeepint_ext.experiments.named_losses import make_loss
from xdeepint_ext.experiments.reading import refuse_for_lists
from xdeepint_ext.experiments.retrieval_inputs import RetrievalInputs
from xdeepint_ext.experiments.retrieval_options import RetrievalOptions
from xdeepint_ext.models import RankingModel
from xdeepint_ext.schema import Schema

__all__ = ["ListInputs", "open_inputs"]


def open_inputs(config: Config) -> Inputs:
    """The records of a run: `ListInputs` where its directory holds lists, `RetrievalInputs` where it holds users."""
    manifest = Manifest.load(config.data_dir)
    if are_users(manifest):
        return RetrievalInputs(config)
    if isinstance(config.options, RetrievalOptions):
        raise ValueError(f"model: {config.model!r} is trained on users with their items, which {config.data_dir} lacks")
    return Inputs(config) if manifest.lists is None else ListInputs(config)


class ListInputs(Inputs):
    """The lists of a run: of `stages` in training; test sets are of all stages, whatever training has.

    Args:
      config: as `Inputs`; `stages` and `loss`, too.

    Raises:
      DataError: the lists lack a side input that the loss or the test sets need.
      ValueError: `stages` leaves no positives, or `slices` are asked for.
    """

    def __init__(self, config: Config) -> None:
        unknown = [stage for stage in config.stages if stage not in STAGES]
        if unknown or STAGES[0] not in config.stages:
            raise ValueError(
                f"stages must be {STAGES[0]}, which has the labels, and some of {STAGES[1:]}; got {config.stages}"
            )
        super().__init__(config)
        refuse_for_lists(config)
        if config.slices:
            raise ValueError(f"slices are of single examples, but {config.data_dir} holds lists; got {config.slices}")
        if len(self.schema.tasks) > 1:
            raise DataError(f"{config.data_dir}: lists need one label, got {self.schema.tasks}")
        for name in ("stages", "item_ids"):
            self._need(f"the test sets need {name}", (name,))
        self._need(f"loss={config.loss} needs", make_loss(config.loss).side_inputs)

    def loss(self) -> Any:
        """A new loss."""
        return make_loss(self._config.loss)

    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """None: a metric of lists that training takes along costs more than it says."""
        return []

    def predictor(self, model: RankingModel, strategy: tf.distribute.Strategy) -> Callable[..., ListPredictions]:
        """See `Inputs.predictor`. Only the test split is ranked against the catalogue; one replica does it all."""
        rank = ListRanker(model, functools.partial(data.read_catalogue, self._config.data_dir, self.schema))

        def predict(split: str, final: bool = False) -> ListPredictions:
            return rank(self.batches(split), with_catalogue=final and split == "test")

        return predict

    def train(self, start_step: int, worker: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """See `Inputs.train`; without XLA, which wants one shape, each batch is as wide as its longest list."""
        dataset = super().train(start_step, worker)
        if self._config.jit_compile:
            return dataset
        narrow = dataset.map(trimmed)
        for name in ("records", "explain"):
            if hasattr(dataset, name):
                setattr(narrow, name, getattr(dataset, name))
        return narrow

    def _need(self, who: str, names: tuple[str, ...]) -> None:
        lacking = [name for name in names if name not in self.schema.side_inputs]
        if lacking:
            raise DataError(
                f"{self._config.data_dir}: {who} {lacking}, but the lists have only {sorted(self.schema.side_inputs)}; "
                "lists with teacher scores come of experiments.ranktower_lists, losses without: undistilled, logloss"
            )

    def _options(self, split: str) -> dict[str, Any]:
        stages = self._config.stages if split == "train" else STAGES
        return {"stages": stages, "list_size": _longest(self.manifest, split, stages)}

    def _read(self, split: str, **options: Any) -> tf.data.Dataset:
        bad = self._config.max_bad_records
        options = {"schema": self.schema, "max_bad_records": bad, **self._options(split), **options}
        dataset = data.read_lists(self._config.data_dir, split, self._config.batch_size, **options)
        self.skipped[split] = len(dataset.skipped)
        return dataset

    def _arrays(self, split: str) -> Any:
        config = self._config
        written = os.path.getmtime(os.path.join(config.data_dir, FILE_NAME))
        options = tuple(self._options(split).items())
        arrays, skipped = _arrays(
            config.data_dir, written, split, self.schema.to_json(), config.max_bad_records, options
        )
        self.skipped[split] = skipped
        return arrays


@functools.lru_cache(maxsize=6)
def _arrays(
    data_dir: str, written: float, split: str, schema: str, max_bad_records: int, options: tuple[tuple[str, Any], ...]
) -> tuple[Any, int]:
    """A split as tensors, and how many records were skipped; kept for the next run of a sweep."""
    dataset = data.read_lists(
        data_dir, split, 512, schema=Schema.from_json(schema), max_bad_records=max_bad_records, **dict(options)
    )
    return memory.collect(dataset), len(dataset.skipped)


def _longest(manifest: Manifest, split: str, stages: tuple[str, ...]) -> int:
    """Places that the lists of a split need, with the items of some stages."""
    assert manifest.lists is not None
    counted, sizes = manifest.lists["statistics"][split], manifest.lists["sizes"][split]
    most = {"impression": counted["impressions"]["max"], "candidate": sizes["candidates"], "random": sizes["random"]}
    return int(min(counted["length"]["max"], sum(most[stage] for stage in stages)))
