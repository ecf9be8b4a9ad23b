"""Trains models alike, each with the best setting of a small search, and says which is better, and how surely.

    python -m xdeepint_ext.experiments.compare --models=lr,fm,xdeepint --data_dir=adult-{seed} --seeds=5 \
        --results=results/adult.csv --output_dir=compared
    python -m xdeepint_ext.experiments.compare --table=adult_layers --data_dir=adult-{seed} \
        --results=results/adult.csv --output_dir=compared

Each model is searched on the validation part with one seed (experiments/searches.py), or taken from
`flagfiles/MODEL_DATASET.cfg` where there is one, and trained with all seeds; `--table` runs stated rows in place of
models. Finished runs are in `--results` (trials in `*_search.csv`) and are not repeated. `{seed}` in `--data_dir` is
the seed; any other flag of a run changes all rows. Written are NAME.md, NAME.csv and NAME.png, NAME the table or
`models`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import app

from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.experiments import plots
from xdeepint_ext.experiments.choosing import Choice, Search, best, check_alike, choose, search_file
from xdeepint_ext.experiments.command_line import quieten
from xdeepint_ext.experiments.differences import kind_of_sweep, make_differences, rows_without
from xdeepint_ext.experiments.flags import (
    define_flags,
    define_options,
    find_flagfiles,
    given_flags,
    values_of_flags,
)
from xdeepint_ext.experiments.inputs import select_features
from xdeepint_ext.experiments.kinds import CRITERIA, dataset_of, kind_of
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.options import check_choices, option
from xdeepint_ext.experiments.rendering import as_csv, as_markdown, as_more_markdown, name_of
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.run_directory import write_atomically
from xdeepint_ext.experiments.searches import VARIANTS
from xdeepint_ext.experiments.settings import settings_of_table
from xdeepint_ext.experiments.summary import Line, summarize
from xdeepint_ext.experiments.sweep import Sweep, at_seed, run_sweep
from xdeepint_ext.experiments.tables import TABLES

__all__ = ["Comparison", "Options", "compare", "run", "train"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` makes a table of.

    Args:
      sweep: the runs.
      output_dir: gets NAME.md, NAME.csv and NAME.png.
      name: of these files.
      metric: criterion of the valid split, whose best mean over the seeds makes a row the reference; and where it is
        one at an N, the table shows the differences at that N.
      reference: a row's name in place of that choice; "" = none.
      differences: make the ensembles and paired bootstraps that are not in the files yet. They need the runs'
        predictions: runs whose predictions are gone are repeated.
      metrics: columns besides the usual ones.
      choices: row -> how its setting was chosen.
      plot: whether to draw.
    """

    sweep: Sweep
    output_dir: str
    name: str = "models"
    metric: str = "auc"
    reference: str = ""
    differences: bool = True
    metrics: tuple[str, ...] = ()
    choices: Mapping[str, Choice] = dataclasses.field(default_factory=dict)
    plot: bool = True


def compare(comparison: Comparison) -> str:
    """Trains what is not trained yet, and writes the table.

    Returns:
      The table, as in NAME.md.

    Raises:
      ValueError: the reference is no row, or cannot be chosen; or the data have several labels.
      FloatingPointError: a run diverged.
    """
    sweep = comparison.sweep
    if comparison.reference and comparison.reference not in sweep.settings:
        raise ValueError(f"reference: {comparison.reference!r} is none of the rows {list(sweep.settings)}")
    if not comparison.reference:
        _check_reference_can_be_chosen(sweep)
    train(sweep)
    reference = comparison.reference or _reference(sweep, comparison.metric)
    lacking = rows_without(sweep, reference) if comparison.differences else []
    if lacking:
        needed = {name: sweep.settings[name] for name in dict.fromkeys([reference, *lacking])}
        run_sweep(dataclasses.replace(sweep, settings=needed), with_predictions=True)
        make_differences(sweep, rows_without(sweep, reference), reference)
    lines = summarize(sweep, reference, comparison.metrics)
    return _write(comparison, lines, reference)


def train(sweep: Sweep) -> Results:
    """Trains what is not trained yet; no table. Other processes may train other rows meanwhile.

    Raises:
      ValueError: the data have several labels, whose metrics one table cannot hold.
      FloatingPointError: a run diverged.
    """
    for config in sweep.settings.values():
        first = at_seed(config, sweep.seeds[0])
        tasks = select_features(first.data_dir, Manifest.load(first.data_dir), first.features).tasks
        if len(tasks) > 1:
            raise ValueError(f"data_dir: a comparison needs data with one label, and {first.data_dir} has {tasks}")
    return run_sweep(sweep)


def _check_reference_can_be_chosen(sweep: Sweep) -> None:
    for config in sweep.settings.values():
        data_dir = at_seed(config, sweep.seeds[0]).data_dir
        if not Manifest.load(data_dir).has("valid"):
            raise ValueError(f"reference: {data_dir} has no valid part to choose it by; name one of the rows")


def _reference(sweep: Sweep, metric: str) -> str:
    results = Results(sweep.results)
    found = {name: [sweep.find(results, name, seed) for seed in sweep.seeds] for name in sweep.settings}
    return best({name: [row for row in rows if row is not None] for name, rows in found.items()}, metric)


def _write(comparison: Comparison, lines: Sequence[Line], reference: str) -> str:
    trials = {name: choice.trials for name, choice in comparison.choices.items()}
    kind = kind_of_sweep(comparison.sweep).judged_by(comparison.metric)
    parts = (lines, reference, comparison.metrics, trials, kind)
    text = "\n\n".join(
        filter(None, (as_markdown(*parts), _legend(comparison, reference), as_more_markdown(lines, kind)))
    )
    text += "\n"
    os.makedirs(comparison.output_dir, exist_ok=True)
    path = os.path.join(comparison.output_dir, comparison.name)
    write_atomically(f"{path}.md", text)
    write_atomically(f"{path}.csv", as_csv(*parts))
    if comparison.plot:
        first = kind.columns[0]
        values = {line.name: (line.mean(first), line.deviation(first)) for line in lines if not line.ensemble}
        title = f"{_dataset(comparison.sweep)}, {comparison.sweep.split} part: mean ± standard deviation, "
        count = len(comparison.sweep.seeds)
        title += f"{count} seeds" if count > 1 else "one seed"
        picture = plots.error_bars(values, reference, title, f"{comparison.sweep.split} {name_of(first)}")
        with open(f"{path}.png", "wb") as stream:
            stream.write(picture)
    return text


def _legend(comparison: Comparison, reference: str) -> str:
    sweep, kind = comparison.sweep, kind_of_sweep(comparison.sweep)
    best_of = CRITERIA[comparison.metric].name
    chosen = "named by --reference" if comparison.reference else f"the best mean valid {best_of}"
    ensembles = ", ensembles with the reference's ensemble" if kind.ensembles else ""
    lines = [
        f"{_dataset(sweep)}, {sweep.split} part; mean ± standard deviation over the seeds. Reference: {reference}, "
        f"{chosen}. Differences: paired bootstrap over {kind.drawn_whole}, each seed with the reference's, "
        f"averaged{ensembles}; \\* = the interval excludes 0. Multiply-adds: of an "
        "example's forward pass without look-ups. "
        f"{kind.records.capitalize()}/s: of training, as measured in these runs."
    ]
    if comparison.choices:
        where = os.path.basename(search_file(sweep.results))
        lines += ["", f"Trials: different settings of the model in {where}, all judged by the valid part. Chosen:", ""]
        lines += [f"- {name}: {choice.origin}" for name, choice in comparison.choices.items()]
    return "\n".join(lines)


def _dataset(sweep: Sweep) -> str:
    first = next(iter(sweep.settings.values()))
    return dataset_of(Manifest.load(at_seed(first, sweep.seeds[0]).data_dir))


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says besides the flags of the runs. Each field is a flag.

    Raises:
      ValueError: a value is missing, or none of its choices.
    """

    models: tuple[str, ...] = option((), f"models to compare, of {','.join(sorted((*MODELS, *VARIANTS)))}")
    table: str = option("", "rows to compare in place of models, stated in experiments/tables.py")
    results: str = option("", "CSV file of finished runs; made where it is absent")
    output_dir: str = option("", "gets the table, the plot, predictions and chosen settings")
    seeds: int = option(3, "each row is trained with the seeds 0 .. SEEDS - 1")
    only: tuple[str, ...] = option(
        (), "train these rows only (names, patterns), no table: another process does the rest"
    )
    choose_by: str = option(
        "",
        "metric of the valid split that chooses settings and reference; default: auc, of lists ndcg",
        ("", *CRITERIA),
    )
    searches: str = option("", "data set whose trials are run; default: that of the data; none: no search")
    search: bool = option(False, "search models that have a flagfile MODEL_DATASET, too")
    reference: str = option("", "row to compare with; default: the best on the valid split")
    split: str = option("test", "part that the table is about; valid: the test part stays untouched", ("valid", "test"))
    differences: bool = option(True, "ensembles and intervals; runs whose predictions are gone are repeated")
    plot: bool = option(True, "draw NAME.png (needs matplotlib)")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("results", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"--{name} must be given")
        if bool(self.models) == bool(self.table):
            raise ValueError(f"give either --models or --table, got {self.models} and {self.table!r}")
        known_models = (*MODELS, *VARIANTS)
        for flag, names, known in (("models", self.models, known_models), ("table", (self.table,), ("", *TABLES))):
            unknown = [name for name in names if name not in known]
            if unknown:
                raise ValueError(f"--{flag}: {unknown[0]!r} is none of {sorted(known)}")
        if self.seeds < 1:
            raise ValueError(f"--seeds must be >= 1, got {self.seeds}")


def run(options: Options, given: Mapping[str, Any]) -> str:
    """Does what the command line says.

    Args:
      options: its own flags.
      given: flags of the runs, `data_dir` among them.

    Returns:
      The table; "" with `only`.

    Raises:
      ValueError: flags, models and data do not fit together.
    """
    if "data_dir" not in given:
        raise ValueError("--data_dir must name a directory that data.prepare wrote; {seed} in it stands for the seed")
    if options.plot and not options.only:
        plots.require_matplotlib("the plot", "--noplot")
    choices: dict[str, Choice] = {}
    if options.table:
        settings = settings_of_table(TABLES[options.table], given)
        settings = {name: settings[name] for name in _chosen(settings, options.only)}
    else:
        models, files = _chosen(options.models, options.only), (options.results, options.output_dir)
        search = Search(given, *files, _criterion(options, given), name=options.searches, anew=options.search)
        choices = {model: choose(model, search) for model in models}
        settings = {name: choice.config for name, choice in choices.items()}
        check_alike(settings)
    predictions = os.path.join(options.output_dir, "predictions")
    sweep = Sweep(settings, tuple(range(options.seeds)), options.results, options.split, predictions)
    if options.only:
        train(sweep)
        return ""
    comparison = Comparison(
        sweep,
        options.output_dir,
        options.table or "models",
        _criterion(options, given),
        options.reference,
        options.differences,
        TABLES[options.table].metrics if options.table else (),
        choices,
        options.plot,
    )
    return compare(comparison)


def _criterion(options: Options, given: Mapping[str, Any]) -> str:
    """Name of what chooses."""
    first = str(given["data_dir"]).replace("{seed}", "0")
    return options.choose_by or kind_of(Manifest.load(first)).usual


def _chosen(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that fit a pattern, all where there is none."""
    names = list(dict.fromkeys(names))
    fitting = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if patterns and not fitting:
        raise ValueError(f"--only: {','.join(patterns)} fits none of {names}")
    return fitting if patterns else names


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    quieten()
    given = given_flags(MODELS)
    given.pop("seed", None)
    try:
        print(run(Options(**values_of_flags(Options)), given), end="")
    except (ValueError, OSError, ImportError, NotImplementedError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on with the run that was under way")


if __name__ == "__main__":
    define_options([Options])
    define_flags(MODELS)
    try:
        arguments = find_flagfiles(sys.argv)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    app.run(main, argv=arguments)
