"""Trains settings with several seeds, adds finished runs to a file at once, and goes on where it broke off."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.experiments import comparing
from xdeepint_ext.experiments.config import Config, check_several_runs
from xdeepint_ext.experiments.inputs import record_keys
from xdeepint_ext.experiments.kinds import dataset_of, kind_of
from xdeepint_ext.experiments.results import Results, commit_of_package
from xdeepint_ext.experiments.running import Run, execute

__all__ = ["Sweep", "run_sweep"]

FAILED = "failed: "


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What `run_sweep` does.

    Args:
      settings: row name -> config; its data_dir may hold `{seed}`.
      seeds: each row is run with each.
      results: file of finished runs.
      split: `valid`: the test part stays untouched; `test`: both are evaluated.
      predictions_dir: where the predictions are kept, for ensembles and comparisons; "" = nowhere.
      may_fail: a run that diverges becomes a row that says so, and the next one goes on; False: it ends the sweep.
    """

    settings: Mapping[str, Config]
    seeds: tuple[int, ...]
    results: str
    split: str = "test"
    predictions_dir: str = ""
    may_fail: bool = False

    def find(self, results: Results, name: str, seed: int) -> dict[str, str] | None:
        """The finished run of a row and a seed, or None."""
        return results.find(key_of(at_seed(self.settings[name], seed)), f"{self.split}.rows")

    def prediction_path(self, row: Mapping[str, Any]) -> str:
        """File of the predictions of a row of the results."""
        name = f"{row['configuration']}-{row['data'][:8]}-{row['seed']}-{self.split}.npz"
        return os.path.join(self.predictions_dir, name)


def run_sweep(sweep: Sweep, with_predictions: bool = False) -> Results:
    """Runs what is not in the results yet.

    Args:
      sweep: what to run.
      with_predictions: repeat the runs whose predictions are not in `predictions_dir`.

    Returns:
      All results of the file.

    Raises:
      ValueError: a row is for a cluster.
      FloatingPointError: a run diverged.
    """
    for config in sweep.settings.values():
        check_several_runs(config.strategy)
    results = Results(sweep.results)
    plan = list(itertools.product(sweep.seeds, sweep.settings))
    for number, (seed, name) in enumerate(plan, 1):
        results.reload()  # another process may have run it
        done = sweep.find(results, name, seed)
        config = at_seed(sweep.settings[name], seed)
        if done and (not with_predictions or os.path.exists(sweep.prediction_path(done))):
            continue
        if not done and sweep.may_fail and _has_failed(results, config):
            continue
        found = _run(sweep, name, config, results, repeated=done is not None)
        print(f"[{number}/{len(plan)}] {name}, seed {seed}: {found}", flush=True)
    return results


def _run(sweep: Sweep, name: str, config: Config, results: Results, repeated: bool) -> str:
    """Runs, writes all down, and says in a few words what came out."""
    about = {"configuration": config.fingerprint(), "row": name, "commit": commit_of_package()}
    key, started = key_of(config), time.perf_counter()
    tf.keras.backend.clear_session()
    try:
        run = execute(config.replace(evaluate=_evaluated(sweep.split, config)))
    except FloatingPointError as error:
        if not sweep.may_fail:
            raise
        results.add({**key, **about}, {"model": config.model, "finished": f"{FAILED}{error}"})
        return f"{FAILED}{error}"
    about["seconds"] = f"{time.perf_counter() - started:.1f}"
    if sweep.predictions_dir:
        save_predictions(run, sweep.split, sweep.prediction_path({**key, **about}))
    comparing.forget(results, config.settings(), config.seed)
    left_out = ("dataset", "seed", "notes")
    metrics = {metric: value for metric, value in run.metrics.items() if metric not in left_out}
    results.add(key, {**about, **metrics}, replace=repeated)
    kind = kind_of(run.inputs.manifest)
    shown = [f"{metric} {metrics[f'{sweep.split}.{metric}']:.5f}" for metric in kind.shown]
    again = ", repeated for its predictions" if repeated else ""
    return f"{', '.join(shown)} in {about['seconds']} s{again}"


def _evaluated(split: str, config: Config) -> tuple[str, ...]:
    """The split that the table is about, and with the test split the valid one, where the data have it."""
    both = split == "test" and Manifest.load(config.data_dir).has("valid")
    return ("valid", split) if both else (split,)


def at_seed(setting: Config, seed: int) -> Config:
    """The setting with a seed, and the data of that seed."""
    return setting.replace(data_dir=setting.data_dir.replace("{seed}", str(seed)), seed=seed)


def key_of(config: Config) -> dict[str, Any]:
    """What identifies a run in the results."""
    manifest = Manifest.load(config.data_dir)
    return {
        "dataset": dataset_of(manifest),
        "data": manifest.fingerprint(),
        "settings": config.settings(),
        "seed": config.seed,
    }


def save_predictions(run: Run, split: str, path: str) -> None:
    """Writes a run's predictions in an order that does not depend on how the data were prepared.

    Records are sorted by a fingerprint of their content; records of equal content have equal predictions.
    """
    order = np.argsort(record_keys(run.config.data_dir, split), kind="stable")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = f"{path}.part.npz"
    run.predictions[split].take(order).save(part)
    os.replace(part, path)


def _has_failed(results: Results, config: Config) -> bool:
    row = results.find(key_of(config))
    return row is not None and row.get("finished", "").startswith(FAILED)
