"""Which training records come together, and which of a batch are a list: all, a user's, or a session's."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.group_options import GroupCEOptions
from xdeepint_ext.schema import SIDE_INPUTS, Schema

__all__ = ["check_reading", "group_numbers", "loss_of", "refuse_for_lists", "with_lists"]

ROLES = {"user": "group", "session": "session"}
"""Of `--grouping` and `--order` -> the role whose feature tells the groups."""


def check_reading(config: Config, schema: Schema) -> None:
    """Checks `order` and `grouping` against the data.

    Raises:
      ValueError: the schema has no feature with the role, or the records are not in memory.
    """
    for flag in ("grouping", "order"):
        value = getattr(config, flag)
        if value in ROLES and SIDE_INPUTS[ROLES[value]] not in schema.side_inputs:
            raise ValueError(
                f"{flag}={value} needs a feature with the role {ROLES[value]} in the schema; there are the roles "
                f"{sorted({role for feature in schema for role in feature.roles})}"
            )
    if config.order in ROLES and not config.cache:
        raise ValueError(f"order={config.order} needs the records in memory: say --cache")


def refuse_for_lists(config: Config) -> None:
    """Checks that a run on lists asks for nothing that only single examples have.

    Raises:
      ValueError: it does.
    """
    asked = {flag: getattr(config, flag) for flag in ("grouping", "order", "cold_start", "warm_start")}
    usual = {"grouping": "batch", "order": "shuffled", "cold_start": (), "warm_start": ""}
    wrong = [f"{flag}={value}" for flag, value in asked.items() if value != usual[flag]]
    wrong += ["model=groupce"] if isinstance(config.options, GroupCEOptions) else []
    if wrong:
        raise ValueError(f"{wrong[0]} is for single examples, but {config.data_dir} holds lists")


def loss_of(config: Config) -> Any:
    """What a model on single examples is trained with; None = the log loss.

    Raises:
      ValueError: `grouping` is not `batch` and the model's loss has no lists.
    """
    options = config.options
    if isinstance(options, GroupCEOptions):
        return options.loss(grouped=config.grouping in ROLES)
    if config.grouping in ROLES:
        raise ValueError(f"grouping={config.grouping} is for the losses on lists of model groupce, not {config.model}")
    return None


def group_numbers(arrays: Any, order: str) -> np.ndarray | None:
    """(n,) the number of each record's group, 0 .. groups - 1; None where records are shuffled one by one.

    Args:
      arrays: (features, ...) of all records.
      order: of the config.
    """
    if order not in ROLES:
        return None
    ids = arrays[0][SIDE_INPUTS[ROLES[order]]]
    return np.unique(np.asarray(ids), return_inverse=True)[1]


def with_lists(dataset: tf.data.Dataset, grouping: str) -> tf.data.Dataset:
    """Training batches whose side input `group_ids`, which losses take lists from, tells the sessions."""
    if grouping != "session":
        return dataset

    def regrouped(features: Any, *rest: Any) -> Any:
        return ({**features, "group_ids": features[SIDE_INPUTS[ROLES[grouping]]]}, *rest)

    made = dataset.map(regrouped)
    for name in ("records", "explain"):
        if hasattr(dataset, name):
            setattr(made, name, getattr(dataset, name))
    return made
