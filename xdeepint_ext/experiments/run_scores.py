"""What a finished run's model says of other records than those that it was trained and evaluated on."""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf

from xdeepint_ext import data
from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import select_features
from xdeepint_ext.experiments.predictions import Predictions, make_predict
from xdeepint_ext.experiments.running import process_settings
from xdeepint_ext.models import RankingModel
from xdeepint_ext.schema import Schema

__all__ = ["load_model", "predict_run"]


def load_model(config: Config, data_dir: str) -> tuple[RankingModel, Schema]:
    """A finished run's model, with its last weights, and its schema.

    Args:
      config: of the run; its `model_dir` is read.
      data_dir: the run's own, or a view under its ids; see `data.views`.

    Raises:
      ValueError: the run has no checkpoint, or one of another model.
    """
    schema = select_features(data_dir, Manifest.load(data_dir), config.features)
    with process_settings(config):
        model = config.options.make(schema)
        model.build_from_schema()
        latest = tf.train.latest_checkpoint(os.path.join(config.model_dir, "checkpoints"))
        if latest is None:
            raise ValueError(f"model_dir: {config.model_dir} has no checkpoint")
        try:
            restored = tf.train.Checkpoint(model=model).restore(latest)
            restored.assert_existing_objects_matched().expect_partial()
        except (AssertionError, tf.errors.OpError, ValueError) as error:
            raise ValueError(f"checkpoint {latest} does not fit the data of {data_dir}: {error}") from None
    return model, schema


def predict_run(config: Config, data_dir: str, split: str, slices: Sequence[str] = ()) -> Predictions:
    """Predictions of a finished run's model on a split of a directory.

    Args:
      config: see `load_model`.
      data_dir: see `load_model`.
      split: which.
      slices: features whose ids the predictions keep.

    Raises:
      ValueError: see `load_model`; DataError, a kind of it: there is no such split.
    """
    model, schema = load_model(config, data_dir)
    given = None if Manifest.load(data_dir).packed else schema
    batches = data.read(data_dir, split, config.batch_size, schema=given, max_bad_records=config.max_bad_records)
    found: Predictions = make_predict(model, tf.distribute.get_strategy(), slices)(batches)
    return found
