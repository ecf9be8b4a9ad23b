"""Makes the lists that RankTower is trained on: candidates of a retrieval model, scores of a teacher, random items.

    python -m xdeepint_ext.data.prepare --dataset=kuairand --raw_dir=RAW --output_dir=DATA --history
    python -m xdeepint_ext.experiments.ranktower_lists --data_dir=DATA --raw_dir=RAW --output_dir=LISTS

The cascade is trained here: a matrix factorisation whose best items, impressions left out, are the candidates, and a
ranker (`--teacher_model`) that scores the impressions. Both are trained again every `--refit_days`, and what scores a
day has seen only days before it; validation and test days are scored by models of the training days alone. The first
`--warm_days` have no lists. Validation and test lists have all impressions, all candidates, and no random items.

A command that was broken off goes on behind the last finished teacher (LISTS.parts/, removed at the end); LISTS is
complete or absent.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from absl import app

from xdeepint_ext.data.lists import Interactions, ListSizes, describe_lists, write_lists
from xdeepint_ext.data.lists.labels import check_order
from xdeepint_ext.data.loaders import LOADERS, make_loader
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.experiments.candidates import CandidateScores
from xdeepint_ext.experiments.command_line import quieten
from xdeepint_ext.experiments.flags import define_options, values_of_flags
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.options import check_choices, option
from xdeepint_ext.experiments.run_directory import write_atomically
from xdeepint_ext.experiments.teacher import Teacher, teacher_config
from xdeepint_ext.experiments.time_blocks import Block, time_blocks

__all__ = ["ORDERS", "Options", "make_lists"]

ORDERS = {
    "kuairand": ("is_click", "long_view", "is_like"),
    "taobao": ("pv", "fav", "cart", "buy"),
    "taobao_ad": ("clk",),
}
"""Data set -> events, the least important first; the grades of lists where none are named."""
NONE = "none"


class LogLoader(Protocol):
    """What a loader of a log has."""

    train_until: int
    valid_until: int

    def interactions(self, raw_dir: str | os.PathLike[str], max_bad_rows: int = 0) -> Interactions:
        """The log."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says; each field is a flag.

    Raises:
      ValueError: a value is missing or out of range.
    """

    data_dir: str = option("", "what data.prepare made of the raw files: schema, vocabularies, splits by day")
    raw_dir: str = option("", "the raw files")
    output_dir: str = option("", "the directory of lists to make")
    order: tuple[str, ...] = option((), "events, the least important first; default: the data set's, in ORDERS")
    impressions: int = option(20, "most impressions of a training list; ours")
    candidates: int = option(20, "candidates of a training list; ours")
    random: int = option(20, "random items of a training list; ours")
    pool: int = option(100, "candidates of a user and day: training lists have some, the others all; ours")
    teacher_model: str = option("dcnv2", "the ranker that scores impressions; none: no scores", (*sorted(MODELS), NONE))
    teacher_setting: str = option("", "its flags, 'width=8 epochs=3', over those of flagfiles/teacher_DATASET")
    warm_days: int = option(2, "first days without lists, which the first models are trained on; ours")
    refit_days: int = option(3, "days after which the models are trained anew; ours")
    factors: int = option(32, "columns of the retrieval model's vectors; ours")
    seen_again: bool = option(False, "whether items that a user saw on earlier days may be candidates")
    seed: int = option(0, "of everything random")
    overwrite: bool = option(False, "replace an output directory that is there")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("data_dir", "raw_dir", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"--{name} must be given")
        if self.factors < 1:
            raise ValueError(f"factors must be >= 1, got {self.factors}")

    @property
    def sizes(self) -> dict[str, ListSizes]:
        """By split: test sets have everything that was shown."""
        train = ListSizes(self.impressions, self.candidates, self.random, self.pool)
        test = ListSizes(None, self.pool, 0)
        return {"train": train, "valid": test, "test": test}


def make_lists(options: Options) -> Manifest:
    """Trains the cascade and writes the lists.

    Returns:
      The manifest of the lists; its notes say what made candidates and scores.

    Raises:
      ValueError: flags and data do not fit together, or an event is unknown.
      DataError: the data contradict each other.
      FileExistsError: the output directory is there, and may not be overwritten.
    """
    rows = Manifest.load(options.data_dir)
    order = options.order or ORDERS.get(rows.dataset, ())
    sizes, loader = options.sizes, _loader(rows)
    if os.path.isdir(options.output_dir) and os.listdir(options.output_dir) and not options.overwrite:
        raise FileExistsError(f"output_dir {options.output_dir!r} exists and is not empty; overwrite replaces it")
    data = loader.interactions(options.raw_dir)
    blocks = time_blocks(np.unique(data.log.days).tolist(), loader.train_until, options.warm_days, options.refit_days)
    wanted = options.pool > 0
    settings = (options.factors, options.seen_again, options.seed)
    scorer = CandidateScores(data, check_order(order, list(data.log.events)), blocks, *settings) if wanted else None
    notes: dict[str, Any] = {"blocks": [dataclasses.asdict(block) for block in blocks]}
    notes["candidates"] = f"matrix factorisation, {options.factors} factors; seen_again={options.seen_again}"
    parts, teacher = f"{options.output_dir.rstrip('/')}.parts", None
    if options.teacher_model != NONE:
        _claim(parts, options)
        teacher, notes["teacher"] = _teacher(options, rows, loader, data, blocks, parts)
    manifest = write_lists(
        options.data_dir,
        data,
        options.output_dir,
        order=order,
        sizes=sizes,
        scorer=scorer,
        teacher=teacher,
        train_until=loader.train_until,
        valid_until=loader.valid_until,
        first_day=blocks[0].first,
        seed=options.seed,
        overwrite=options.overwrite,
        notes=notes,
    )
    shutil.rmtree(parts, ignore_errors=True)
    return manifest


def _loader(rows: Manifest) -> LogLoader:
    known = sorted(name for name, loader in LOADERS.items() if callable(getattr(loader, "interactions", None)))
    if rows.dataset not in known:
        raise DataError(f"data_dir holds {rows.dataset!r}, which is no log of users, items and days; there are {known}")
    return make_loader(rows.dataset, rows.notes["options"])  # type: ignore[return-value]


def _teacher(
    options: Options, rows: Manifest, loader: LogLoader, data: Interactions, blocks: Sequence[Block], parts: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """(scores of the log's rows, notes)."""
    config = teacher_config(options.teacher_model, rows.dataset, options.teacher_setting).replace(seed=options.seed)
    bounds = (loader.train_until, loader.valid_until)
    teacher = Teacher(config, options.data_dir, options.raw_dir, bounds, parts)
    scores, quality = teacher.scores(data.log, blocks)
    return scores, {"settings": config.settings(), "auc": quality}


def _claim(parts: str, options: Options) -> None:
    """Makes the directory of what is finished, or goes on in it.

    Raises:
      ValueError: it is of other flags.
    """
    os.makedirs(parts, exist_ok=True)
    path = os.path.join(parts, "flags.json")
    own = {
        name: value for name, value in dataclasses.asdict(options).items() if name not in ("overwrite", "output_dir")
    }
    own = json.loads(json.dumps(own))
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
        other = sorted(name for name in own if own[name] != found.get(name))
        if other:
            raise ValueError(
                f"{parts} holds parts made with other flags: {other[0]} was {found.get(other[0])!r} and is "
                f"{own[other[0]]!r}; remove it to begin anew"
            )
    write_atomically(path, json.dumps(own, indent=1) + "\n")


def main(argv: Sequence[str]) -> None:
    """Reads the flags, makes the lists, and prints what they are."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    quieten()
    try:
        options = Options(**values_of_flags(Options))
        manifest = make_lists(options)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on with the teacher that was under way")
    print(f"{options.output_dir}: {manifest.dataset}\n{describe_lists(manifest)}")
    if "teacher" in manifest.notes:
        print(f"teacher's AUC on days not seen, by the first of them: {manifest.notes['teacher']['auc']}")


if __name__ == "__main__":
    define_options([Options])
    app.run(main)
