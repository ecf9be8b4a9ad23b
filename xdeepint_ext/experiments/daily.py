"""Retrains day by day, and serves a day's model only where it is as good as the last one that is served.

    python -m xdeepint_ext.experiments.daily --experiment=xdeepint --dataset=kuairand --raw_dir=RAW --output_dir=OUT \
        --days=20220425-20220508 --epochs=1 --modes=warm,scratch,never

For every day: the served model is evaluated on its records, goes on training with them (`--warm_start`), is exported,
and is blessed, that is copied to `OUT/served/DAY/`, where AUC, log loss and calibration on held-out rows pass the
thresholds against the last blessed version, overall and on `--bless_slices`. Any flag of a run changes all runs. The
same command goes on where it was killed, and with more `--days`. Written are days.csv, days.md, days.png and
report.html. docs/production.md tells more.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app

from xdeepint_ext.data.loaders import LOADERS
from xdeepint_ext.experiments import plots
from xdeepint_ext.experiments.command_line import quieten, told_errors
from xdeepint_ext.experiments.daily_data import DayData, parse_days, parse_prepare
from xdeepint_ext.experiments.daily_loop import MODES, DailyLoop
from xdeepint_ext.experiments.daily_report import write
from xdeepint_ext.experiments.flags import define_flags, define_options, find_flagfiles, given_flags, values_of_flags
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.options import check_choices, option
from xdeepint_ext.experiments.retrieval_options import RetrievalOptions
from xdeepint_ext.experiments.settings import make_config
from xdeepint_ext.experiments.verdicts import Thresholds

__all__ = ["Options", "make_loop", "run"]

EXPERIMENTS = tuple(sorted(name for name, options in MODELS.items() if not issubclass(options, RetrievalOptions)))
# What the loop decides itself.
OWN = ("model_dir", "warm_start", "early_stopping", "evaluate", "export", "report", "slices", "save_predictions")


@dataclasses.dataclass(frozen=True)
class Options(Thresholds):
    """What the command line says besides the flags of the runs. Each field is a flag.

    Raises:
      ValueError: a value is missing or none of its choices, or thresholds contradict each other.
    """

    experiment: str = option("xdeepint", "model that is trained", EXPERIMENTS)
    days: tuple[str, ...] = option(
        (), "YYYYMMDD or FIRST-LAST, ascending; more days go on behind the ones that are done"
    )
    output_dir: str = option("", "gets days, runs, verdicts, table and report")
    served_dir: str = option("", "base folder of the blessed versions, for TF Serving; default: OUTPUT_DIR/served")
    dataset: str = option("", "of the raw files, which are prepared day by day; without it --data_dir=DIR/{day}")
    raw_dir: str = option("", "the raw files; {day} in it stands for the day where the loader has no days of its own")
    prepare: tuple[str, ...] = option((), "arguments of data.prepare: name:value,name:value; + for a comma in a value")
    holdout: float = option(0.1, "share of a day's records that only judge its version")
    reserve: float = option(0.5, "rows beyond a vocabulary, as a share of it, that wait for new values; our choice")
    evict_after: int | None = option(None, "days in a row without a value after which it leaves; default: never")
    evict_zeroed: bool = option(True, "values whose rows G-FTRL has zeroed leave where no score changes by it")
    modes: tuple[str, ...] = option(("warm",), f"of {','.join(MODES)}; the second and third are for comparison")
    window: int | None = option(None, "days that scratch is trained on, the last ones; default: all so far")
    bless_slices: tuple[str, ...] = option((), "features on whose values versions are judged, too")
    plot: bool = option(True, "draw days.png (needs matplotlib)")

    def __post_init__(self) -> None:
        check_choices(self)
        thresholds_of(self)
        for name in ("output_dir", "days"):
            if not getattr(self, name):
                raise ValueError(f"--{name} must be given")
        if not 0 < self.holdout < 1:
            raise ValueError(f"--holdout must be above 0 and below 1, got {self.holdout}")
        unknown = [mode for mode in self.modes if mode not in MODES]
        if unknown or not self.modes:
            raise ValueError(f"--modes must be of {MODES}, got {','.join(self.modes)!r}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"--window must be >= 1, got {self.window}")
        if self.dataset and self.dataset not in LOADERS:
            raise ValueError(f"--dataset must be one of {sorted(LOADERS)}, got {self.dataset!r}")
        for name in ("raw_dir", "prepare", "evict_after"):
            if getattr(self, name) and not self.dataset:
                raise ValueError(f"--{name} is for days that are made of raw files: say of which --dataset, too")


def thresholds_of(options: Options) -> Thresholds:
    """The thresholds among the flags."""
    return Thresholds(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Thresholds)})


def make_loop(options: Options, given: Mapping[str, Any]) -> DailyLoop:
    """The loop that the command line describes.

    Args:
      options: its own flags.
      given: flags of the runs.

    Raises:
      ValueError: flags contradict each other.
    """
    wrong = [name for name in OWN if name in given]
    if wrong:
        raise ValueError(f"--{wrong[0]} is the loop's to say, not yours")
    given = dict(given)
    data = DayData(
        options.output_dir,
        given.pop("data_dir", ""),
        options.dataset,
        options.raw_dir,
        parse_prepare(options.dataset, options.prepare) if options.dataset else {},
        options.holdout,
        options.reserve,
        options.evict_after,
    )
    return DailyLoop(
        output_dir=options.output_dir,
        served_dir=options.served_dir or os.path.join(options.output_dir, "served"),
        days=parse_days(options.days),
        data=data,
        config=make_config({**given, "model": options.experiment, "data_dir": "-", "report": False}),
        modes=options.modes,
        window=options.window,
        thresholds=thresholds_of(options),
        slices=options.bless_slices,
        evict_zeroed=options.evict_zeroed,
    )


def run(options: Options, given: Mapping[str, Any]) -> str:
    """Does what the command line says; see `make_loop`.

    Returns:
      The table.
    """
    if options.plot:
        plots.require_matplotlib("the plot", "--noplot")
    loop = make_loop(options, given)
    return write(loop, loop.run(), options.plot)


def main(argv: Sequence[str]) -> None:
    """Reads the flags, runs, and prints the table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    quieten()
    with told_errors():
        print(run(Options(**values_of_flags(Options)), given_flags(EXPERIMENTS)))


if __name__ == "__main__":
    define_flags(EXPERIMENTS)
    define_options([Options])
    try:
        arguments = find_flagfiles(sys.argv)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    app.run(main, argv=arguments)
