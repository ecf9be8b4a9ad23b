"""`report.html`: one file with the pictures and tables of a run, which needs nothing from elsewhere."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from xdeepint_ext import metrics
from xdeepint_ext.experiments import (
    calibration_report,
    group_report,
    list_report,
    plots,
    retrieval_report,
    routing_report,
)
from xdeepint_ext.experiments.kinds import kind_of
from xdeepint_ext.experiments.list_predictions import ListPredictions
from xdeepint_ext.experiments.page import document, image, section, table
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.retrieval_predictions import RetrievalPredictions
from xdeepint_ext.experiments.run_directory import flag_lines, write_atomically
from xdeepint_ext.experiments.scores import sigmoid
from xdeepint_ext.experiments.weights import pin_kernels, zero_rows_by_table

if TYPE_CHECKING:
    from xdeepint_ext.experiments.running import Run

__all__ = ["write"]

NAMES = {
    "rows": "records",
    "auc": "AUC",
    "logloss": "log loss",
    "nce": "log loss over that of the mean label (NCE)",
    "ece": "calibration error (ECE)",
    "label_mean": "mean label",
    "gauc": "GAUC, groups weighted by records",
    "gauc_positives": "GAUC, by positive records",
    "gauc_uniform": "GAUC, all groups alike",
    "groups": "groups with both classes",
    "groups_left_out": "groups with one class, not in GAUC",
    "expected_depth": "mean depth",
}
OF_GROUPS = ("_group_loss", "_auxiliary_loss")  # group_report shows them; they are of another size
COUNTS = ("rows", "groups", "groups_left_out")


def write(run: Run, path: str) -> None:
    """Writes the report of a finished run.

    Args:
      run: the run.
      path: of the file; replaced as a whole.
    """
    title = f"{run.config.model} on {run.metrics['dataset']}"
    sections = [
        _summary(run),
        section("Metrics", _metrics_table(run)),
        section("Learning curves", _learning_curves(run)),
        *_predictions(run),
        *calibration_report.sections(run),
        *routing_report.sections(run),
        *group_report.sections(run),
        *_weights(run),
        *_slices(run),
        *_notes(run),
        section("Flags", f"<pre>{html.escape(chr(10).join(flag_lines(run.config)))}</pre>"),
    ]
    write_atomically(path, document(title, sections))


def _summary(run: Run) -> str:
    found, records = run.metrics, kind_of(run.inputs.manifest).records
    lines = [
        f"{found['steps']:,} training steps of {run.config.batch_size:,} {records} ({found['finished']}); "
        f"the weights are those of step {found['best_step']:,}.",
        f"{found['parameters']:,} parameters; {found['examples_per_second']:,.0f} training {records} a second; "
        f"seed {run.config.seed}.",
    ]
    if "best_auc" in run.inputs.manifest.notes:
        lines.append(f"Best reachable AUC on the test records: {run.inputs.manifest.notes['best_auc']:.4f}.")
    return f"<p>{'<br>'.join(map(html.escape, lines))}</p>"


def _metrics_table(run: Run) -> str:
    splits = list(run.predictions)
    if any(isinstance(found, ListPredictions) for found in run.predictions.values()):
        return list_report.metrics_table(run) + _shares(run)
    names = list(
        dict.fromkeys(
            name.partition(".")[2] for name in run.metrics if name.partition(".")[0] in splits and ".slice." not in name
        )
    )
    rows = [[_named(name), *(_number(name, run.metrics.get(f"{split}.{name}")) for split in splits)] for name in names]
    return table(["", *splits], rows, text=1) + _shares(run)


def _shares(run: Run) -> str:
    shares = [name for name in ("zero_embedding_rows", "zero_interaction_weights") if name in run.metrics]
    weights = "; ".join(f"{name.replace('_', ' ')} {run.metrics[name]:.1%}" for name in shares)
    return f"<p>Of the weights: {weights}.</p>" if shares else ""


def _learning_curves(run: Run) -> str:
    criterion = next(iter(kind_of(run.inputs.manifest).criteria.values()))
    hint = (
        "Train values are means over the steps since the evaluation before, taken while the weights changed; valid "
        "values are of the whole split."
    )
    metric = criterion.metric
    loss = "log loss" if metric == "auc" else "loss"
    history = [
        {name: value for name, value in entry.items() if not name.endswith(OF_GROUPS)}
        for entry in run.state.now.history
    ]
    picture = plots.learning_curves(history, run.state.now.best_step, metric, (loss, criterion.name))
    return image(picture, f"{loss.capitalize()} and {criterion.name} against steps") + f'<p class="hint">{hint}</p>'


def _predictions(run: Run) -> Iterable[str]:
    if not run.predictions:
        return
    split = run.shown_split
    predictions = run.predictions[split]
    if isinstance(predictions, RetrievalPredictions):
        yield from retrieval_report.sections(split, predictions)
        return
    if not isinstance(predictions, Predictions):
        yield from list_report.sections(split, predictions)
        return
    curves, tables = {}, {}
    for task in predictions.labels:
        labels, logits, weights = _of_task(predictions, task)
        if len(np.unique(labels)) < 2:
            continue
        curves[task] = (*metrics.roc_curve(labels, logits, weights), metrics.auc(labels, logits, weights))
        tables[task] = metrics.calibration_table(labels, sigmoid(logits), weights)
    if not curves:
        yield section(f"Predictions on {split}", "<p>All labels are equal: no ROC and no calibration.</p>")
        return
    pictures = image(plots.roc(curves), "ROC curve") + image(plots.calibration(tables), "Reliability diagram")
    hint = "Calibration: 15 bins of equally many records; bars are two standard errors."
    yield section(f"Predictions on {split}", f'<div class="row">{pictures}</div><p class="hint">{hint}</p>')


def _weights(run: Run) -> Iterable[str]:
    tables = zero_rows_by_table(run.model.embedding)
    if tables:
        hint = (
            "A row that is zero is a value that the model does not use: the feature selection of group sparsity. "
            "Rows that no training record touched are zero, too."
        )
        picture = image(plots.zero_rows(tables), "Share of zero embedding rows by table")
        yield section("Embedding tables", f'{picture}<p class="hint">{hint}</p>')
    kernels = pin_kernels(run.model)
    if kernels:
        fields = run.inputs.schema.field_names
        largest = max(float(kernel.max()) for kernel in kernels.values())
        pictures = "".join(
            image(plots.heat_map(kernel, fields, name, largest), f"Interaction weights of {name}")
            for name, kernel in kernels.items()
        )
        hint = (
            "Row i, column j: how strongly field j enters the factor that multiplies field i; the mean of |W| over the "
            "blocks of the sub-spaces. White = the interaction is switched off."
        )
        yield section("Interaction weights", f'<div class="row">{pictures}</div><p class="hint">{hint}</p>')


def _slices(run: Run) -> Iterable[str]:
    columns = ("rows", "label_mean", "auc", "logloss", "gauc")
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for key, value in run.metrics.items():
        before, mark, rest = key.partition("slice.")
        if mark:
            feature, _, rest = rest.partition("=")
            name, _, metric = rest.rpartition(".")
            split, _, task = before.rstrip(".").partition(".")
            rows.setdefault((split, task, feature, name), {})[metric] = value
    if not rows:
        return
    shown = [column for column in columns if any(column in found for found in rows.values())]
    body = [[*key, *(_number(column, found.get(column)) for column in shown)] for key, found in rows.items()]
    heads = ["split", "task", "feature", "value", *shown]
    if not any(key[1] for key in rows):
        heads.remove("task")
        body = [[row[0], *row[2:]] for row in body]
    heads = [NAMES.get(head, head) if head != "gauc" else "GAUC" for head in heads]
    yield section("Slices", table(heads, body, text=len(heads) - len(shown)))


def _notes(run: Run) -> Iterable[str]:
    if run.metrics["notes"]:
        lines = "".join(f"<li>{html.escape(note)}</li>" for note in run.metrics["notes"])
        yield section("Notes", f"<ul>{lines}</ul>")


def _of_task(predictions: Predictions, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    rows = predictions.rows(task)
    weights = None if predictions.weights is None else predictions.weights[rows]
    return predictions.labels[task][rows], predictions.logits[task][rows], weights


def _named(metric: str) -> str:
    """A metric's readable name, after its task."""
    task, _, name = metric.rpartition(".")
    return f"{task}: {NAMES.get(name, name)}" if task else NAMES.get(name, name)


def _number(metric: str, value: Any) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if metric.rpartition(".")[2] in COUNTS else f"{value:.5f}"
