"""Runs the settings of a table over several seeds, appends finished runs to a file, and goes on where it broke off.

    python -m xdeepint_ext.experiments.sweep --table=adult_layers --data_dir=adult-{seed} --results=results/adult.csv \
        --seeds=0,1,2
    python -m xdeepint_ext.experiments.sweep --table=adult_layers --results=results/adult.csv --render

`{seed}` in `--data_dir` stands for the seed. Every other flag of a run changes all rows of the table, and
`--grid="learning_rate=0.001,0.003 num_layers=2,3"` runs each row with every combination. With `--select_on=valid` the
test part stays untouched. Models are made one after the other in this process, and `--cache`, on by default here,
keeps small data in memory.
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
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.flags import define_flags, find_flagfiles, given_flags
from xdeepint_ext.experiments.inputs import record_keys
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.options import flag_types, options_of
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.running import Run, execute
from xdeepint_ext.experiments.tables import TABLES, Table

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
    needs = f"{sweep.select_on}.rows"
    plan = list(itertools.product(sweep.seeds, sweep.settings.items()))
    for number, (seed, (row, setting)) in enumerate(plan, 1):
        config = at_seed(setting, seed).replace(
            evaluate=("valid",) if sweep.select_on == "valid" else ("valid", "test")
        )
        key = key_of(config)
        done = results.find(key, needs)
        path = prediction_path(sweep.predictions_dir, key, sweep.select_on)
        if done and (not sweep.predictions_dir or os.path.exists(path)):
            continue
        started = time.perf_counter()
        tf.keras.backend.clear_session()
        run = execute(config)
        seconds = time.perf_counter() - started
        if sweep.predictions_dir:
            save_predictions(run, path, sweep.select_on)
        found = {name: value for name, value in run.metrics.items() if name not in ("dataset", "seed")}
        settings = _text_of({"model": config.model, **config.flags("training")}, config)
        about = {"row": row, "commit": _commit(), "seconds": round(seconds, 1), "settings": settings}
        results.add(key, {**about, **found})
        shown = {name: round(found[name], 5) for name in (f"{sweep.select_on}.auc", f"{sweep.select_on}.logloss")}
        print(f"[{number}/{len(plan)}] {row} seed {seed}: {shown} in {seconds:.0f} s", flush=True)
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
        "configuration": config.fingerprint(),
        "seed": config.seed,
    }


def settings_of_table(table: Table, given: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> dict[str, Config]:
    """Row name -> config: the table's flagfile, its base, the given flags, the grid's values, the row's own.

    Args:
      table: the table.
      given: flags for all rows.
      grid: flag -> values; every row is made once for each combination.
    """
    base = {**flagfile_values(table.flagfile), "cache": True, "progress": False, **table.base, **given}
    settings = {}
    for name, row in table.rows.items():
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            title = " ".join([name, *(f"{flag}={value}" for flag, value in point.items())])
            settings[title] = make_config({**base, **row, **point})
    return settings


def make_config(values: Mapping[str, Any]) -> Config:
    """A config of flag values, the model's own among them; options of other models are left out.

    Raises:
      ValueError: a name is no flag at all.
    """
    values = dict(values)
    model = values.pop("model", "xdeepint")
    common, own = options_of(Config), options_of(MODELS[model])
    known = {name for options in MODELS.values() for name in options_of(options)} | set(common)
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no flag of any run; there are {sorted(known)}")
    options = {name: value for name, value in values.items() if name in own}
    return Config(model=model, model_options=options, **{n: v for n, v in values.items() if n in common})


def flagfile_values(name: str) -> dict[str, Any]:
    """The flags that a flagfile gives."""
    if not name:
        return {}
    flag_values = flags.FlagValues()
    flags.DEFINE_string("flagfile", "", "", flag_values=flag_values)
    define_flags(MODELS, flag_values)
    flag_values(["sweep", *find_flagfiles([f"--flagfile={name}"])])
    return given_flags(MODELS, flag_values)


def parse_grid(text: str) -> dict[str, list[Any]]:
    """`"a=1,2 b=x"` -> {"a": [1, 2], "b": ["x"]}, in the types of the flags; a tuple's items are joined by `+`.

    Raises:
      ValueError: a part is not `flag=value,value`, or names no flag.
    """
    types: dict[str, type] = {}
    for cls in (*MODELS.values(), Config):
        types |= flag_types(cls)
    grid: dict[str, list[Any]] = {}
    for part in text.split():
        flag, separator, values = part.partition("=")
        if not separator or flag not in types:
            raise ValueError(f"grid: expected FLAG=VALUE,VALUE with a flag of a run, got {part!r}")
        grid[flag] = [_parsed(types[flag], value) for value in values.split(",")]
    return grid


def _parsed(kind: type, value: str) -> Any:
    if kind is bool:
        return {"true": True, "false": False}[value.lower()]
    if kind is tuple:
        items = [item for item in value.split("+") if item]
        return tuple(int(item) if item.isdigit() else item for item in items)
    return kind(value)


def prediction_path(directory: str, key: Mapping[str, Any], split: str) -> str:
    """File of a run's predictions on a split."""
    return os.path.join(directory, f"{key['configuration']}-{key['data'][:8]}-{key['seed']}-{split}.npz")


def save_predictions(run: Run, path: str, split: str) -> None:
    """Writes a run's predictions in an order that does not depend on how the data were prepared.

    Records are sorted by a fingerprint of their content; records of equal content have equal predictions.
    """
    predictions = run.predictions[split]
    keys = record_keys(run.config.data_dir, split)
    order = np.argsort(keys, kind="stable")
    for values in (predictions.labels, predictions.logits):
        values.update({task: array[order] for task, array in values.items()})
    predictions.weights = None if predictions.weights is None else predictions.weights[order]
    predictions.groups = None if predictions.groups is None else predictions.groups[order]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    predictions.save(path)


def _text_of(values: Mapping[str, Any], config: Config) -> str:
    """The flags that differ from their defaults, as one line."""
    default = Config(data_dir=config.data_dir, model=config.model).flags()
    changed = {name: value for name, value in values.items() if default.get(name) != value and name != "seed"}
    return " ".join(f"{n}={'+'.join(map(str, v)) if isinstance(v, tuple) else v}" for n, v in changed.items())


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
        seeds = tuple(map(int, values.seeds))
        run_sweep(Sweep(chosen, seeds, values.results, values.select_on, values.predictions_dir))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


if __name__ == "__main__":
    _define()
    app.run(main, argv=find_flagfiles(sys.argv))
