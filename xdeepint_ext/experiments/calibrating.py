"""Calibration of a run: fitted on the validation part, measured before and after on every part that is evaluated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from xdeepint_ext import metrics
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.kinds import ROWS, kind_of
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.scores import sigmoid
from xdeepint_ext.serving.calibration import Calibration, CalibrationError
from xdeepint_ext.serving.calibration_fits import fit_calibration, population_weights

__all__ = ["as_served", "check_calibration", "fit", "fits", "measure", "stages"]

SPLIT = "valid"
BEFORE, AFTER = "uncalibrated", "calibrated"


def fits(config: Config) -> bool:
    """Whether a run's scores are to be changed at all."""
    return config.calibration != "none" or config.negative_sampling_rate < 1


def check_calibration(config: Config, manifest: Manifest) -> None:
    """Checks, before anything is trained, that the data can be calibrated on.

    Raises:
      ValueError: they are no single examples.
      DataError: there is no validation part.
    """
    if not fits(config):
        return
    if kind_of(manifest) is not ROWS:
        raise ValueError(
            f"calibration={config.calibration}, negative_sampling_rate={config.negative_sampling_rate:g}: only scores "
            f"of single examples are calibrated, and {config.data_dir} holds {kind_of(manifest).records}"
        )
    if config.calibration != "none" and not manifest.has(SPLIT):
        raise DataError(
            f"calibration={config.calibration} is fitted on the {SPLIT} split, and {config.data_dir} has none; prepare "
            "the data with one, or say --calibration=none"
        )


def fit(config: Config, tasks: Sequence[str], predict: Callable[[str], Predictions]) -> dict[str, Calibration]:
    """Task -> its calibration.

    Args:
      config: its `calibration` and `negative_sampling_rate`.
      tasks: of the model.
      predict: split -> its predictions; asked for the validation part where that is needed.

    Raises:
      CalibrationError: the part does not say how; names the task.
    """
    if config.calibration == "none":
        only_rate = fit_calibration("none", (), (), negative_sampling_rate=config.negative_sampling_rate)
        return dict.fromkeys(tasks, only_rate)
    predictions, found = predict(SPLIT), {}
    for task in tasks:
        rows = predictions.rows(task)
        weights = None if predictions.weights is None else predictions.weights[rows]
        arrays = (predictions.labels[task][rows], predictions.logits[task][rows], weights)
        try:
            found[task] = fit_calibration(config.calibration, *arrays, config.negative_sampling_rate)
        except CalibrationError as error:
            raise CalibrationError(
                f"calibration={config.calibration}: task {task!r} of the {SPLIT} split: {error}"
            ) from None
    return found


def as_served(predictions: Predictions, calibrations: Mapping[str, Calibration], rate: float) -> Predictions:
    """Predictions with the scores that an export answers with, on rows whose negatives are down-sampled.

    Served scores are of all rows; where a share of the negatives was kept, the odds are 1 / rate times as high.

    Args:
      predictions: of a split, with the model's logits.
      calibrations: task -> what the export makes of these; a task without one keeps them.
      rate: of the negatives that were kept.
    """
    shift = math.log(rate)
    logits = {task: calibrations[task](z) if task in calibrations else z for task, z in predictions.logits.items()}
    return dataclasses.replace(predictions, logits={task: z - shift for task, z in logits.items()})


def stages(
    calibration: Calibration | None, predictions: Predictions, task: str, rate: float, rows: np.ndarray | None = None
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Rows with a label before and after calibration; nothing where no row has a weight.

    Args:
      calibration: of the task; None = there is no after.
      predictions: of a split.
      task: the task.
      rate: of the negatives that were kept; each counts for all that it stands for.
      rows: (n,) booleans; None = all.

    Yields:
      (`uncalibrated` or `calibrated`, labels, logits, weights).
    """
    chosen = predictions.rows(task) if rows is None else rows & predictions.rows(task)
    labels, logits = predictions.labels[task][chosen], predictions.logits[task][chosen]
    weights = population_weights(labels, None if predictions.weights is None else predictions.weights[chosen], rate)
    if not weights.sum() > 0:
        return
    yield BEFORE, labels, logits, weights
    if calibration is not None:
        yield AFTER, labels, calibration(logits), weights


def measure(
    calibrations: Mapping[str, Calibration], predictions: Predictions, rate: float, where: str = ""
) -> dict[str, float]:
    """AUC, log loss and calibration error before and after: `uncalibrated.ece`; of several tasks `TASK.calibrated.ece`.

    Args:
      calibrations: of each task.
      predictions: of a split.
      rate: see `stages`.
      where: begins the keys.
    """
    found: dict[str, float] = {}
    for task, calibration in calibrations.items():
        prefix = f"{where}{task}." if len(predictions.labels) > 1 else where
        for stage, labels, logits, weights in stages(calibration, predictions, task, rate):
            found |= {
                f"{prefix}{stage}.auc": metrics.auc(labels, logits, weights),
                f"{prefix}{stage}.logloss": metrics.log_loss(labels, logits, weights),
                f"{prefix}{stage}.ece": metrics.expected_calibration_error(labels, sigmoid(logits), weights),
            }
    return found
