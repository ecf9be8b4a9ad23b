"""From predictions to the flat metrics of `metrics.json`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xdeepint_ext import metrics
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.metrics.evaluation import GROUP_WEIGHTS

__all__ = ["score", "score_rows"]


def score(predictions: Predictions, notes: list[str] | None = None, where: str = "") -> dict[str, float]:
    """Metrics of every task; with several tasks the keys begin with `TASK.`, and `mean.` is the tasks' mean.

    Args:
      predictions: of a split.
      notes: gets a line for each metric that cannot be computed, and why.
      where: begins these lines.
    """
    found: dict[str, float] = {}
    tasks = list(predictions.labels)
    for task in tasks:
        prefix = f"{task}." if len(tasks) > 1 else ""
        values = score_rows(predictions, task, predictions.rows(task), notes, f"{where}{prefix}")
        found |= {prefix + name: value for name, value in values.items()}
    if len(tasks) > 1:
        for name in ("auc", "logloss"):
            found[f"mean.{name}"] = float(np.mean([found[f"{task}.{name}"] for task in tasks]))
    return found


def score_rows(
    predictions: Predictions, task: str, rows: np.ndarray, notes: list[str] | None = None, where: str = ""
) -> dict[str, float]:
    """Metrics of one task on some of the records.

    Args:
      predictions: of a split.
      task: the task.
      rows: (n,) booleans.
      notes: see `score`.
      where: see `score`.
    """
    notes = notes if notes is not None else []
    labels, logits = predictions.labels[task][rows], predictions.logits[task][rows]
    if not len(labels):
        notes.append(f"{where}: no record has a label")
        return {"rows": 0.0}
    weights = None if predictions.weights is None else predictions.weights[rows]
    found = {
        "rows": float(len(labels)),
        "auc": metrics.auc(labels, logits, weights),
        "logloss": metrics.log_loss(labels, logits, weights),
        "nce": metrics.normalized_cross_entropy(labels, logits, weights),
        "ece": metrics.expected_calibration_error(labels, sigmoid(logits), weights),
        "label_mean": float(np.average(labels, weights=weights)),
    }
    if predictions.groups is not None:
        found |= _group_scores(labels, logits, predictions.groups[rows], weights)
    missing = [name for name, value in found.items() if math.isnan(value)]
    if missing:
        reason = "all labels are equal" if len(np.unique(labels)) == 1 else "no group has both classes"
        notes.append(f"{where}{', '.join(missing)}: not defined, as {reason}")
    return found


def _group_scores(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray, weights: Any) -> dict[str, float]:
    found = {}
    for weight in GROUP_WEIGHTS:
        result = metrics.gauc(labels, logits, groups, weight, weights)
        found["gauc" if weight == "rows" else f"gauc_{weight}"] = result.value
    counts = {"groups": result.groups, "groups_left_out": result.groups_left_out}
    return found | {name: float(count) for name, count in counts.items()}


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)) in float64, without overflow."""
    logits = np.asarray(logits, np.float64)
    return np.exp(-np.logaddexp(0, -logits))
