"""The training loop: exact position, evaluation every so many steps, early stopping, checkpoints."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping

from xdeepint_ext.data.damage import READING_ERRORS
from xdeepint_ext.experiments.checkpoints import CheckpointStore, MemoryStore
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.evaluations import Evaluations
from xdeepint_ext.experiments.kinds import stopping_value
from xdeepint_ext.experiments.placement import Placement
from xdeepint_ext.experiments.preemption import Preempted, StopRequest, names_lost_processes
from xdeepint_ext.experiments.progress_state import RunState
from xdeepint_ext.experiments.step_loops import Loop, TrainingData
from xdeepint_ext.models import RankingModel
from xdeepint_ext.utils.progress import Progress

__all__ = ["Schedule", "train"]

PAPER_EVAL_EVERY = 2000
PATIENT_EVALUATIONS = 3
# Seconds between two looks at the clock; training itself runs in one graph in between.
CHUNK_SECONDS = 0.5
# Evaluations that training may be ahead of an evaluator beside it; the weights of each are kept.
MOST_PENDING = 3


class Schedule:
    """When a run evaluates, saves and ends, in steps.

    Args:
      config: of the run.
      steps_per_epoch: of its records.
    """

    def __init__(self, config: Config, steps_per_epoch: int) -> None:
        total = config.epochs * steps_per_epoch
        self.total = min(total, config.max_steps) if config.max_steps else total
        self.eval_every = config.eval_every or min(steps_per_epoch, PAPER_EVAL_EVERY)
        self.checkpoint_every = config.checkpoint_every
        self.patience = config.patience or PATIENT_EVALUATIONS * self.eval_every

    def evaluates(self, step: int) -> bool:
        """Whether the run evaluates after so many steps."""
        return step % self.eval_every == 0 or step == self.total

    def saves(self, step: int) -> bool:
        """Whether the run writes a checkpoint after so many steps."""
        return self.evaluates(step) or step % self.checkpoint_every == 0

    def steps_until_event(self, step: int) -> int:
        """Steps from here to the next evaluation or checkpoint."""
        ends = [(step // every + 1) * every for every in (self.eval_every, self.checkpoint_every)]
        return min(*ends, self.total) - step


def train(
    config: Config,
    inputs: TrainingData,
    steps_per_epoch: int,
    model: RankingModel,
    place: Placement,
    state: RunState,
    store: CheckpointStore | MemoryStore,
    evaluations: Evaluations,
    write_event: Callable[[Mapping[str, float]], None],
) -> None:
    """Trains from the state's step on, until all steps are done or the valid split says that it is enough.

    At the end the model has the best weights, or without early stopping the last.

    Args:
      config: of the run.
      inputs: its records.
      steps_per_epoch: of them.
      model: built and compiled.
      place: where it lives and trains.
      state: position; updated, with the history of evaluations.
      store: for checkpoints and the best weights.
      evaluations: give the metrics of the valid split.
      write_event: gets each entry of the history.

    Raises:
      FloatingPointError: the loss is no longer finite.
      DataError: a record is damaged; names file and record.
      Preempted: SIGTERM came, and the position is saved.
      LostProcess: another process of the cluster is gone.
      TimeoutError: an evaluation that another process makes does not come.
    """
    schedule = Schedule(config, steps_per_epoch)
    now, workers = state.now, place.workers
    if not now.finished:
        loop = place.make_loop(model)
        loop.start(inputs, now.step)
        evaluations.start([int(entry["step"]) for entry in now.pending])
        shown = config.progress and workers.is_chief
        stream = sys.stderr if shown else open(os.devnull, "w")  # noqa: SIM115 - closed with the process
        with (
            names_lost_processes(place.several),
            StopRequest(active=store.lasts) as stop,
            Progress(schedule.total, "steps", "train", stream=stream) as progress,
        ):
            progress.update(now.step)
            chunk = 1  # alone: where workers overtake each other, G-FTRL's first step must not
            while not now.finished:
                if now.step < schedule.total and len(now.pending) < MOST_PENDING:
                    count = min(chunk, schedule.steps_until_event(now.step))
                    # The workers' chunks must be of one length, and all stop at one step.
                    seconds, stopped = workers.largest([_timed(loop, count), stop.came])
                    if chunk > 1:  # the first call traces the graph
                        now.seconds, now.timed_steps = now.seconds + seconds, now.timed_steps + count
                    chunk = max(2, int(CHUNK_SECONDS * count / seconds)) if chunk > 1 else 2
                    now.step += count
                    progress.update(count, text=f"loss {_finite_loss(model, now.step):.4f}")
                    if schedule.evaluates(now.step):
                        _ask(config, model, state, store, evaluations)
                    saves = schedule.saves(now.step)
                else:
                    evaluations.wait()
                    stopped, saves = stop.came, False
                for entry in _answered(config, schedule, state, store, evaluations):
                    write_event(entry)
                if stopped or saves or now.finished:
                    store.save()
                if stopped:
                    raise Preempted(now.step)
    if now.best_step is not None:
        store.load_best(now.best_step)


def _timed(loop: Loop, count: int) -> float:
    """Makes so many steps; returns the seconds."""
    started = time.perf_counter()
    try:
        loop.run(count)
    except READING_ERRORS as error:
        raise loop.explain(error) from error
    return max(time.perf_counter() - started, 1e-9)


def _finite_loss(model: RankingModel, step: int) -> float:
    loss = float(model.metrics[0].result())
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the training loss is {loss} after step {step}: lower the learning rate, or look for NaN "
            "and huge values in the data"
        )
    return loss


def _ask(
    config: Config,
    model: RankingModel,
    state: RunState,
    store: CheckpointStore | MemoryStore,
    evaluations: Evaluations,
) -> None:
    """Begins an entry of the history, and asks for its evaluation."""
    now = state.now
    entry = {"step": float(now.step)}
    entry |= {f"train_{metric.name}": float(metric.result()) for metric in model.metrics}
    for metric in model.metrics:
        metric.reset_state()
    now.pending.append(entry)
    if config.early_stopping != "none":
        if evaluations.beside:
            store.keep_best(now.step)
        evaluations.ask(now.step)


def _answered(
    config: Config,
    schedule: Schedule,
    state: RunState,
    store: CheckpointStore | MemoryStore,
    evaluations: Evaluations,
) -> list[dict[str, float]]:
    """The entries of the history that are complete now; decides about the best weights and about the end."""
    now, complete = state.now, []
    while now.pending and not now.finished:
        entry = now.pending[0]
        step = int(entry["step"])
        if config.early_stopping != "none":
            values = evaluations.answer(step)
            if values is None:
                break
            entry = {**entry, **{f"valid_{name}": value for name, value in values.items()}}
            value = stopping_value(values, config.early_stopping)
            if math.isnan(value):
                raise ValueError(
                    f"early_stopping: {config.early_stopping} is not defined on the valid split; choose another metric"
                )
            if now.best_value is None or value > now.best_value:
                now.best_step, now.best_value = step, value
                if not evaluations.beside:
                    store.keep_best(step)
        del now.pending[0]
        now.history.append(entry)
        complete.append(entry)
        if step >= schedule.total:
            now.finished = "all steps done"
        elif now.best_step is not None and step - now.best_step >= schedule.patience:
            now.finished = f"no better {config.early_stopping} on the valid split for {step - now.best_step} steps"
    if now.finished:
        now.pending.clear()
    return complete
