"""`--warm_start`: a run that goes on, with another day's records and ids, from where a finished one ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest
from xdeepint_ext.experiments.checkpoints import checkpoint_of, random_generators
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.id_maps import FRESH, Meaning, check_features, id_maps
from xdeepint_ext.experiments.inputs import select_features
from xdeepint_ext.experiments.progress_state import RunState
from xdeepint_ext.experiments.run_directory import FLAGS_FILE, METRICS_FILE, flag_texts, read_flags, read_manifest
from xdeepint_ext.models import RankingModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.tables import array, embeddings, parts

__all__ = ["meaning_of_run", "warm_start"]

# What a day may change: its length, what stops it, and how its records are read.
OF_A_DAY = {"epochs", "max_steps", "early_stopping", "patience", "eval_every", "warm_start", "seed", "cache", "order"}
OF_A_DAY |= {
    "deterministic",
    "max_bad_records",
    "learning_rate",
    "embedding_learning_rate",
    "interaction_learning_rate",
}


def warm_start(
    config: Config, inputs: Any, model: RankingModel, make: Callable[[Schema], RankingModel]
) -> tuple[int, dict[str, int]]:
    """Puts weights, slots, codebooks and random generators at the end of `config.warm_start`'s run.

    Rows of tables, and the optimizer's slots of these rows, are found by value, whatever their ids were. Values that
    are new start as they would in a new model. What a run does once, such as k-means, or G-FTRL's first step that
    zeroes the rows outside the batch, is not done again.

    Args:
      config: of the run that goes on.
      inputs: its records.
      model: built and compiled, its optimizer built, too.
      make: makes such a model of another schema; called where a table has another number of rows.

    Returns:
      The steps of all runs so far, this one's not among them; and table -> its rows that start fresh.

    Raises:
      ValueError: there is no finished run, it is of another model, its last weights are not its result, or its
        checkpoint is not of its data.
      DataError: the two runs' data do not fit together.
    """
    directory = config.warm_start
    if not os.path.exists(os.path.join(directory, METRICS_FILE)):
        raise ValueError(f"warm_start: {directory} holds no finished run")
    _check_flags(config, directory)
    old = meaning_of_run(directory, config.features)
    new = Meaning(config.data_dir, inputs.manifest, inputs.schema, inputs.vocabulary_dir)
    check_features(old, new)
    maps = id_maps(old, new)
    moves = any(not np.array_equal(of_table, np.arange(len(of_table))) for of_table in maps.values())
    if moves and isinstance(model.distribute_strategy, tf.distribute.experimental.ParameterServerStrategy):
        raise ValueError(
            "warm_start: under --strategy=parameter_server the ids must be those of the run before; prepare the day "
            "with --vocabulary_from and without --grow"
        )
    sizes = [{name: table.rows for name, table in meaning.schema.tables.items()} for meaning in (old, new)]
    rates = [(rate, array(rate)) for rate in _learning_rates(model)]
    moved = list(_moved_rows(old.schema, model, maps)) if moves else []
    source = model if sizes[0] == sizes[1] else make(old.schema)
    state = _restore(source, directory, old.manifest)
    _carry_on(source, model, moved)
    for rate, value in rates:
        rate.assign(value)
    for metric in model.metrics:
        metric.reset_state()
    return state.now.step, {name: int(np.count_nonzero(of_table == FRESH)) for name, of_table in maps.items()}


def meaning_of_run(directory: str, features: tuple[str, ...] = ()) -> Meaning:
    """What the ids of a finished run mean.

    Args:
      directory: its `model_dir`.
      features: see `Config`.

    Raises:
      DataError: the data that it was trained on are gone, or are not what they were.
    """
    data_dir = read_flags(os.path.join(directory, FLAGS_FILE))["data_dir"]
    stored = read_manifest(directory)
    if not os.path.isdir(data_dir):
        raise DataError(
            f"warm_start: {data_dir}, whose vocabularies name the ids of the run in {directory}, is not there"
        )
    found = Manifest.load(data_dir)
    for name in sorted({**stored.tables, **found.tables}):
        if stored.tables.get(name) != found.tables.get(name):
            raise DataError(
                f"warm_start: {data_dir} is not what the run in {directory} was trained on: table {name!r} is "
                f"{found.tables.get(name)} now, and was {stored.tables.get(name)}"
            )
    if stored.schema != found.schema:
        raise DataError(f"warm_start: the schema of {data_dir} is not the one that {directory} was trained with")
    schema = select_features(data_dir, found, features)
    return Meaning(data_dir, found, schema, os.path.join(data_dir, VOCABULARY))


def _check_flags(config: Config, directory: str) -> None:
    """Refuses another model or optimizer."""
    if config.schedule != "constant":
        raise ValueError(
            f"warm_start: the steps go on behind those of {directory}, where --schedule={config.schedule} has ended; "
            "say --schedule=constant"
        )
    stored = read_flags(os.path.join(directory, FLAGS_FILE))
    wanted = {"model": config.model, **flag_texts(config, "training")}
    for name, value in wanted.items():
        if name not in OF_A_DAY and stored.get(name) != value:
            raise ValueError(f"warm_start: --{name} is {stored.get(name)} in {directory}, and {value} here")


def _restore(source: RankingModel, directory: str, manifest: Manifest) -> RunState:
    """Puts a model at the end of a run, and gives where that is."""
    state = RunState()
    latest = tf.train.latest_checkpoint(os.path.join(directory, "checkpoints"))
    if latest is None:
        raise ValueError(f"warm_start: {directory} has no checkpoint")
    try:
        checkpoint_of(source, state).restore(latest).assert_consumed()
    except (AssertionError, tf.errors.OpError, ValueError) as error:
        raise ValueError(f"warm_start: checkpoint {latest} does not fit the model: {error}") from None
    now = state.now
    if now.tables != manifest.table_fingerprint():
        raise ValueError(
            f"warm_start: checkpoint {latest} was made with tables of fingerprint {now.tables!r}, but the manifest of "
            f"{directory} has {manifest.table_fingerprint()!r}"
        )
    if now.best_step not in (None, now.step):
        raise ValueError(
            f"warm_start: the result of {directory} is its step {now.best_step}, and its slots are those of step "
            f"{now.step}; train it with --early_stopping=none"
        )
    return state


class _MovedRows:
    """Where the rows of a table's variable, and of its slots, come from.

    Args:
      source: (rows,) the row in yesterday's variable, `FRESH` = none.
      fresh: name of the variable or slot -> its rows of a new model that start fresh.
    """

    def __init__(self, source: np.ndarray, fresh: Mapping[str, np.ndarray]) -> None:
        self._source, self._fresh = source, fresh

    def concerns(self, variable: Any) -> bool:
        """Whether the variable is the table's, or a slot that has a row for each of its rows."""
        return variable.name in self._fresh

    def of(self, variable: Any, old: np.ndarray) -> np.ndarray:
        """The variable's rows, made of yesterday's."""
        found = old[np.maximum(self._source, 0)]
        found[self._source == FRESH] = self._fresh[variable.name]
        return found


def _moved_rows(old: Schema, model: RankingModel, maps: Mapping[str, np.ndarray]) -> Iterator[_MovedRows]:
    """For each variable of tables of a new model."""
    for layer in embeddings(model):
        grown = {f.name: old[f.name] for f in layer.schema.inputs if f.is_ids}
        sizes = {name: {"num_values": f.num_values, "capacity": f.capacity} for name, f in grown.items()}
        before = parts(layer, layer.schema.replace(sizes))
        for key, variable in layer.tables.items():
            source = np.full(variable.shape[0], FRESH, np.int64)
            source[0] = 0
            for name, (own, rows) in parts(layer).items():
                if own == key:
                    ids = maps[name][1:]
                    source[rows] = np.where(ids == FRESH, FRESH, before[name][1].start + ids - 1)
            slots = [slot for slot in model.optimizer.variables if _is_slot(slot, variable)]
            new = np.flatnonzero(source == FRESH)
            fresh = {found.name: tf.gather(array(found), new).numpy() for found in (variable, *slots)}
            yield _MovedRows(source, fresh)


def _is_slot(slot: Any, variable: Any) -> bool:
    # Keras names a slot SLOT/VARIABLE; G-FTRL's flag has no rows.
    return slot.name.endswith(f"/{variable.name}") and slot.shape[:1] == variable.shape[:1]


def _carry_on(source: RankingModel, model: RankingModel, moved: list[_MovedRows]) -> None:
    """Gives a model the weights, slots and generators of another one, which may be itself."""
    pairs = [*zip(source.weights, model.weights, strict=True)]
    pairs += zip(source.optimizer.variables, model.optimizer.variables, strict=True)
    for old, new in pairs:
        rows = next((found for found in moved if found.concerns(new)), None)
        if rows is None and old is new:
            continue
        if rows is None and old.shape != new.shape:
            raise ValueError(f"warm_start: {old.name} of shape {old.shape} cannot become {new.name} of {new.shape}")
        new.assign(array(old) if rows is None else rows.of(new, array(old)))
    if source is not model:
        for before, after in zip(random_generators(source), random_generators(model), strict=True):
            after.state.assign(before.state)


def _learning_rates(model: RankingModel) -> Iterator[tf.Variable]:
    """The variables of constant rates: a run's are those of its flags, not of the run before."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    for member in getattr(optimizer, "optimizers", {"": optimizer}).values():
        rate = member._learning_rate
        if isinstance(rate, tf.Variable):
            yield rate
