"""Parts of a split by the value of a feature, under readable names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np

from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.scores import score_rows
from xdeepint_ext.schema import Feature, Schema

__all__ = ["check_slices", "distinct_ids", "id_names", "parts_of", "score_parts", "score_slices"]

MOST_VALUES = 20
SHOWN = ("rows", "auc", "logloss", "label_mean", "ece", "gauc")
MISSING, OTHER, FREE = "(missing)", "(other)", "(free)"


def check_slices(schema: Schema, slices: tuple[str, ...], flag: str = "slices") -> None:
    """Checks that the model's inputs can be cut by these features.

    Args:
      schema: of the model.
      slices: names of features.
      flag: that gave them, for the message.

    Raises:
      ValueError: one is no input, or no ids.
    """
    fit = [feature.name for feature in schema.inputs if feature.is_ids]
    wrong = [name for name in slices if name not in fit]
    if wrong:
        raise ValueError(f"{flag}: {wrong[0]!r} is no input with ids; there are {fit}")


def score_slices(
    predictions: Predictions, schema: Schema, vocabulary_dir: str, notes: list[str], where: str = ""
) -> dict[str, float]:
    """AUC and log loss for each value of the features in `predictions.ids`, the 20 most frequent of each.

    Args:
      predictions: of a split.
      schema: of the model.
      vocabulary_dir: names the ids.
      notes: gets a line for each feature of which values are left out, or lack a metric.
      where: begins the keys: `test.` gives `test.slice.tab=1.auc`.
    """
    found: dict[str, float] = {}
    for name, ids in predictions.ids.items():
        left_out = _by_frequency(ids)[MOST_VALUES:]
        if len(left_out):
            rows = int(np.isin(ids, left_out).any(axis=1).sum())
            notes.append(f"{where}slice.{name}: {len(left_out)} rarer values, in {rows} records, are not listed")
        parts = parts_of(predictions, schema[name], vocabulary_dir)
        found |= score_parts(predictions, name, parts, notes, where)
    return found


def parts_of(predictions: Predictions, feature: Feature, vocabulary_dir: str) -> dict[str, np.ndarray]:
    """Readable value of a feature in `predictions.ids` -> (n,) booleans, the 20 most frequent, in that order."""
    ids = predictions.ids[feature.name]
    names = id_names(feature, vocabulary_dir)
    return {names[value]: (ids == value).any(axis=1) for value in _by_frequency(ids)[:MOST_VALUES]}


def _by_frequency(ids: np.ndarray) -> np.ndarray:
    values, counts = np.unique(distinct_ids(ids)[1], return_counts=True)
    return values[np.argsort(-counts, kind="stable")]


def score_parts(
    predictions: Predictions, name: str, parts: Mapping[str, np.ndarray], notes: list[str], where: str = ""
) -> dict[str, float]:
    """AUC, log loss and the like of parts of a split.

    Args:
      predictions: of the split.
      name: what the parts differ in.
      parts: value -> (n,) booleans.
      notes: see `score_slices`.
      where: see `score_slices`.
    """
    found: dict[str, float] = {}
    for task in predictions.labels:
        prefix = f"{where}{task}." if len(predictions.labels) > 1 else where
        scores = {
            value: score_rows(predictions, task, inside & predictions.rows(task)) for value, inside in parts.items()
        }
        notes += _undefined(f"{prefix}slice.{name}", scores)
        found |= {
            f"{prefix}slice.{name}={value}.{metric}": of_value[metric]
            for value, of_value in scores.items()
            for metric in SHOWN
            if metric in of_value
        }
    return found


def _undefined(where: str, scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A line for each reason why values of a feature lack a metric."""
    reasons = {
        "no record has a label": [value for value, found in scores.items() if not found["rows"]],
        "all labels are equal, so there is no AUC": [
            value for value, found in scores.items() if math.isnan(found.get("auc", 0.0))
        ],
        "no group has both classes, so there is no GAUC": [
            value
            for value, found in scores.items()
            if math.isnan(found.get("gauc", 0.0)) and not math.isnan(found.get("auc", 0.0))
        ],
    }
    return [f"{where}: {reason}, for {', '.join(values)}" for reason, values in reasons.items() if values]


def id_names(feature: Feature, vocabulary_dir: str) -> list[str]:
    """A readable name of every id of a feature."""
    if feature.uses_vocabulary:
        with open(vocabulary_file(vocabulary_dir, feature.table_name), encoding="utf-8", errors="replace") as stream:
            values = [line.rstrip("\n") for line in stream]
    elif feature.boundaries is not None:
        edges = ["-inf", *(f"{edge:g}" for edge in feature.boundaries), "inf"]
        values = [f"[{low}, {high})" for low, high in itertools.pairwise(edges)]
    elif feature.binning == "log_square":
        values = [f"bin {i}" for i in range(feature.num_ids - 1)]
    else:
        word = "bucket " if feature.lookup == "hash" else ""
        values = [f"{word}{i}" for i in range(feature.num_values or 0)]
    others = [OTHER if feature.num_oov == 1 else f"{OTHER} {i}" for i in range(feature.num_oov)]
    names = [MISSING, *others, *values]
    last = [MISSING] if feature.missing == "bucket" else []
    waiting = feature.num_ids - len(names) - len(last)  # rows of the capacity that have no value yet
    return [*names, *(f"{FREE} {i}" for i in range(waiting)), *last]


def distinct_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ids of each row, as (rows, ids): 0, which pads, only of features that have one id a row.

    Args:
      ids: (n, length).
    """
    if ids.shape[1] == 1:
        return np.arange(len(ids)), ids[:, 0]
    ordered = np.sort(ids, axis=1)
    first = np.concatenate([np.ones((len(ids), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    rows, columns = np.nonzero(first & (ordered > 0))
    return rows, ordered[rows, columns]
