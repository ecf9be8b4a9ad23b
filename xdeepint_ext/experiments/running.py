"""`run`: a `Config` -> a trained and evaluated model, and its metrics."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.experiments import artifacts, calibrating
from xdeepint_ext.experiments.checkpoints import CheckpointStore, MemoryStore
from xdeepint_ext.experiments.code_watch import CodeWatch
from xdeepint_ext.experiments.cold_start import check_cold_start, score_cold_start, training_users
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.costs import costs
from xdeepint_ext.experiments.evaluations import Evaluate
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.kinds import dataset_of, kind_of
from xdeepint_ext.experiments.list_inputs import open_inputs
from xdeepint_ext.experiments.optimizer_options import make_optimizers
from xdeepint_ext.experiments.placement import (
    EVALUATIONS,
    Placement,
    make_placement,
    serve_if_evaluator,
    serve_if_server,
)
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.preemption import names_lost_processes
from xdeepint_ext.experiments.progress_state import Position, RunState
from xdeepint_ext.experiments.routing import Routed, Routing, measure, unfinished
from xdeepint_ext.experiments.run_directory import RunDirectory
from xdeepint_ext.experiments.slices import check_slices, score_slices
from xdeepint_ext.experiments.table_costs import (
    available_memory,
    check_memory,
    copies_on_host,
    describe_tables,
    table_costs,
)
from xdeepint_ext.experiments.tpu_tables import use_tpu_tables
from xdeepint_ext.experiments.training import Schedule, train
from xdeepint_ext.experiments.warm_start import warm_start
from xdeepint_ext.experiments.weights import sparsity
from xdeepint_ext.experiments.workers import Workers
from xdeepint_ext.models import RankingModel
from xdeepint_ext.optimizers.tpu import tpu_optimizer
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.calibration import Calibration
from xdeepint_ext.utils.variables import optimizer_group

__all__ = ["Run", "execute", "run"]


@dataclasses.dataclass
class Run:
    """A finished run.

    Args:
      config: what was run.
      metrics: flat, as in metrics.json.
      predictions: split -> `Predictions`, of lists `ListPredictions`, of the splits that were evaluated.
      state: position and history.
      model: with its best weights.
      inputs: its records.
      routings: split -> how the model routes its records, of a model that does.
      calibrations: task -> what is made of its logits in serving.
    """

    config: Config
    metrics: dict[str, Any]
    predictions: dict[str, Any]
    state: RunState
    model: RankingModel
    inputs: Inputs
    routings: dict[str, Routing] = dataclasses.field(default_factory=dict)
    calibrations: dict[str, Calibration] = dataclasses.field(default_factory=dict)

    @property
    def shown_split(self) -> str:
        """The split that a figure of one split alone is of; "" where none was evaluated."""
        return _shown_split(self.config)


def run(config: Config) -> dict[str, Any]:
    """Trains, evaluates and leaves the results in `model_dir`, where one is given.

    A run that was broken off goes on from its last checkpoint. One that is finished is not repeated: its metrics are
    read.

    Args:
      config: what to run.

    Returns:
      The metrics of metrics.json: `test.auc`, `test.logloss`, `valid.auc` ..., with several tasks `test.TASK.auc`;
      `test.slice.FEATURE=VALUE.auc` for `slices`; `notes`, which say what is NaN or left out, and why.

    Raises:
      ValueError: the config, `model_dir` or data do not fit together; DataError, a kind of it, for the data.
      FloatingPointError: training diverged.
      MemoryError: the embedding tables do not fit; raised before they are made.
      OSError, TimeoutError: a cluster cannot be formed; see `make_placement`.
      Preempted, LostProcess: training ended, to be started again; see `train`.
    """
    if not config.model_dir:
        return execute(config).metrics
    serve_if_server(config)
    serve_if_evaluator(config, lambda: _evaluated(config))
    place = make_placement(config)
    inputs = open_inputs(config)
    directory = RunDirectory(config, inputs.manifest)
    with contextlib.ExitStack() as stack, names_lost_processes(place.several):
        metrics = place.workers.from_chief(lambda: stack.enter_context(directory.claimed()))
        if metrics is not None:
            _say(config, f"{config.model_dir} holds this run, finished: nothing to do")
            return metrics
        return _execute(config, place, inputs, directory).metrics


def execute(config: Config) -> Run:
    """As `run` in memory: `model_dir` is left alone, and the model and predictions are returned, too.

    Of several workers only the chief has predictions.
    """
    serve_if_server(config)
    place = make_placement(config)
    with names_lost_processes(place.several):
        return _execute(config, place, open_inputs(config), None)


def _execute(config: Config, place: Placement, inputs: Inputs, directory: RunDirectory | None) -> Run:
    if place.tpu_batch_size is not None and directory is None:
        raise ValueError("strategy=tpu keeps the best weights in files: it is for a single run with a model_dir")
    inputs.divide_among(place.workers.count)
    check_slices(inputs.schema, config.slices)
    check_cold_start(inputs.schema, config.cold_start)
    _check_splits(config, inputs)
    calibrating.check_calibration(config, inputs.manifest)
    artifacts.check(config, directory, inputs)
    schedule = Schedule(config, inputs.steps_per_epoch)
    state = RunState()
    state.now.topology, state.now.tables = place.topology, inputs.manifest.table_fingerprint()
    tables = table_costs(config, inputs.schema)
    _say(config, describe_tables(tables, config.optimizer))
    # A coordinator takes the weights to itself in the end, and never the slots.
    here = [dataclasses.replace(table, trainable=False) for table in tables] if place.moves_weights else tables
    check_memory(here, config.optimizer, available_memory(), copies_on_host(place.strategy))
    with process_settings(config):
        with place.scope():
            model = make_model(config, inputs, schedule.total, tpu_batch_size=place.tpu_batch_size)
        store = make_store(directory, model, state, place.workers)
        resumed = store.restore()
        check_alike(state, place.workers)
        if resumed and place.workers.is_chief:
            done = "is trained; evaluates it anew" if state.now.finished else f"goes on from step {state.now.step}"
            _say(config, f"{config.model_dir}: {done}")
        if config.warm_start and not resumed:

            def make(schema: Schema) -> RankingModel:
                with place.scope():
                    return make_model(config, inputs, schedule.total, schema)

            steps, fresh = warm_start(config, inputs, model, make)
            rows = f"; {sum(fresh.values()):,} rows start fresh" if any(fresh.values()) else ""
            _say(config, f"goes on from step {steps} of {config.warm_start}{rows}")

        @functools.cache
        def ordinary() -> RankingModel:
            return make_model(config, inputs, schedule.total, slots=False)

        def brought() -> RankingModel:
            return place.brought_here(model, ordinary)

        # A TPU's tables answer nobody but a step: its model is asked through an ordinary one.
        asked = model if place.tpu_batch_size is None else brought()
        predict = inputs.predictor(asked, place.predicting)
        validate = _validation(config, inputs, asked, predict, state.now)

        def evaluate_now() -> Mapping[str, float]:
            if asked is not model:
                brought()
            return validate()

        with artifacts.event_writer(directory if place.workers.is_chief else None) as write_event:
            train(
                *(config, inputs, inputs.steps_per_epoch, model, place, state, store),
                place.evaluations(evaluate_now, directory.file(EVALUATIONS) if directory else ""),
                write_event,
            )
    finished = Run(config, {}, {}, state, model, inputs)

    def evaluate() -> dict[str, Any]:
        with process_settings(config):
            finished.model = brought()
            again = predict if finished.model is asked else inputs.predictor(finished.model, place.predicting)
            finished.predictions = {split: again(split, final=True) for split in config.evaluate}
            if calibrating.fits(config):
                known = finished.predictions
                finished.calibrations = calibrating.fit(
                    config, model.tasks, lambda split: known[split] if split in known else again(split, final=True)
                )
            finished.routings = _routings(config, inputs, finished.model)
        finished.metrics = _measure(finished)
        if directory:
            artifacts.write(finished, directory)
        return finished.metrics

    finished.metrics = place.workers.from_chief(evaluate)
    return finished


def _validation(
    config: Config, inputs: Inputs, model: RankingModel, predict: Callable[..., Any], now: Position
) -> Evaluate:
    """What gives the metrics of the valid split; `now` holds users' codes from one evaluation to the next."""
    score, moves = kind_of(inputs.manifest).score, CodeWatch.of(model, inputs, config)
    return lambda: {**score(predict("valid")), **(moves(now) if moves else {})}


def _evaluated(config: Config) -> tuple[RankingModel, Evaluate]:
    """The model of an evaluator's process, and what gives the metrics of the valid split with its weights."""
    inputs = open_inputs(config)
    with process_settings(config):
        model = make_model(config, inputs, Schedule(config, inputs.steps_per_epoch).total, slots=False)
    predict = inputs.predictor(model, tf.distribute.get_strategy())
    return model, _validation(config, inputs, model, predict, Position())


def _measure(run: Run) -> dict[str, Any]:
    """The metrics of a run whose predictions are made."""
    config, inputs, model = run.config, run.inputs, run.model
    score = kind_of(inputs.manifest).score
    notes = [f"{split}: {n} damaged records were skipped" for split, n in inputs.skipped.items() if n]
    notes += unfinished(model) if isinstance(model, Routed) else []
    cost = costs(model, notes, run.routings.get(_shown_split(config)))
    metrics = {**_describe(config, inputs, model, run.state), **cost, **sparsity(model)}
    users = training_users(inputs) if config.cold_start else None
    for split, values in run.predictions.items():
        metrics |= {f"{split}.{name}": value for name, value in score(values, notes, f"{split}.").items()}
        if isinstance(values, Predictions):
            metrics |= score_slices(values, inputs.schema, inputs.vocabulary_dir, notes, f"{split}.")
        rate = config.negative_sampling_rate
        metrics |= calibrating.measure(run.calibrations, values, rate, f"{split}.") if run.calibrations else {}
        if users is not None:
            metrics |= score_cold_start(values, users, config.cold_start, notes, f"{split}.")
    metrics |= {f"{split}.expected_depth": routing.expected_depth for split, routing in run.routings.items()}
    metrics["notes"] = notes
    return metrics


def make_store(
    directory: RunDirectory | None, model: RankingModel, state: RunState, workers: Workers
) -> CheckpointStore | MemoryStore:
    """Where a run keeps its weights: its directory's checkpoints, which the chief alone writes, or memory."""
    if directory is None:
        return MemoryStore(model)
    return CheckpointStore(directory.file("checkpoints"), model, state, writes=workers.is_chief)


def check_alike(state: RunState, workers: Workers) -> None:
    """Checks that all workers go on from the same step.

    Raises:
      ValueError: they do not, as when each has a `model_dir` of its own.
    """
    last, first = workers.largest([state.now.step, -state.now.step])
    if last != -first:
        raise ValueError(
            f"model_dir: the workers see checkpoints of steps {-first:g} to {last:g}; they must share one directory"
        )


def make_model(
    config: Config,
    inputs: Inputs,
    total_steps: int,
    schema: Schema | None = None,
    slots: bool = True,
    tpu_batch_size: int | None = None,
) -> RankingModel:
    """The compiled model, with all weights, of the inputs' schema or of another.

    Args:
      config: of the run.
      inputs: its records.
      total_steps: of training, for schedules.
      schema: default: the inputs'.
      slots: whether the optimizer's slots are made, too, for a model that will train.
      tpu_batch_size: of each core of the TPU that has the tables; None where no TPU has them.
    """
    model = config.options.make(schema or inputs.schema)
    optimizers = make_optimizers(config, total_steps)
    if tpu_batch_size is not None:
        use_tpu_tables(model, tpu_optimizer(optimizers["embedding"]), tpu_batch_size)
    model.build_from_schema()
    used = {optimizer_group(variable) for variable in model.trainable_variables}
    model.compile(
        {group: optimizer for group, optimizer in optimizers.items() if group in used},
        loss=inputs.loss(),
        metrics=inputs.metrics(),
        jit_compile=config.jit_compile,
    )
    if slots:
        model.optimizer.build(model.trainable_variables)
    return model


def _routings(config: Config, inputs: Inputs, model: RankingModel) -> dict[str, Routing]:
    if not isinstance(model, Routed) or inputs.manifest.lists is not None:
        return {}
    return {split: measure(model, inputs.batches(split), inputs.schema) for split in config.evaluate}


def _shown_split(config: Config) -> str:
    return "test" if "test" in config.evaluate else "".join(config.evaluate[-1:])


def _check_splits(config: Config, inputs: Inputs) -> None:
    if config.early_stopping != "none" and not inputs.manifest.splits.get("valid"):
        raise DataError(
            f"early_stopping={config.early_stopping} needs a valid split, and {config.data_dir} has none; prepare the "
            "data with one, or say --early_stopping=none"
        )
    known = (*kind_of(inputs.manifest).criteria, "none")
    if config.early_stopping not in known:
        raise ValueError(
            f"early_stopping must be one of {known} where the data are {kind_of(inputs.manifest).records}, as in "
            f"{config.data_dir}; got {config.early_stopping!r}"
        )
    if config.early_stopping == "gauc" and "group_ids" not in inputs.schema.side_inputs:
        raise ValueError("early_stopping=gauc needs a feature with the role group in the schema")
    for split in config.evaluate:
        inputs.manifest.shards(split)


@contextlib.contextmanager
def process_settings(config: Config) -> Iterator[None]:
    """Seeds, dtype policy and kernels of the process; policy and generators are as before at the end."""
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.keras.utils.set_random_seed(config.seed)
    policy = tf.keras.mixed_precision.global_policy()
    generators = tf.keras.backend.experimental
    stateful = generators.is_tf_random_generator_enabled()
    tf.keras.mixed_precision.set_global_policy(config.mixed_precision)
    generators.enable_tf_random_generator()  # their states can be saved, those of plain random ops cannot
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(policy)
        if not stateful:
            generators.disable_tf_random_generator()


def _describe(config: Config, inputs: Inputs, model: RankingModel, state: RunState) -> dict[str, Any]:
    now = state.now
    rate = now.timed_steps * config.batch_size / now.seconds if now.seconds else float("nan")
    return {
        "dataset": dataset_of(inputs.manifest),
        "model": config.model,
        "seed": config.seed,
        "steps": now.step,
        "best_step": now.step if now.best_step is None else now.best_step,
        "finished": now.finished,
        "examples_per_second": rate,
        "bad_records_skipped": sum(inputs.skipped.values()),
    }


def _say(config: Config, text: str) -> None:
    if config.progress:
        print(text, file=sys.stderr, flush=True)
