"""Scores of a ranking model for the impressions of a log, each day's of a model trained on the days before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.lists import EventLog
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments.config import Config, check_several_runs
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.running import Run, execute
from xdeepint_ext.experiments.settings import flagfile, flagfile_values, make_config, parse_setting
from xdeepint_ext.experiments.time_blocks import Block

__all__ = ["Teacher", "teacher_config"]


def teacher_config(model: str, dataset: str, setting: str = "") -> Config:
    """The config of a teacher: that of `flagfiles/teacher_DATASET.cfg` where there is one, and the setting's flags.

    Args:
      model: name in `MODELS`.
      dataset: name of the data set.
      setting: `flag=value ...`.

    Raises:
      ValueError: a flag is unknown or for a cluster, or training would look at later days to stop.
    """
    values = {**flagfile_values(flagfile(f"teacher_{dataset}")), **parse_setting(model, setting)}
    common = {"early_stopping": "none", "progress": False}
    config = make_config({**common, **values, "model": model, "data_dir": "-"})
    check_several_runs(config.strategy)
    if config.early_stopping != "none":
        raise ValueError(
            "the teacher's early_stopping must be none, as its valid split is days to come; got "
            f"{config.early_stopping}"
        )
    return config


class Teacher:
    """Trains a ranker on the rows of the days that a block knows, and scores the block's rows.

    The rows are prepared with the options of the directory that the lists are made with, other days apart, and so have
    all its features, those of single rows included: a ranking model knows more than a pre-ranker.

    Args:
      config: of the ranker.
      data_dir: what `prepare` made; its data set, loader's options and bounds of the splits are taken over.
      raw_dir: its raw files.
      bounds: (train_until, valid_until) of `data_dir`.
      work_dir: gets prepared rows for a while, and `teacher-DAY.npy`, from which a broken-off command goes on.
    """

    def __init__(self, config: Config, data_dir: str, raw_dir: str, bounds: tuple[int, int], work_dir: str) -> None:
        self._config, self._data_dir, self._raw_dir = config, data_dir, raw_dir
        self._bounds, self._work_dir = bounds, work_dir
        self._manifest = Manifest.load(data_dir)

    def scores(self, log: EventLog, blocks: Sequence[Block]) -> tuple[np.ndarray, dict[str, float]]:
        """(rows of the log,) logits, NaN on days of no block; and the AUC on each block's rows, by its first day.

        Raises:
          DataError: the prepared rows are not those of the log.
        """
        found, quality = np.full(len(log), np.nan, np.float32), {}
        for number, block in enumerate(blocks, 1):
            path = os.path.join(self._work_dir, f"teacher-{block.first}.npz")
            if not os.path.exists(path):
                print(f"teacher {number}/{len(blocks)}: {self._config.model}, days to {block.known_until}", flush=True)
                self._train(log, block, path)
            with np.load(path) as arrays:
                found[block.of(log.days)] = arrays["logits"]
                quality[str(block.first)] = round(float(arrays["auc"]), 5)
        return found, quality

    def _train(self, log: EventLog, block: Block, path: str) -> None:
        """Writes the logits of the block's rows, in the log's order."""
        own = block.known_until == self._bounds[0]
        rows_dir = self._data_dir if own else os.path.join(self._work_dir, f"rows-{block.first}")
        valid_until = self._bounds[1] if own else block.last
        if not own:
            self._prepare(rows_dir, block.known_until, valid_until)
        tf.keras.backend.clear_session()
        run = execute(self._config.replace(data_dir=rows_dir, evaluate=("valid", "test") if own else ("valid",)))
        rows = np.flatnonzero(block.of(log.days))
        valid = log.days[rows] <= valid_until
        logits = np.empty(len(rows), np.float32)
        for split, inside in (("valid", valid), ("test", ~valid)):
            if inside.any():
                logits[inside] = _logits(run, split, log, rows[inside])
        part = f"{path}.part.npz"
        np.savez(part, logits=logits, auc=run.metrics["valid.auc"])
        os.replace(part, path)
        if not own:
            shutil.rmtree(rows_dir)

    def _prepare(self, rows_dir: str, train_until: int, valid_until: int) -> None:
        options: Mapping[str, Any] = self._manifest.notes["options"]
        days = {"train_until": train_until, "valid_until": valid_until}
        prepare(
            self._manifest.dataset,
            raw_dir=self._raw_dir,
            output_dir=rows_dir,
            seed=self._manifest.notes["seed"],
            overwrite=True,
            **{**options, **days},
        )


def _logits(run: Run, split: str, log: EventLog, rows: np.ndarray) -> np.ndarray:
    """The logits of a split's records, once it is sure that they are these rows of the log."""
    predictions, task = run.predictions[split], run.model.tasks[0]
    assert isinstance(predictions, Predictions)
    labels = predictions.labels[task]
    same = len(labels) == len(rows)
    if not same or (task in log.events and not np.array_equal(labels > 0, log.events[task][rows] > 0)):
        raise DataError(
            f"the {split} split of {run.config.data_dir} has {len(labels)} records, which are not the {len(rows)} rows "
            "of those days in the log: prepare it from the same raw files, with no row left out"
        )
    return predictions.logits[task].astype(np.float32)
