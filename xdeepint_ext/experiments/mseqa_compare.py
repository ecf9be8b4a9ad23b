r"""Trains the models of spans alike, several seeds each, and makes a table of how well they answer.

    python -m xdeepint_ext.experiments.mseqa_compare --results=results/mseqa.csv --output_dir=compared
    python -m xdeepint_ext.experiments.mseqa_compare --results=results/mseqa.csv --output_dir=compared-real \
        --flagfile=mseqa_real --data_dir=DATA

Finished runs are in `--results` and are not repeated; one that is under way has a folder in `--output_dir`, from which
it goes on. Any flag of `experiments.mseqa` changes all rows. Written is mseqa.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

from xdeepint_ext.experiments.command_line import quieten
from xdeepint_ext.experiments.config import check_several_runs, fingerprint_of
from xdeepint_ext.experiments.flags import define_options, find_flagfiles, values_of_flags
from xdeepint_ext.experiments.mseqa_config import MseqaConfig
from xdeepint_ext.experiments.mseqa_data import manifest_of
from xdeepint_ext.experiments.mseqa_running import run_mseqa
from xdeepint_ext.experiments.options import option
from xdeepint_ext.experiments.results import Results, commit_of_package
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

Runs = Mapping[str, Sequence[Mapping[str, str]]]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says besides the flags of the runs. Each field is a flag.

    Raises:
      ValueError: a value is missing or out of range.
    """

    output_dir: str = option("", "gets the table, and a folder for each run")
    results: str = option("", "CSV file of finished runs; made where it is absent")
    rows: tuple[str, ...] = option(tuple(ROWS), f"rows of the table, of {','.join(ROWS)}")
    seeds: int = option(3, "each row is trained with the seeds 0 .. SEEDS - 1")

    def __post_init__(self) -> None:
        for name in ("output_dir", "results"):
            if not getattr(self, name):
                raise ValueError(f"--{name} must be given")
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

    Raises:
      ValueError: the data have no test part, a run's folder holds another run, or the config is for a cluster.
    """
    check_several_runs(config.strategy)
    manifest = manifest_of(config)
    if "test" not in manifest.splits:
        raise ValueError(f"data_dir: {config.data_dir} has no test part, which the table is about")
    data = {"dataset": manifest.dataset, "data": manifest.fingerprint()}
    results = Results(options.results)
    runs: dict[str, list[Mapping[str, str]]] = {name: [] for name in options.rows}
    for seed, name in itertools.product(range(options.seeds), options.rows):
        directory = os.path.join(options.output_dir, f"{name}-{seed}")
        of_row = dataclasses.replace(config, **ROWS[name], seed=seed, model_dir=directory)
        runs[name].append(_finished(name, of_row, data, results))
    text = f"{_markdown(runs)}\n\n{_legend(runs, options.seeds)}\n"
    os.makedirs(options.output_dir, exist_ok=True)
    write_atomically(os.path.join(options.output_dir, "mseqa.md"), text)
    return text


def _finished(name: str, config: MseqaConfig, data: Mapping[str, str], results: Results) -> Mapping[str, str]:
    """The row of a run in the results, where it is added if it is not there yet."""
    key = {**data, "settings": config.settings(), "seed": config.seed}
    results.reload()  # another process may have run it
    found = results.find(key)
    if found is None:
        tf.keras.backend.clear_session()
        metrics = run_mseqa(config)
        print(f"{name}, seed {config.seed}: exact F1 {metrics['test.exact_f1']:.4f}", flush=True)
        about = {"configuration": fingerprint_of(config.settings()), "row": name, "commit": commit_of_package()}
        results.add(key, {**about, **metrics, "notes": "; ".join(metrics["notes"])})
        found = results.all(key)[-1]
    return found


def _values(runs: Sequence[Mapping[str, str]], metric: str) -> list[float]:
    """The metric of every run, or nothing where the test part does not have it."""
    return [float(run[f"test.{metric}"]) for run in runs if run.get(f"test.{metric}")]


def _columns(runs: Runs) -> list[str]:
    return [metric for metric in SHOWN if any(_values(found, metric) for found in runs.values())]


def _markdown(runs: Runs) -> str:
    columns = _columns(runs)
    table = [["", *(SHOWN[metric] for metric in columns), "parameters"], ["---", *["---:"] * (len(columns) + 1)]]
    for name, found in runs.items():
        cells = [_mean_and_deviation(_values(found, metric)) for metric in columns]
        table.append([name, *cells, f"{int(found[0]['parameters']):,}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _mean_and_deviation(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.3f}"


def _legend(runs: Runs, seeds: int) -> str:
    first = next(iter(runs.values()))[0]
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    questions = float(first["test.questions"])
    return f"{first['dataset']}, test part, {questions:,.0f} questions; {spread}. {first['notes']}."


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
