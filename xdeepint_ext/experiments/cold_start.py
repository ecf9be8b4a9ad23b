"""A split's records by how many training records their users have."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.slices import score_parts
from xdeepint_ext.schema import Schema

__all__ = ["check_cold_start", "score_cold_start", "training_users"]

NAME = "training_records"


def check_cold_start(schema: Schema, bounds: Sequence[int]) -> None:
    """Checks that the data tell users.

    Raises:
      ValueError: no feature has the role group.
    """
    if bounds and "group_ids" not in schema.side_inputs:
        raise ValueError(f"cold_start={tuple(bounds)} needs a feature with the role group in the schema")


def training_users(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """(`group_ids` of the users with training records, ascending; how many records each has)."""
    groups = np.concatenate([np.asarray(batch[0]["group_ids"]) for batch in inputs.batches("train")])
    users, counts = np.unique(groups, return_counts=True)
    return users, counts


def score_cold_start(
    predictions: Predictions,
    known: tuple[np.ndarray, np.ndarray],
    bounds: Sequence[int],
    notes: list[str],
    where: str = "",
) -> dict[str, float]:
    """The metrics of a slice for the users with so many training records.

    Args:
      predictions: of a split.
      known: see `training_users`.
      bounds: 0, 10 makes the slices `0`, `1-10` and `11+`.
      notes: gets a line for each metric that is not defined.
      where: begins the keys: `test.` gives `test.slice.training_records=0.gauc`.
    """
    assert predictions.groups is not None
    users, counts = known
    places = np.minimum(np.searchsorted(users, predictions.groups), len(users) - 1)
    records = np.where(users[places] == predictions.groups, counts[places], 0)
    edges = [-1, *bounds]
    parts = {
        f"{low + 1}-{high}" if low + 1 < high else f"{high}": (records > low) & (records <= high)
        for low, high in itertools.pairwise(edges)
    }
    parts[f"{bounds[-1] + 1}+"] = records > bounds[-1]
    return score_parts(predictions, NAME, parts, notes, where)
