"""`run`: a `Config` -> a trained and evaluated model, and its metrics."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.experiments.checkpoints import CheckpointStore, MemoryStore
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.optimizer_options import make_optimizers
from xdeepint_ext.experiments.predictions import Predictions, make_predict
from xdeepint_ext.experiments.progress_state import RunState
from xdeepint_ext.experiments.scores import score
from xdeepint_ext.experiments.strategies import make_strategy
from xdeepint_ext.experiments.training import Schedule, train
from xdeepint_ext.experiments.weights import sparsity
from xdeepint_ext.models import RankingModel

__all__ = ["Run", "execute", "run"]


@dataclasses.dataclass
class Run:
    """A finished run.

    Args:
      config: what was run.
      metrics: flat, as in metrics.json.
      predictions: split -> predictions, of the splits that were evaluated.
      state: position and history.
      model: with its best weights.
      inputs: its records.
      notes: what could not be computed, and why.
    """

    config: Config
    metrics: dict[str, Any]
    predictions: dict[str, Predictions]
    state: RunState
    model: RankingModel
    inputs: Inputs
    notes: list[str]


def run(config: Config) -> dict[str, Any]:
    """Trains, evaluates and, where `model_dir` is given, leaves everything there.

    Returns:
      The metrics of metrics.json.
    """
    return execute(config).metrics


def execute(config: Config) -> Run:
    """As `run`, but returns the model and predictions, too."""
    strategy = make_strategy(config.strategy)
    inputs = Inputs(config)
    schedule = Schedule(config, inputs.steps_per_epoch)
    with _settings(config):
        with strategy.scope():
            model = make_model(config, inputs, schedule.total)
        state = RunState()
        store = (
            CheckpointStore(f"{config.model_dir}/checkpoints", model, state) if config.model_dir else MemoryStore(model)
        )
        store.restore()
        predict = make_predict(model, strategy, config.slices)
        validate = None
        if config.early_stopping != "none":
            if "valid" not in inputs.manifest.splits:
                raise DataError(
                    f"early_stopping={config.early_stopping} needs a valid split; {config.data_dir} has none"
                )
            if config.early_stopping == "gauc" and "group_ids" not in inputs.schema.side_inputs:
                raise ValueError("early_stopping=gauc needs a feature with the role group in the schema")

            def validate() -> dict[str, float]:
                return score(predict(inputs.batches("valid")))

        train(config, inputs, model, strategy, state, store, validate)
        predictions = {split: predict(inputs.batches(split)) for split in config.evaluate}
    notes: list[str] = []
    found = _describe(config, inputs, model, state)
    for split, values in predictions.items():
        found |= {f"{split}.{name}": value for name, value in score(values, notes, f"{split}.").items()}
    return Run(config, found, predictions, state, model, inputs, notes)


def make_model(config: Config, inputs: Inputs, total_steps: int) -> RankingModel:
    """The compiled model, with all weights and slots."""
    model = config.options.make(inputs.schema)
    model.compile(
        make_optimizers(config, total_steps),
        metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")],
        jit_compile=config.jit_compile,
    )
    model.build_from_schema()
    model.optimizer.build(model.trainable_variables)
    return model


@contextlib.contextmanager
def _settings(config: Config) -> Iterator[None]:
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
        "dataset": inputs.manifest.dataset,
        "model": config.model,
        "seed": config.seed,
        "steps": now.step,
        "best_step": now.best_step,
        "finished": now.finished,
        "examples_per_second": rate,
        "parameters": int(sum(weight.shape.num_elements() for weight in model.weights)),
        "bad_records_skipped": inputs.skipped,
        **sparsity(model),
    }
