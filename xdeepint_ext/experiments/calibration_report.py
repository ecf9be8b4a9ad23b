"""The parts of `report.html` on calibration: before and after, and by slice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from xdeepint_ext import metrics
from xdeepint_ext.experiments import calibrating, plots
from xdeepint_ext.experiments.page import image, section, table
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.scores import sigmoid
from xdeepint_ext.experiments.slices import parts_of

if TYPE_CHECKING:
    from xdeepint_ext.experiments.running import Run

__all__ = ["sections"]

MOST_CURVES = 6
"""Of a picture: more cannot be told apart."""
HEADS = {"predicted": "mean probability", "ece": "calibration error (ECE)", "logloss": "log loss"}


def sections(run: Run) -> Iterable[str]:
    """What calibration changed, where there is one, and reliability by the values of `--slices`."""
    predictions = run.predictions.get(run.shown_split)
    if not isinstance(predictions, Predictions):
        return
    if run.calibrations:
        yield section(f"Calibration on {run.shown_split}", _before_and_after(run, predictions))
    if predictions.ids:
        yield section(f"Reliability by slice on {run.shown_split}", _by_slice(run, predictions))


def _before_and_after(run: Run, predictions: Predictions) -> str:
    rate, pictures, rows = run.config.negative_sampling_rate, [], []
    for task, calibration in run.calibrations.items():
        curves = {}
        for stage, labels, logits, weights in calibrating.stages(calibration, predictions, task, rate):
            curves[stage] = metrics.calibration_table(labels, sigmoid(logits), weights)
            rows.append([task, stage, *_numbers(labels, logits, weights)])
        if curves:
            pictures.append(image(plots.calibration(curves, f"Calibration of {task}"), f"Before and after: {task}"))
    hint = f"{run.config.calibration}, fitted on the {calibrating.SPLIT} split; AUC is the same before and after."
    if rate < 1:
        hint += f" Each negative counts {1 / rate:g} times, as negative_sampling_rate is {rate:g}."
    heads = ["task", "", "records", "mean label", *HEADS.values()]
    return f'<div class="row">{"".join(pictures)}</div>{table(heads, rows, text=2)}<p class="hint">{hint}</p>'


def _by_slice(run: Run, predictions: Predictions) -> str:
    rate, content = run.config.negative_sampling_rate, []
    for name in predictions.ids:
        parts = parts_of(predictions, run.inputs.schema[name], run.inputs.vocabulary_dir)
        for task in predictions.labels:
            curves, rows = {}, []
            for value, inside in parts.items():
                found = calibrating.stages(run.calibrations.get(task), predictions, task, rate, inside)
                for stage, labels, logits, weights in found:
                    rows.append([value, stage, *_numbers(labels, logits, weights)])
                    curves[value] = metrics.calibration_table(labels, sigmoid(logits), weights)  # the last stage's
            if curves:
                shown = dict(list(curves.items())[:MOST_CURVES])
                title = f"{name}, {task}" + (", calibrated" if task in run.calibrations else "")
                content.append(image(plots.calibration(shown, title), f"Reliability of {task} by {name}"))
                content.append(table([name, "", "records", "mean label", *HEADS.values()], rows, text=2))
    return "".join(content)


def _numbers(labels: np.ndarray, logits: Any, weights: np.ndarray) -> list[str]:
    probabilities = sigmoid(logits)
    values = (
        float(np.average(labels, weights=weights)),
        float(np.average(probabilities, weights=weights)),
        metrics.expected_calibration_error(labels, probabilities, weights),
        metrics.log_loss(labels, logits, weights),
    )
    return [f"{len(labels):,}", *(f"{value:.5f}" for value in values)]
