"""What a finished run's model says of other records than those that it was trained and evaluated on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.list_inputs import open_inputs
from xdeepint_ext.experiments.predictions import Predictions, make_predict
from xdeepint_ext.experiments.running import process_settings

__all__ = ["load_model", "predict_run"]


def load_model(config: Config, data_dir: str) -> tuple[Any, Any]:
    """A finished run's model, with its last weights, and the inputs of a directory with the same ids.

    Args:
      config: of the run; its `model_dir` is read.
      data_dir: the run's own, or a view under its ids; see `data.views`.

    Raises:
      ValueError: the run has no checkpoint, or one of another model.
    """
    config = config.replace(data_dir=data_dir, warm_start="")
    inputs = open_inputs(config)
    with process_settings(config):
        model = config.options.make(inputs.schema)
        model.build_from_schema()
        latest = tf.train.latest_checkpoint(os.path.join(config.model_dir, "checkpoints"))
        if latest is None:
            raise ValueError(f"model_dir: {config.model_dir} has no checkpoint")
        try:
            tf.train.Checkpoint(model=model).restore(latest).assert_existing_objects_matched().expect_partial()
        except (AssertionError, tf.errors.OpError, ValueError) as error:
            raise ValueError(f"checkpoint {latest} does not fit the data of {data_dir}: {error}") from None
    return model, inputs


def predict_run(config: Config, data_dir: str, split: str, slices: Sequence[str] = ()) -> Predictions:
    """Predictions of a finished run's model on a split of a directory.

    Args:
      config: see `load_model`.
      data_dir: see `load_model`.
      split: which.
      slices: features whose ids the predictions keep.

    Raises:
      ValueError: see `load_model`.
    """
    model, inputs = load_model(config, data_dir)
    found: Predictions = make_predict(model, tf.distribute.get_strategy(), slices)(inputs.batches(split))
    return found
