"""Which setting a model is compared with: the best of its search on the validation part, or a flagfile's."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.experiments.config import Config, canonical
from xdeepint_ext.experiments.kinds import CRITERIA, dataset_of
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.run_directory import flag_lines, write_atomically
from xdeepint_ext.experiments.searches import SEARCHES, VARIANTS
from xdeepint_ext.experiments.settings import QUIET, flagfile, flagfile_values, make_config, parse_setting
from xdeepint_ext.experiments.sweep import Sweep, at_seed, run_sweep

__all__ = ["Choice", "Search", "best", "check_alike", "choose", "search_file"]

# The data and what training may cost, which all models of a comparison must share.
ALIKE = (
    *("features", "batch_size", "epochs", "max_steps", "early_stopping", "patience", "eval_every"),
    *("mixed_precision", "max_bad_records"),
)


@dataclasses.dataclass(frozen=True)
class Search:
    """How settings are chosen.

    Args:
      given: flags for all models; a search's settings win over them, a flagfile does not.
      results: file of the final runs; that of the search stands beside it.
      output_dir: gets the flagfile of each winner, `settings/MODEL.cfg`.
      metric: name of the criterion, of `CRITERIA`.
      seed: of the trials.
      name: of the trials in `SEARCHES`; `none`: each model is trained with the given flags alone.
      anew: search where there is a flagfile, too.
    """

    given: Mapping[str, Any]
    results: str
    output_dir: str
    metric: str = "auc"
    seed: int = 0
    name: str = ""
    anew: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """A model's setting.

    Args:
      config: the setting.
      origin: where it is from, in words.
      trials: different settings of the model that the file of the search holds.
    """

    config: Config
    origin: str
    trials: int


def choose(model: str, search: Search) -> Choice:
    """The setting of a model: of the package's `flagfiles/MODEL_DATASET.cfg` where there is one, else by a search.

    Args:
      model: its name, or that of one of `VARIANTS`.
      search: how to search; trials that its file holds are not repeated.

    Raises:
      ValueError: there is neither a flagfile nor a search for the model, or all trials diverged.
    """
    seeded = str(search.given.get("data_dir", "")).replace("{seed}", str(search.seed))
    dataset = dataset_of(Manifest.load(seeded))
    variant = VARIANTS.get(model, {"model": model})
    base = {**flagfile_values(flagfile(dataset)), **QUIET, **search.given, **variant}
    own = flagfile(f"{model}_{dataset}")
    if search.name == "none":
        config, origin = make_config(base), "the given flags"
    elif own and not search.anew:
        start = {**flagfile_values(flagfile(dataset)), **flagfile_values(own), **QUIET, **search.given}
        config, origin = make_config({**start, **variant}), f"--flagfile={model}_{dataset}"
    else:
        config, origin = _search(model, base, search, search.name or dataset)
    rows = Results(search_file(search.results)).all({"model": config.model, "dataset": dataset})
    tried = {canonical(row["settings"]) for row in rows if row["row"].partition(" ")[0] == model}
    return Choice(config, origin, len(tried))


def _search(model: str, base: Mapping[str, Any], search: Search, name: str) -> tuple[Config, str]:
    """(the best trial's config, where it is from)."""
    trials = SEARCHES.get(name, {}).get(model)
    if trials is None:
        known = {dataset: sorted(models) for dataset, models in SEARCHES.items()}
        raise ValueError(
            f"models: no search of {model!r} on {name!r} in experiments/searches.py, which has {known}; say "
            "--searches=NAME for another data set's, or --searches=none to take the flags as they are"
        )
    settings = {f"{model} {text}": make_config({**base, **parse_setting(base["model"], text)}) for text in trials}
    sweep = Sweep(settings, (search.seed,), search_file(search.results), "valid", may_fail=True)
    results = run_sweep(sweep)
    finished = {text: sweep.find(results, text, search.seed) for text in settings}
    rows = {text: [row] for text, row in finished.items() if row is not None}
    if not rows:
        raise ValueError(f"models: all {len(trials)} trials of {model!r} diverged; see {search_file(search.results)}")
    winner = best(rows, search.metric)
    metric = CRITERIA[search.metric].metric
    about = (
        f"valid {metric} {rows[winner][0][f'valid.{metric}']} with seed {search.seed}, the best of {len(trials)} trials"
    )
    _write_flagfile(model, settings[winner], about, search)
    return settings[winner], f"`{winner.partition(' ')[2]}`: {about}"


def best(rows: Mapping[str, Sequence[Mapping[str, str]]], metric: str) -> str:
    """The name whose rows have the best mean of a metric of the valid split; the first of equals.

    Args:
      rows: name -> rows of the results, such as one a seed.
      metric: name of the criterion, of `CRITERIA`.

    Raises:
      ValueError: a row has no such metric.
    """
    criterion = CRITERIA[metric]

    def value(name: str) -> float:
        texts = [row.get(f"valid.{criterion.metric}") for row in rows[name]]
        if not all(texts):
            raise ValueError(f"choose_by: row {name!r} has no valid.{criterion.metric}")
        mean = sum(criterion.sign * float(text or "nan") for text in texts) / len(texts)
        return -math.inf if math.isnan(mean) else mean

    return max(rows, key=value)


def check_alike(settings: Mapping[str, Config]) -> None:
    """Checks that the models see the same data and may take the same time.

    Raises:
      ValueError: two differ in a flag that all must share.
    """
    names = list(settings)
    for name in names[1:]:
        for flag in ALIKE:
            one, other = (getattr(settings[n], flag) for n in (names[0], name))
            if one != other:
                raise ValueError(
                    f"models: all must be trained alike, and --{flag} is {one!r} for {names[0]}, {other!r} for {name}; "
                    f"say --{flag}=VALUE, which holds for all, or --search"
                )


def search_file(results: str) -> str:
    """The file that stands beside the results and holds the trials of the searches."""
    base, extension = os.path.splitext(results)
    return f"{base}_search{extension}"


def _write_flagfile(name: str, config: Config, about: str, search: Search) -> None:
    """Writes the setting so that a model's own command, or `flagfiles/`, can take it."""
    path = os.path.join(search.output_dir, "settings", f"{name}.cfg")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    changed = config.changed()
    lines = [line for line in flag_lines(config) if line[2:].partition("=")[0] in changed]
    dataset = dataset_of(Manifest.load(at_seed(config, search.seed).data_dir))
    title = f"# {name} on {dataset}: {about}; {os.path.basename(search_file(search.results))} has all."
    write_atomically(path, "\n".join([title, *lines, ""]))
