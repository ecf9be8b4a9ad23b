"""Streaming: a run that goes on, with the next day's records, from where another one ended."""

from __future__ import annotations

import json
import os

import tensorflow as tf

from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.experiments.checkpoints import checkpoint_of
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.progress_state import RunState
from xdeepint_ext.experiments.run_directory import FLAGS_FILE, MANIFEST_FILE, METRICS_FILE, flag_texts, read_flags
from xdeepint_ext.models import RankingModel

__all__ = ["go_on_from"]

# What a day may change: its length, what stops it, and how its records are read.
OF_A_DAY = {"epochs", "max_steps", "early_stopping", "patience", "eval_every", "incremental", "seed", "cache", "order"}
OF_A_DAY |= {
    "deterministic",
    "max_bad_records",
    "learning_rate",
    "embedding_learning_rate",
    "interaction_learning_rate",
}


def go_on_from(config: Config, manifest: Manifest, model: RankingModel) -> int:
    """Puts weights, slots, codebooks and random generators at the end of `config.incremental`'s run.

    Args:
      config: of the run that goes on.
      manifest: of its records.
      model: built and compiled, its optimizer built, too.

    Returns:
      The steps of all runs so far, this one's not among them.

    Raises:
      ValueError: there is no finished run, it is of another model, or its last weights are not its result.
      DataError: ids mean something else in the two runs' data.
    """
    directory = config.incremental
    if not os.path.exists(os.path.join(directory, METRICS_FILE)):
        raise ValueError(f"incremental: {directory} holds no finished run")
    _check_flags(config, directory)
    _check_tables(config, directory, manifest)
    state = RunState()
    latest = tf.train.latest_checkpoint(os.path.join(directory, "checkpoints"))
    try:
        checkpoint_of(model, state).restore(latest).assert_consumed()
    except (AssertionError, tf.errors.OpError, ValueError) as error:
        raise ValueError(f"incremental: checkpoint {latest} does not fit the model: {error}") from None
    if state.now.best_step not in (None, state.now.step):
        raise ValueError(
            f"incremental: the result of {directory} is its step {state.now.best_step}, and its slots are those of "
            f"step {state.now.step}; train it with --early_stopping=none"
        )
    for metric in model.metrics:
        metric.reset_state()
    return state.now.step


def _check_flags(config: Config, directory: str) -> None:
    """Refuses another model or optimizer."""
    stored = read_flags(os.path.join(directory, FLAGS_FILE))
    wanted = {"model": config.model, **flag_texts(config, "training")}
    for name, value in wanted.items():
        if name not in OF_A_DAY and stored.get(name) != value:
            raise ValueError(f"incremental: --{name} is {stored.get(name)} in {directory}, and {value} here")


def _check_tables(config: Config, directory: str, manifest: Manifest) -> None:
    """Refuses data whose ids mean something else."""
    with open(os.path.join(directory, MANIFEST_FILE), encoding="utf-8") as stream:
        stored = json.load(stream)["tables"]
    others = sorted(name for name in {**stored, **manifest.tables} if stored.get(name) != manifest.tables.get(name))
    if others:
        raise DataError(
            f"incremental: the ids of {config.data_dir} are not those of the run in {directory}: tables {others} "
            "differ; prepare the day with --vocabulary_from"
        )
