"""The part of `report.html` on a model that ranks in groups: codes, groups, and how hard their negatives are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from xdeepint_ext.experiments import group_plots
from xdeepint_ext.experiments.code_watch import USERS
from xdeepint_ext.experiments.group_measures import CodeUse, Pulls, code_use, principal_plane, pulls
from xdeepint_ext.experiments.page import image, section, table
from xdeepint_ext.models import GroupRanker

if TYPE_CHECKING:
    from xdeepint_ext.experiments.running import Run

__all__ = ["sections"]

BATCHES = 10
"""Training batches that gradients are taken of."""
CURVES = {
    r"train_(?:(?P<task>.+)_)?(?P<name>group|auxiliary)_loss": ("Group and auxiliary losses", False),
    r"train_perplexity_(?P<level>\d+)": ("Perplexity of a batch's codes", False),
    r"train_(?:(?P<task>.+)_)?group_size_(?P<level>\d+)": ("Rows of a group with both classes", True),
    r"train_dead_codes_(?P<level>\d+)": ("Codes without a row since the last evaluation", False),
    r"train_expired_codes_(?P<level>\d+)": ("Codes that expire in a step", False),
    r"valid_codes_changed_(?P<level>\d+)": ("Users with other codes than at the last evaluation", False),
}
"""Names in a run's history -> title of their picture, and whether its axis is logarithmic."""
CURVES_HINT = (
    f"Shares of the codes of a level; of {USERS:,} users of the valid split at most. An evaluation is every "
    "--eval_every steps."
)
USE_HINT = (
    "Error: mean squared length of what the levels so far leave of a user, over that of the user. Groups: different "
    "codes up to the level. Dead: no record of the split has the code."
)
PULL_HINT = (
    "Gradients of the group losses at the negatives of training batches, by the weights of the end. Pull: sum of "
    "|dL/ds| over a group's negatives, mean over groups. Probability: of a negative, each weighing as its gradient. "
    "Random groups have the same sizes and other members: what they have less is what similar users add, as smaller "
    "groups alone change the gradient, too."
)


def sections(run: Run) -> Iterable[str]:
    """The sections; none for a model without groups.

    Args:
      run: a finished run.
    """
    model = run.model
    if not isinstance(model, GroupRanker):
        return
    split = run.shown_split
    if split:
        yield section(f"Codes of the users of {split}", _codes(code_use(model, run.inputs.batches(split))))
    pictures = "".join(_curves(run))
    if pictures:
        content = f'<div class="row">{pictures}</div><p class="hint">{CURVES_HINT}</p>'
        yield section("Codes and groups in training", content)
    for task, found in pulls(model, run.inputs.train(0).take(BATCHES)).items():
        of_task = f" of {task}" if len(model.tasks) > 1 else ""
        first = 1 - model.groups[task].include_root
        yield section(f"Negatives{of_task} by level", _negatives(found, first))


def _codes(found: CodeUse) -> str:
    columns = zip(found.perplexity, found.dead, found.groups, found.errors, strict=True)
    rows = [
        [str(level), f"{perplexity:.1f} of {found.counts.shape[1]}", f"{dead:.1%}", f"{groups:,}", f"{error:.3f}"]
        for level, (perplexity, dead, groups, error) in enumerate(columns, 1)
    ]
    parts = [table(["level", "perplexity", "dead codes", "groups", "error"], rows, text=1)]
    parts.append(image(group_plots.code_usage(found.counts), "Share of the records of each code by level"))
    if len(found.users) > 2 and found.users.shape[1] > 1:
        picture = group_plots.user_map(*_map(found))
        parts.append(image(picture, "Users in the plane of greatest variance, coloured by first code"))
    return f'<div class="row">{"".join(parts)}</div><p class="hint">{USE_HINT}</p>'


def _map(found: CodeUse) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    places, shares = principal_plane(found.users)
    return places, found.codes[:, 0], shares


def _curves(run: Run) -> Iterable[str]:
    history = run.state.now.history
    names = list(dict.fromkeys(name for entry in history for name in entry))
    for pattern, (title, log) in CURVES.items():
        fitting = {name: re.fullmatch(pattern, name) for name in names}
        curves = {_name(match): _curve(history, name) for name, match in fitting.items() if match}
        if curves:
            yield image(group_plots.lines(curves, title, log), title)


def _name(match: re.Match[str]) -> str:
    parts = match.groupdict()
    level = parts.get("level")
    return " ".join(filter(None, (parts.get("task"), parts.get("name"), level and f"level {level}")))


def _curve(history: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    entries = [entry for entry in history if name in entry]
    return [entry["step"] for entry in entries], [entry[name] for entry in entries]


def _negatives(found: Pulls, first: int) -> str:
    depth = [str(level) for level, _ in enumerate(found.groups, first)]
    rows = [
        [level, f"{groups:,.1f}", *map(_decimal, values)]
        for level, groups, *values in zip(
            depth,
            found.groups,
            found.negatives,
            found.pull,
            found.random_pull,
            found.probability,
            found.random_probability,
            strict=True,
        )
    ]
    heads = ["level", "groups", "negatives", "pull", "random groups", "probability", "random groups"]
    legend = ("groups", "random groups")
    pictures = [
        image(group_plots.pairs_of_bars(first, second, depth, legend, f"{title} by level"), f"{title} by level")
        for title, first, second in (
            ("Pull at negatives", found.pull, found.random_pull),
            ("Probability of negatives", found.probability, found.random_probability),
        )
        if not np.isnan([first, second]).all()
    ]
    body = table(heads, rows, text=1)
    return f'{body}<div class="row">{"".join(pictures)}</div><p class="hint">{PULL_HINT}</p>'


def _decimal(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
