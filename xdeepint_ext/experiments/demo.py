"""From nothing to a queried model in one command: synthetic data, training, evaluation, report, SavedModel, a query.

    python -m xdeepint_ext.experiments.demo --output_dir=demo_output

The data have a planted interaction of three fields, so the best reachable AUC is known. A demo that was broken off, or
is run again, goes on with what is there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags

from xdeepint_ext.data.manifest import FILE_NAME, Manifest
from xdeepint_ext.data.prepare import describe, prepare
from xdeepint_ext.data.read import read
from xdeepint_ext.experiments.command_line import quieten, summary, told_errors
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import sample_rows
from xdeepint_ext.experiments.running import run
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.query import query

__all__ = ["demo"]

# Small enough for seconds on two cores. The penalties are a fifth of the authors', whose data are a thousand times
# larger.
SETTING: dict[str, Any] = {
    "batch_size": 2048,
    "epochs": 8,
    "eval_every": 78,
    "patience": 156,
    "optimizer": "paper",
    "learning_rate": 0.1,
    "lambda1": 2.0,
    "lambda2": 2.0,
    "model_options": {"width": 8, "num_layers": 3, "num_subspaces": 2},
}
LINEAR: dict[str, Any] = {"model": "lr", "optimizer": "adam", "learning_rate": 0.03, "model_options": {}}


def demo(output_dir: str, rows: int = 200_000, progress: bool = True) -> dict[str, Any]:
    """Makes data, trains xDeepInt and logistic regression on them, exports, and asks the export for one score.

    Args:
      output_dir: gets `data/`, `model/` and `linear/`.
      rows: records to make.
      progress: show progress lines.

    Returns:
      `best_auc`, `auc`, `linear_auc`, `query` (column -> value), `answer` (output -> value), `label`, `seconds`, and
      the paths `report` and `saved_model`.
    """
    started = time.perf_counter()
    data_dir, model_dir = (os.path.join(output_dir, name) for name in ("data", "model"))
    print("1. Data with a planted interaction of three fields", flush=True)
    if os.path.exists(os.path.join(data_dir, FILE_NAME)):
        manifest = Manifest.load(data_dir)
    else:
        manifest = prepare("synthetic", output_dir=data_dir, rows=rows)
    print(describe(data_dir, manifest), flush=True)

    print("2. xDeepInt", flush=True)
    common: dict[str, Any] = {"data_dir": data_dir, "progress": progress}
    config = Config(model_dir=model_dir, export=True, **common, **SETTING)
    metrics = run(config)
    print(summary(model_dir, metrics), flush=True)

    print("3. Logistic regression, which cannot see the interaction", flush=True)
    linear = run(Config(model_dir=os.path.join(output_dir, "linear"), report=False, **common, **{**SETTING, **LINEAR}))

    print("4. A query to the SavedModel", flush=True)
    found = {
        "best_auc": manifest.notes["best_auc"],
        "auc": metrics["test.auc"],
        "linear_auc": linear["test.auc"],
        "report": os.path.join(model_dir, "report.html"),
        "saved_model": os.path.join(model_dir, "saved_model"),
        **_ask(data_dir, os.path.join(model_dir, "saved_model")),
    }
    found["seconds"] = time.perf_counter() - started
    return found


def _ask(data_dir: str, saved_model: str) -> dict[str, Any]:
    """The first test record, what the exported model says of it, and its label."""
    schema = Schema.load(data_dir)
    (row,) = sample_rows(data_dir, schema, "test", 1) or [{}]
    answer = query(saved_model, [row])
    label = next(iter(read(data_dir, "test", 1)))[1]
    scores = {name: float(values[0, 0]) for name, values in answer.items()}
    return {"query": row, "answer": scores, "label": float(label[0, 0])}


def describe_demo(found: Mapping[str, Any]) -> str:
    """The demo's outcome in a few lines."""
    lines = [
        f"  {', '.join(f'{name}={value}' for name, value in found['query'].items())}",
        f"  -> probability {found['answer']['probability']:.4f} (its label is {found['label']:.0f})",
        "",
        "Test AUC",
        f"  best reachable       {found['best_auc']:.4f}",
        f"  xDeepInt             {found['auc']:.4f}",
        f"  logistic regression  {found['linear_auc']:.4f}",
        f"Report      {found['report']}",
        f"SavedModel  {found['saved_model']}",
        f"All of it in {found['seconds']:.0f} seconds.",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs the demo."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    quieten()
    with told_errors():
        print(describe_demo(demo(flags.FLAGS.output_dir, flags.FLAGS.rows)))


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "directory to make, or to go on in", required=True)
    flags.DEFINE_integer("rows", 200_000, "records to make")
    app.run(main)
