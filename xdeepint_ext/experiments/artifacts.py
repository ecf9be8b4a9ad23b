"""What a finished run leaves in its directory: metrics, predictions, report, SavedModel, TensorBoard events."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from xdeepint_ext.data.manifest import describe_tables
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import sample_rows
from xdeepint_ext.experiments.retrieval_inputs import RetrievalInputs
from xdeepint_ext.experiments.run_directory import RunDirectory

if TYPE_CHECKING:
    from xdeepint_ext.experiments.running import Run

__all__ = ["check", "event_writer", "write"]

WARMUP_ROWS = 8
RECOMMENDED = 100


def check(config: Config, directory: RunDirectory | None, inputs: Any = None) -> None:
    """Checks, before anything is trained, that all that the config wants can be written.

    Raises:
      ValueError: `export` or `save_predictions` without a directory; `export_tables` where there is no choice.
      ImportError: a report, and no matplotlib.
    """
    if isinstance(inputs, RetrievalInputs) and config.export_tables != "float32":
        raise ValueError(f"export_tables={config.export_tables}: exports of retrieval models keep float32")
    if directory is None:
        for name in ("export", "save_predictions"):
            if getattr(config, name):
                raise ValueError(f"{name} needs a model_dir to write to")
    elif config.report:
        from xdeepint_ext.experiments import plots

        plots.require_matplotlib()


def write(run: Run, directory: RunDirectory) -> None:
    """Writes everything; metrics.json comes last, and says that the run is finished."""
    if run.config.save_predictions:
        for split, predictions in run.predictions.items():
            predictions.save(directory.file(f"predictions-{split}.npz"))
    if run.config.report:
        from xdeepint_ext.experiments import report

        report.write(run, directory.file("report.html"))
    if run.config.export:
        started = time.perf_counter()
        _export(run, directory.file("saved_model"))
        run.metrics["export_seconds"] = time.perf_counter() - started
    directory.write_metrics(run.metrics)


def _export(run: Run, path: str) -> None:
    from xdeepint_ext import serving

    inputs = run.inputs
    if isinstance(inputs, RetrievalInputs):
        size = inputs.sequences("train").catalogue.size
        from xdeepint_ext.serving.recommend import export_recommender

        export_recommender(
            run.model,
            inputs.preprocessor(),
            path,
            top_k=min(RECOMMENDED, size),
            remove_seen=run.config.options.remove_seen,
            manifest=inputs.manifest,
        )
        return
    tables = describe_tables(inputs.schema, inputs.vocabulary_dir)
    manifest = dataclasses.replace(inputs.manifest, tables=tables, schema=inputs.schema.fingerprint())
    split = next(name for name in ("test", "valid", "train") if inputs.manifest.splits.get(name))
    rows = sample_rows(run.config.data_dir, inputs.schema, split, WARMUP_ROWS)
    serving.export(
        run.model,
        inputs.preprocessor(),
        path,
        warmup=rows,
        manifest=manifest,
        table_dtype=run.config.export_tables,
        calibration=run.calibrations,
        statistics_of=_statistics_of(run, split),
    )


def _statistics_of(run: Run, split: str) -> tuple[str, str] | None:
    """The records that the export's statistics are of; None, with a note, where they have none."""
    inputs = run.inputs
    if inputs.manifest.packed or inputs.manifest.lists:
        kind = "lists" if inputs.manifest.lists else "materialised records"
        run.metrics["notes"].append(f"saved_model: no statistics.pbtxt, as {kind} have no raw columns")
        return None
    if inputs.skipped.get(split):
        run.metrics["notes"].append(f"saved_model: no statistics.pbtxt, as {split} has damaged records")
        return None
    return run.config.data_dir, split


@contextlib.contextmanager
def event_writer(directory: RunDirectory | None) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that writes an entry of the history, `train_*` and `valid_*`, as TensorBoard scalars."""
    if directory is None:
        yield lambda entry: None
        return
    with contextlib.ExitStack() as stack:
        writers = {
            part: stack.enter_context(
                contextlib.closing(
                    tf.summary.create_file_writer(os.path.join(directory.file("tensorboard"), part)),
                )
            )
            for part in ("train", "valid")
        }

        def write_event(entry: Mapping[str, Any]) -> None:
            for part, writer in writers.items():
                with writer.as_default(int(entry["step"])):
                    for name, value in entry.items():
                        if name.startswith(f"{part}_"):
                            tf.summary.scalar(name.removeprefix(f"{part}_"), value)
                writer.flush()

        yield write_event
