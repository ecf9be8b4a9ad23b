"""`run_mseqa`: an `MseqaConfig` -> a trained and evaluated model of spans, and its metrics."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import tensorflow as tf

from xdeepint_ext.data.qa.questions import Question
from xdeepint_ext.experiments import artifacts
from xdeepint_ext.experiments.evaluations import Evaluate
from xdeepint_ext.experiments.mseqa_config import LONGEST, MseqaConfig
from xdeepint_ext.experiments.mseqa_data import MseqaData
from xdeepint_ext.experiments.mseqa_scores import score_answers
from xdeepint_ext.experiments.placement import (
    EVALUATIONS,
    Placement,
    make_placement,
    serve_if_evaluator,
    serve_if_server,
)
from xdeepint_ext.experiments.preemption import names_lost_processes
from xdeepint_ext.experiments.progress_state import RunState
from xdeepint_ext.experiments.run_directory import RunDirectory
from xdeepint_ext.experiments.running import check_alike, make_store, process_settings
from xdeepint_ext.experiments.training import Schedule, train
from xdeepint_ext.layers.roberta import RobertaEncoder
from xdeepint_ext.models.baselines.single_span_qa import SingleSpanQA
from xdeepint_ext.models.multi_head_span_qa import MultiHeadSpanQA
from xdeepint_ext.models.multi_span_tagger import MultiSpanTagger
from xdeepint_ext.models.roberta_checkpoint import load_roberta
from xdeepint_ext.models.span_model import SpanModel
from xdeepint_ext.serving.span_reader import Found, answer_windows, export_spans

__all__ = ["MseqaRun", "execute_mseqa", "run_mseqa"]


@dataclasses.dataclass
class MseqaRun:
    """A finished run.

    Args:
      config: what was run.
      metrics: flat, as in metrics.json.
      questions: split -> questions, of the splits that were evaluated.
      found: split -> the answers to each.
      state: position and history.
      model: with its best weights.
      data: the run's.
    """

    config: MseqaConfig
    metrics: dict[str, Any]
    questions: Mapping[str, Sequence[Question]]
    found: Mapping[str, Sequence[Sequence[Found]]]
    state: RunState
    model: SpanModel
    data: MseqaData


def run_mseqa(config: MseqaConfig) -> dict[str, Any]:
    """Trains, evaluates and leaves the results in `model_dir`, where one is given.

    A run that was broken off goes on from its last checkpoint. One that is finished is not repeated: its metrics are
    read.

    Returns:
      The metrics, as in metrics.json.

    Raises:
      ValueError: `model_dir` holds something else, or a flag is wrong.
      DataError: the data are missing or damaged.
    """
    if not config.model_dir:
        return execute_mseqa(config).metrics
    serve_if_server(config)
    serve_if_evaluator(config, lambda: _evaluated(config))
    place = make_placement(config)
    data = MseqaData(config)
    directory = RunDirectory(cast(Any, config), data.manifest)
    with contextlib.ExitStack() as stack, names_lost_processes(place.several):
        metrics = place.workers.from_chief(lambda: stack.enter_context(directory.claimed()))
        if metrics is not None:
            _say(config, f"{config.model_dir} holds this run, finished: nothing to do")
            return metrics
        return _execute(config, place, data, directory).metrics


def execute_mseqa(config: MseqaConfig) -> MseqaRun:
    """As `run_mseqa` in memory: `model_dir` is left alone, and the model and answers are returned, too."""
    if config.export:
        raise ValueError("export needs a model_dir to write to")
    serve_if_server(config)
    place = make_placement(config)
    with names_lost_processes(place.several):
        return _execute(config, place, MseqaData(config), None)


def _execute(config: MseqaConfig, place: Placement, data: MseqaData, directory: RunDirectory | None) -> MseqaRun:
    # The loop and its settings ask only for what both kinds of configuration have.
    settings = cast(Any, config)
    if config.early_stopping != "none":
        data.manifest.shards("valid")
    state = RunState()
    state.now.topology = place.topology
    total = Schedule(settings, data.steps_per_epoch).total
    with process_settings(settings):
        with place.scope():
            model = make_model(config, data, total)
        trainable = cast(Any, model)
        store = make_store(directory, trainable, state, place.workers)
        resumed = store.restore()
        check_alike(state, place.workers)
        if resumed and place.workers.is_chief:
            done = "is trained; evaluates it anew" if state.now.finished else f"goes on from step {state.now.step}"
            _say(config, f"{config.model_dir}: {done}")
        answers = _answerer(model, data)
        with artifacts.event_writer(directory if place.workers.is_chief else None) as write_event:
            train(
                *(settings, data, data.steps_per_epoch, trainable, place, state, store),
                place.evaluations(_validation(data, answers), directory.file(EVALUATIONS) if directory else ""),
                write_event,
            )
    finished = MseqaRun(config, {}, data.questions, {}, state, model, data)

    def evaluate() -> dict[str, Any]:
        with process_settings(settings):
            finished.model = cast(
                Any, place.brought_here(trainable, lambda: cast(Any, make_model(config, data, total)))
            )
            again = answers if finished.model is model else _answerer(finished.model, data)
            finished.found = {split: again(split) for split in ("valid", "test") if data.questions.get(split)}
        finished.metrics = _describe(config, data, finished.model, state)
        for split, found in finished.found.items():
            scores = score_answers(data.questions[split], found)
            finished.metrics |= {f"{split}.{name}": value for name, value in scores.items()}
        if directory:
            _write(finished, directory)
        return finished.metrics

    finished.metrics = place.workers.from_chief(evaluate)
    return finished


def _validation(data: MseqaData, answers: Callable[[str], list[list[Found]]]) -> Evaluate:
    return lambda: score_answers(data.questions["valid"], answers("valid"))


def _evaluated(config: MseqaConfig) -> tuple[SpanModel, Evaluate]:
    """The model of an evaluator's process, and what gives the metrics of the valid split with its weights."""
    data = MseqaData(config)
    with process_settings(cast(Any, config)):
        model = make_model(config, data, Schedule(cast(Any, config), data.steps_per_epoch).total)
    return model, _validation(data, _answerer(model, data))


def _answerer(model: SpanModel, data: MseqaData) -> Callable[[str], list[list[Found]]]:
    """A function from a split to the answers to each of its questions."""
    answer = tf.function(model.answer, reduce_retracing=True)
    return lambda split: answer_windows(answer, data.windows(split), data.questions[split])


def make_model(config: MseqaConfig, data: MseqaData, total_steps: int) -> SpanModel:
    """The compiled model, with all weights and slots, and those of the checkpoint."""
    lengths = [data.windows(split).token_ids.shape[1] for split in data.questions]
    longest = LONGEST if config.checkpoint else max(lengths)  # from scratch no more positions than tokens
    encoder = RobertaEncoder.of_size(
        config.size, vocab_size=data.tokenizer.vocab_size, max_positions=longest + 2, dropout=config.dropout
    )
    shared: dict[str, Any] = {"scheme": config.scheme, "dropout": config.dropout, "allow_empty": config.allow_empty}
    tags: dict[str, Any] = {"likelihood": config.likelihood, "head_units": config.head_units}
    model: SpanModel
    if config.heads == "tagger":
        model = MultiSpanTagger(encoder, **tags, **shared)
    elif config.heads == "two_heads":
        model = MultiHeadSpanQA(encoder, **tags, **shared)
    else:
        model = SingleSpanQA(encoder, **shared)
    model.build_weights()
    if config.checkpoint:
        load_roberta(encoder, config.checkpoint)
    schedule = WarmupThenLinear(config.learning_rate, total_steps, int(config.warmup * total_steps))
    model.compile(tf.keras.optimizers.Adam(schedule, beta_2=0.98, global_clipnorm=1.0), jit_compile=config.jit_compile)
    model.optimizer.build(model.trainable_variables)
    return model


class WarmupThenLinear(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises in a line to `peak` and falls in a line to 0, as RoBERTa's.

    Args:
      peak: highest rate.
      steps: at whose end it is 0.
      warmup: steps of the rise.
    """

    def __init__(self, peak: float, steps: int, warmup: int) -> None:
        self.peak, self.steps, self.warmup = peak, steps, warmup

    def __call__(self, step: Any) -> tf.Tensor:
        done = tf.cast(step, tf.float32) + 1.0
        rise = done / max(self.warmup, 1)
        fall = (self.steps + 1.0 - done) / max(self.steps - self.warmup, 1)
        return self.peak * tf.clip_by_value(tf.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}


def _write(run: MseqaRun, directory: RunDirectory) -> None:
    """Everything but the checkpoints; metrics.json comes last, and says that the run is finished."""
    config = run.config
    if config.report:
        from xdeepint_ext.experiments import mseqa_report

        mseqa_report.write(run, directory.file("report.html"))
    if config.export:
        where = directory.file("saved_model")
        # An encoder from scratch has no positions beyond its longest window.
        fits = config.max_length <= run.model.encoder.longest
        windows: dict[str, Any] = {"max_length": config.max_length, "overlap": config.overlap} if fits else {}
        export_spans(run.model, run.data.tokenizer, where, **windows)
    directory.write_metrics(run.metrics)


def _describe(config: MseqaConfig, data: MseqaData, model: SpanModel, state: RunState) -> dict[str, Any]:
    now = state.now
    sources = ", ".join(f"{source} ({count:,})" for source, count in data.trained_on.items())
    start = f"starting from {os.path.basename(config.checkpoint)}" if config.checkpoint else "from random weights"
    notes = [f"trained on {sources}, {start}"]
    windows = data.windows("train")
    seen = now.step * config.batch_size
    if seen < len(windows):
        notes.append(f"{seen:,} of {len(windows):,} training windows seen")
    if windows.cut_taggings:
        cut = f"{windows.cut_taggings:,} training questions have more than {config.max_taggings} gold taggings"
        notes.append(f"{cut}; the first count")
    if windows.merged_answers:
        notes.append(f"{windows.merged_answers:,} training questions have answers that share a token, learned as one")
    if windows.cut_answers:
        notes.append(f"{windows.cut_answers:,} training questions have answers that no window holds whole, not learned")
    return {
        "dataset": data.manifest.dataset,
        "model": config.model,
        "heads": config.heads,
        "seed": config.seed,
        "steps": now.step,
        "best_step": now.step if now.best_step is None else now.best_step,
        "finished": now.finished,
        "examples_per_second": now.timed_steps * config.batch_size / now.seconds if now.seconds else float("nan"),
        "parameters": int(model.count_params()),
        "notes": notes,
    }


def _say(config: MseqaConfig, text: str) -> None:
    if config.progress:
        print(text, file=sys.stderr, flush=True)
