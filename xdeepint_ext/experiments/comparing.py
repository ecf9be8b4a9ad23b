"""Ensembles of seeds and paired differences of predictions, and the file of the latter."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xdeepint_ext.experiments.config import canonical
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.scores import score, sigmoid
from xdeepint_ext.metrics import paired_bootstrap

__all__ = ["add_comparison", "add_ensemble", "compare", "comparisons_file", "ensemble", "forget"]

REPLICATES = 1000


def ensemble(members: Sequence[Predictions]) -> Predictions:
    """The mean of the members' probabilities, as logits.

    Args:
      members: predictions of the same records in the same order.

    Raises:
      ValueError: there is no member, or their labels differ, so that they cannot be of the same records.
    """
    if not members:
        raise ValueError("an ensemble needs at least one member")
    first = members[0]
    logits = {}
    for task, labels in first.labels.items():
        if any(not np.array_equal(labels, other.labels[task]) for other in members):
            raise ValueError(f"the members of an ensemble must have the same records; the labels of {task} differ")
        mean = np.mean([sigmoid(member.logits[task]) for member in members], axis=0)
        mean = np.clip(mean, 1e-15, 1 - 1e-15)
        logits[task] = np.log(mean) - np.log1p(-mean)
    return Predictions(first.labels, logits, first.weights, first.groups)


def compare(a: Predictions, b: Predictions, seed: int = 0) -> dict[str, Any]:
    """Differences a - b: `auc` and `logloss` over rows and `gauc` over groups, after `TASK.` where there are several.

    Args:
      a: predictions of a model.
      b: of another, for the same records.
      seed: of the resampling.
    """
    found = {}
    for task, labels in a.labels.items():
        if not np.array_equal(labels, b.labels[task]):
            raise ValueError(f"only predictions of the same records can be compared; the labels of {task} differ")
        rows = a.rows(task)
        prefix = f"{task}." if len(a.labels) > 1 else ""
        arrays = (labels[rows], a.logits[task][rows], b.logits[task][rows])
        for name, metric in (("auc", "auc"), ("logloss", "log_loss")):
            found[prefix + name] = paired_bootstrap(*arrays, metric, REPLICATES, seed)
        if a.groups is not None:
            found[f"{prefix}gauc"] = paired_bootstrap(*arrays, "gauc", REPLICATES, seed, a.groups[rows])
    return found


def comparisons_file(results: str) -> str:
    """The file that stands beside the results and holds the comparisons."""
    base, extension = os.path.splitext(results)
    return f"{base}_comparisons{extension}"


def forget(results: Results, settings: str, seed: int) -> None:
    """Drops ensembles and comparisons that a run of these settings and this seed is part of: it was run anew."""
    results.remove(
        lambda row: "+" in row["seed"] and _has(row["seed"], seed) and canonical(row["settings"]) == settings
    )
    Results(comparisons_file(results.path)).remove(
        lambda row: _has(row["seeds"], seed) and settings in (canonical(row["settings"]), canonical(row["other"]))
    )


def _has(seeds: str, seed: int) -> bool:
    return str(seed) in seeds.split("+")


def add_ensemble(results: Results, row: Mapping[str, str], seeds: str, predictions: Predictions, split: str) -> None:
    """Appends the ensemble of a row's seeds to the results."""
    key = {"dataset": row["dataset"], "data": "", "settings": row["settings"], "seed": seeds}
    about = {name: row[name] for name in ("configuration", "row", "commit", "model")}
    found = {f"{split}.{name}": value for name, value in score(predictions).items()}
    results.add(key, {**about, **found}, replace=True)


def add_comparison(path: str, row: str, key: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]) -> None:
    """Appends, for each metric, the mean over seeds of the differences and of their intervals' ends."""
    comparisons = Results(path)
    for metric in differences[0]:
        found = np.mean([[*difference[metric]] for difference in differences], axis=0)
        values = dict(zip(("value", "low", "high", "deviation"), map(float, found), strict=True))
        comparisons.add({**key, "metric": metric}, {"row": row, **values}, replace=True)
