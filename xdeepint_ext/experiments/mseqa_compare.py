r"""Trains the models of spans alike, several seeds each, and makes a table of how well they answer.

    python -m xdeepint_ext.experiments.mseqa_compare --output_dir=compared
    python -m xdeepint_ext.experiments.mseqa_compare --output_dir=compared --flagfile=mseqa_real --data_dir=DATA

Each run has a folder in `--output_dir`; a finished one is read and not repeated. Any flag of `experiments.mseqa`
changes all rows. Written are mseqa.md and mseqa.csv.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

from xdeepint_ext.experiments.command_line import quieten
from xdeepint_ext.experiments.flags import define_options, find_flagfiles, values_of_flags
from xdeepint_ext.experiments.mseqa_config import MseqaConfig
from xdeepint_ext.experiments.mseqa_running import run_mseqa
from xdeepint_ext.experiments.options import option
from xdeepint_ext.experiments.run_directory import write_atomically

__all__ = ["ROWS", "compare_mseqa"]

flags.disclaim_key_flags()

ROWS: dict[str, dict[str, Any]] = {
    "single": {"heads": "single", "scheme": "bio"},
    "io": {"heads": "tagger", "scheme": "io"},
    "bio": {"heads": "tagger", "scheme": "bio"},
    "two_heads": {"heads": "two_heads", "scheme": "bio"},
}
"""Row -> what it changes: the baseline of one span, the taggers, and the model of two heads."""

SHOWN = {
    "exact_f1": "exact F1",
    "single.exact_f1": "one answer",
    "multi.exact_f1": "several",
    "none.exact_f1": "no answer",
    "partial_f1": "partial F1",
    "drop_em": "DROP EM",
    "drop_f1": "DROP F1",
}
"""Metric of the test part -> column; exact F1 of all questions comes first, then of those with one answer and so on."""

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says besides the flags of the runs. Each field is a flag.

    Raises:
      ValueError: a value is missing or out of range.
    """

    output_dir: str = option("", "gets the table, and a folder for each run")
    rows: tuple[str, ...] = option(tuple(ROWS), f"rows of the table, of {','.join(ROWS)}")
    seeds: int = option(3, "each row is trained with the seeds 0 .. SEEDS - 1")

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise ValueError("--output_dir must be given")
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown or not self.rows:
            raise ValueError(f"--rows must be some of {list(ROWS)}, got {list(self.rows)}")
        if self.seeds < 1:
            raise ValueError(f"--seeds must be >= 1, got {self.seeds}")


def compare_mseqa(options: Options, config: MseqaConfig) -> str:
    """Trains what is not trained yet, and writes the table.

    Args:
      options: rows and seeds.
      config: of all runs, but for what a row changes, the seed and the directory.

    Returns:
      The table, as in mseqa.md.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {name: [] for name in options.rows}
    for seed in range(options.seeds):
        for name, found in runs.items():
            directory = os.path.join(options.output_dir, f"{name}-{seed}")
            tf.keras.backend.clear_session()
            metrics = run_mseqa(dataclasses.replace(config, **ROWS[name], seed=seed, model_dir=directory))
            print(f"{name}, seed {seed}: exact F1 {metrics['test.exact_f1']:.4f}", flush=True)
            found.append(metrics)
    text = f"{_markdown(runs)}\n\n{_legend(runs, options.seeds)}\n"
    write_atomically(os.path.join(options.output_dir, "mseqa.md"), text)
    write_atomically(os.path.join(options.output_dir, "mseqa.csv"), _csv(runs))
    return text


def _values(runs: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """The metric of every run, or nothing where the test part does not have it."""
    return [run[f"test.{metric}"] for run in runs if f"test.{metric}" in run]


def _columns(runs: Runs) -> list[str]:
    return [metric for metric in SHOWN if any(_values(found, metric) for found in runs.values())]


def _markdown(runs: Runs) -> str:
    columns = _columns(runs)
    table = [["", *(SHOWN[metric] for metric in columns), "parameters"], ["---", *["---:"] * (len(columns) + 1)]]
    for name, found in runs.items():
        cells = [_mean_and_deviation(_values(found, metric)) for metric in columns]
        table.append([name, *cells, f"{found[0]['parameters']:,}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _mean_and_deviation(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.3f}"


def _legend(runs: Runs, seeds: int) -> str:
    first = next(iter(runs.values()))[0]
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    notes = "; ".join(first["notes"])
    return f"{first['dataset']}, test part, {first['test.questions']:,.0f} questions; {spread}. {notes}."


def _csv(runs: Runs) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    columns = _columns(runs)
    writer.writerow(["row", "seed", *columns, "steps", "examples_per_second", "parameters"])
    for name, found in runs.items():
        for run in found:
            values = [f"{run[f'test.{metric}']:.7g}" for metric in columns]
            others = [run["steps"], f"{run['examples_per_second']:.4g}", run["parameters"]]
            writer.writerow([name, run["seed"], *values, *others])
    return stream.getvalue()


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    quieten()
    try:
        print(compare_mseqa(Options(**values_of_flags(Options)), MseqaConfig(**values_of_flags(MseqaConfig))), end="")
    except (ValueError, OSError, ImportError, NotImplementedError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on with the run that was under way")


if __name__ == "__main__":
    define_options([Options, MseqaConfig])
    try:
        arguments = find_flagfiles(sys.argv)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    app.run(main, argv=arguments)
