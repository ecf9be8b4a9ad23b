"""Runs the settings of a table over several seeds, appends finished runs to a file, and goes on where it broke off.

    python -m xdeepint_ext.experiments.sweep --table=adult_layers --data_dir=adult-{seed} --results=results/adult.csv
    python -m xdeepint_ext.experiments.sweep --table=adult_layers --results=results/adult.csv --mode=render

`{seed}` in `--data_dir` stands for the seed. Every other flag of a run changes all rows of the table, and
`--grid="learning_rate=0.001,0.003 num_layers=2,3"` runs each row with every combination. With `--select_on=valid` the
test part stays untouched. Models are made one after the other in this process, and `--cache`, on by default here,
keeps small data in memory. With `--predictions_dir`, `--mode=compare` afterwards adds the ensembles of the seeds and
paired bootstraps against the table's reference row; `--mode=render` prints Markdown. A results file is for one data
set.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.experiments import comparing
from xdeepint_ext.experiments.command_line import quieten
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.flags import define_flags, find_flagfiles, given_flags
from xdeepint_ext.experiments.inputs import record_keys
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.rendering import render
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.running import Run, execute
from xdeepint_ext.experiments.settings import parse_grid, settings_of_table
from xdeepint_ext.experiments.tables import TABLES

__all__ = ["Sweep", "run_sweep"]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `run_sweep` does.

    Args:
      settings: row name -> config; its data_dir may hold `{seed}`.
      seeds: each row is run with each.
      results: file of finished runs.
      select_on: `valid`: evaluate on the valid split only; `test`: on both.
      predictions_dir: where the predictions are kept, for ensembles and comparisons; "" = nowhere.
    """

    settings: Mapping[str, Config]
    seeds: tuple[int, ...]
    results: str
    select_on: str = "test"
    predictions_dir: str = ""


def run_sweep(sweep: Sweep) -> Results:
    """Runs what is not in the results yet.

    Returns:
      All results of the file.
    """
    results = Results(sweep.results)
    splits = ("valid",) if sweep.select_on == "valid" else ("valid", "test")
    plan = list(itertools.product(sweep.seeds, sweep.settings.items()))
    for number, (seed, (row, setting)) in enumerate(plan, 1):
        config = at_seed(setting, seed).replace(evaluate=splits)
        key = key_of(config)
        done = results.find(key, f"{sweep.select_on}.rows")
        if done and (not sweep.predictions_dir or os.path.exists(prediction_path(sweep, done))):
            continue
        started = time.perf_counter()
        tf.keras.backend.clear_session()
        run = execute(config)
        seconds = time.perf_counter() - started
        about = {"configuration": config.fingerprint(), "row": row, "commit": _commit(), "seconds": round(seconds, 1)}
        if sweep.predictions_dir:
            save_predictions(run, sweep.select_on, prediction_path(sweep, {**key, **about}))
        left_out = ("dataset", "seed", "notes")
        results.add({**key, **about}, {name: value for name, value in run.metrics.items() if name not in left_out})
        shown = [f"{name} {run.metrics[f'{sweep.select_on}.{name}']:.5f}" for name in ("auc", "logloss")]
        print(f"[{number}/{len(plan)}] {row} seed {seed}: {', '.join(shown)} in {seconds:.0f} s", flush=True)
    return results


def at_seed(setting: Config, seed: int) -> Config:
    """The setting with a seed, and the data of that seed."""
    return setting.replace(data_dir=setting.data_dir.replace("{seed}", str(seed)), seed=seed)


def key_of(config: Config) -> dict[str, Any]:
    """What identifies a run in the results."""
    manifest = Manifest.load(config.data_dir)
    return {
        "dataset": manifest.dataset,
        "data": manifest.table_fingerprint(),
        "settings": config.settings(),
        "seed": config.seed,
    }


def prediction_path(sweep: Sweep, row: Mapping[str, Any]) -> str:
    """File of the predictions of a row of the results."""
    name = f"{row['configuration']}-{row['data'][:8]}-{row['seed']}-{sweep.select_on}.npz"
    return os.path.join(sweep.predictions_dir, name)


def save_predictions(run: Run, split: str, path: str) -> None:
    """Writes a run's predictions in an order that does not depend on how the data were prepared.

    Records are sorted by a fingerprint of their content; records of equal content have equal predictions.
    """
    order = np.argsort(record_keys(run.config.data_dir, split), kind="stable")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    run.predictions[split].take(order).save(path)


def compare_rows(sweep: Sweep, reference: str) -> None:
    """Adds each row's ensemble over the seeds to the results, and the comparisons with the reference row to their file.

    Args:
      sweep: whose runs are finished, with `predictions_dir`.
      reference: name of a row; "" = only ensembles.

    Raises:
      FileNotFoundError: a run's predictions were not kept.
    """
    results = Results(sweep.results)
    path = comparing.comparisons_file(sweep.results)
    seeds = "+".join(map(str, sweep.seeds))
    other: list[Predictions] = []
    names = sorted(sweep.settings, key=lambda name: name != reference)
    for name in names:
        settings = sweep.settings[name].settings()
        key = {"settings": settings, "other": "", "split": sweep.select_on, "seeds": seeds}
        rows = [_finished(results, sweep, name, seed) for seed in sweep.seeds]
        members = [Predictions.load(prediction_path(sweep, row)) for row in rows]
        if name == reference:
            other = members
        else:
            key["other"] = sweep.settings[reference].settings() if reference else ""
        if len(members) > 1:
            together = comparing.ensemble(members)
            comparing.add_ensemble(results, rows[0], seeds, together, sweep.select_on)
            if key["other"]:
                difference = comparing.compare(together, comparing.ensemble(other))
                comparing.add_comparison(path, name, {**key, "kind": "ensemble"}, [difference])
        if key["other"]:
            differences = [comparing.compare(a, b) for a, b in zip(members, other, strict=True)]
            comparing.add_comparison(path, name, {**key, "kind": "seeds"}, differences)


def _finished(results: Results, sweep: Sweep, name: str, seed: int) -> dict[str, str]:
    row = results.find({"settings": sweep.settings[name].settings(), "seed": seed}, f"{sweep.select_on}.rows")
    if row is None:
        raise FileNotFoundError(f"row {name!r}, seed {seed}: no finished run in {sweep.results}; run it first")
    path = prediction_path(sweep, row)
    if not os.path.exists(path):
        raise FileNotFoundError(f"row {name!r}, seed {seed}: no predictions at {path}; run it with --predictions_dir")
    return row


def _commit() -> str:
    """The commit of this package's repository, with `+` where files differ from it; "" outside a repository."""
    here = os.path.dirname(os.path.abspath(__file__))

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", here, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", os.path.dirname(here))
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _define() -> None:
    flags.DEFINE_enum("table", None, sorted(TABLES), "which settings to run", required=True)
    flags.DEFINE_string("results", None, "CSV file of finished runs; made where it is absent", required=True)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds of every row")
    flags.DEFINE_list("rows", ["*"], "names or patterns of the rows to run")
    flags.DEFINE_string("grid", "", "FLAG=VALUE,VALUE ...: every row with every combination")
    flags.DEFINE_enum("select_on", "test", ["valid", "test"], "valid: do not touch the test part")
    flags.DEFINE_string("predictions_dir", "", "where predictions are kept, for ensembles and comparisons")
    flags.DEFINE_enum("mode", "run", ["run", "compare", "render"], "what to do with the table")
    flags.DEFINE_string("reference", None, "row to compare with; default: the table's")
    define_flags(MODELS)


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    values = flags.FLAGS
    given = {"data_dir": "{seed}", **given_flags(MODELS)}
    given.pop("seed", None)
    try:
        settings = settings_of_table(TABLES[values.table], given, parse_grid(values.grid))
        chosen = {name: config for name, config in settings.items() if _fits(name, values.rows)}
        if not chosen:
            raise ValueError(f"rows: {values.rows} fit none of {list(settings)}")
        _do(values.mode, chosen, values)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _do(mode: str, settings: Mapping[str, Config], values: flags.FlagValues) -> None:
    seeds = tuple(map(int, values.seeds))
    sweep = Sweep(settings, seeds, values.results, values.select_on, values.predictions_dir)
    table = TABLES[values.table]
    reference = table.reference if values.reference is None else values.reference
    if reference and reference not in settings:
        raise ValueError(f"reference: {reference!r} is none of the rows {list(settings)}")
    if mode == "run":
        quieten()
        run_sweep(sweep)
    elif mode == "compare":
        compare_rows(sweep, reference)
    else:
        comparisons = Results(comparing.comparisons_file(values.results))
        results = Results(values.results)
        print(render(settings, table.metrics, results, comparisons, values.select_on, reference))


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


if __name__ == "__main__":
    _define()
    app.run(main, argv=find_flagfiles(sys.argv))
