"""Whether a version may be served: thresholds against the last blessed one on the same rows, and floors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xdeepint_ext.experiments.options import option
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.scores import score_rows

__all__ = ["Check", "Judged", "Thresholds", "Verdict", "judge"]

NAMES = {"auc": "AUC", "logloss": "log loss", "ece": "calibration error", "nce": "log loss over that of the mean label"}


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What a version must keep to. All values are our choice; look at a few days' numbers before you trust them.

    Raises:
      ValueError: a threshold is out of range, or contradicts another.
    """

    max_auc_drop: float = option(0.005, "most that AUC may be below the last blessed version's on the same rows")
    max_logloss_rise: float = option(0.005, "most that log loss may be above the last blessed version's")
    max_ece_rise: float = option(0.03, "most that the calibration error (ECE) may be above the last blessed version's")
    max_slice_auc_drop: float = option(0.02, "the same on each value of --bless_slices")
    max_slice_logloss_rise: float = option(0.02, "the same on each value of --bless_slices")
    max_slice_ece_rise: float = option(0.05, "the same on each value of --bless_slices")
    min_slice_rows: int = option(500, "held-out rows of a slice's value below which it is not judged")
    max_day_auc_drop: float = option(
        0.1, "most that the last blessed version's AUC on the day may be below its own on the day that blessed it"
    )
    max_day_logloss_rise: float = option(0.1, "the same of log loss: more, and the day itself is taken for damaged")
    min_auc: float = option(0.5, "AUC below which no version is blessed")
    max_nce: float = option(1.0, "log loss over that of the mean label, above which no version is blessed")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{field.name} must be >= 0 and finite, got {value}")
        if self.min_auc >= 1:
            raise ValueError(f"min_auc must be below 1, which no version exceeds, got {self.min_auc}")
        if self.max_nce == 0:
            raise ValueError("max_nce must be above 0: no version has a log loss of 0")
        for name in ("auc_drop", "logloss_rise", "ece_rise"):
            whole, part = getattr(self, f"max_{name}"), getattr(self, f"max_slice_{name}")
            if part < whole:
                raise ValueError(
                    f"max_slice_{name}={part} and max_{name}={whole} contradict each other: a slice has fewer rows, "
                    "and so needs at least the room of all rows"
                )
        if self.max_day_auc_drop < self.max_auc_drop or self.max_day_logloss_rise < self.max_logloss_rise:
            raise ValueError(
                "max_day_auc_drop and max_day_logloss_rise compare other rows, and so must be at least max_auc_drop "
                f"and max_logloss_rise; got {self.max_day_auc_drop} < {self.max_auc_drop} or "
                f"{self.max_day_logloss_rise} < {self.max_logloss_rise}"
            )


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
      rows: of which rows, in words.
      metric: name in `NAMES`.
      value: of the candidate (of the day's check, of the last blessed version on the day).
      reference: what it is compared with; None = a floor or ceiling.
      threshold: name of the threshold.
      allowed: its value.
      passed: whether it keeps to it.
    """

    rows: str
    metric: str
    value: float
    reference: float | None
    threshold: str
    allowed: float
    passed: bool

    def __str__(self) -> str:
        against = "" if self.reference is None else f", the last blessed version's {self.reference:.5f}"
        return f"{NAMES[self.metric]} on {self.rows} is {self.value:.5f}{against} (--{self.threshold}={self.allowed:g})"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was decided about a version.

    Args:
      version: the day.
      against: the last blessed day; None = there was none.
      checks: all that was compared.
      notes: what could not be.
      reasons: why there is no version that could be judged.
    """

    version: int
    against: int | None
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def blessed(self) -> bool:
        """Whether there is a version, and all checks passed."""
        return not self.reasons and all(check.passed for check in self.checks)

    @property
    def refusals(self) -> list[str]:
        """A line for each reason, and for each check that did not pass."""
        return [*self.reasons, *(str(check) for check in self.checks if not check.passed)]

    def to_json(self) -> dict[str, Any]:
        """For `verdicts/DAY.json` and `blessing.json`."""
        found = dataclasses.asdict(self)
        numbers = ("value", "reference")
        checks = [{**check, **{name: _finite(check[name]) for name in numbers}} for check in found.pop("checks")]
        return {**found, "blessed": self.blessed, "refusals": self.refusals, "checks": checks}


@dataclasses.dataclass(frozen=True)
class Judged:
    """Held-out rows of one day, as both versions score them.

    Args:
      day: which day.
      candidate: predictions of the candidate.
      blessed: of the last blessed version, of the same records in the same order; None = there is none.
      slices: `feature=value` -> (n,) booleans.
    """

    day: int
    candidate: Predictions
    blessed: Predictions | None
    slices: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def judge(version: int, against: int | None, days: tuple[Judged, ...], thresholds: Thresholds) -> Verdict:
    """Compares a version with the last blessed one.

    Args:
      version: the day of the candidate.
      against: that of the last blessed version.
      days: the day's held-out rows, and behind them those of the day of the last blessed version: a day whose labels
        are wrong would let the version pass that learned them.
      thresholds: what it must keep to.

    Raises:
      ValueError: labels differ, as the rows are not the same.
    """
    checks: list[Check] = []
    notes: list[str] = []
    for part in days:
        for task in part.candidate.labels:
            checks += _of_task(part, task, thresholds, notes, first=part is days[0])
    if len(days) > 1:
        for task in days[0].candidate.labels:
            checks += _day_itself(days[0], days[1], task, thresholds)
    return Verdict(version, against, tuple(checks), tuple(notes))


def _of_task(part: Judged, task: str, thresholds: Thresholds, notes: list[str], first: bool) -> Iterator[Check]:
    name = _named(part, task)
    inside = part.candidate.rows(task)
    found = score_rows(part.candidate, task, inside)
    if first:
        yield _check(name, "auc", found.get("auc", math.nan), None, "min_auc", thresholds.min_auc)
        yield _check(name, "nce", found.get("nce", math.nan), None, "max_nce", thresholds.max_nce)
    if part.blessed is None:
        return
    if not np.array_equal(part.candidate.labels[task], part.blessed.labels[task]):
        raise ValueError(f"judge: the labels of {name} are not those that the last blessed version was scored on")
    before = score_rows(part.blessed, task, inside)
    yield from _differences(name, found, before, "", thresholds)
    for value, rows in part.slices.items():
        rows = rows & inside
        if rows.sum() < thresholds.min_slice_rows:
            notes.append(f"{name}, {value}: {int(rows.sum())} rows, not judged")
            continue
        found, before = (score_rows(predictions, task, rows) for predictions in (part.candidate, part.blessed))
        if math.isnan(found["auc"]):
            notes.append(f"{name}, {value}: all labels are equal, AUC not judged")
        yield from _differences(f"{name}, {value}", found, before, "slice_", thresholds)


def _differences(
    name: str, found: Mapping[str, float], before: Mapping[str, float], kind: str, thresholds: Thresholds
) -> Iterator[Check]:
    for metric, change in (("auc", "drop"), ("logloss", "rise"), ("ece", "rise")):
        threshold = f"max_{kind}{metric}_{change}"
        if kind and math.isnan(found[metric]):
            continue
        value, reference = found.get(metric, math.nan), before.get(metric, math.nan)
        yield _check(name, metric, value, reference, threshold, getattr(thresholds, threshold))


def _day_itself(day: Judged, before: Judged, task: str, thresholds: Thresholds) -> Iterator[Check]:
    """The last blessed version on the day, against itself on the day that it was blessed on."""
    assert day.blessed is not None and before.blessed is not None
    found, reference = (score_rows(scored, task, scored.rows(task)) for scored in (day.blessed, before.blessed))
    name = f"{_named(day, task)} under the last blessed version, with {before.day} as reference,"
    for metric, threshold in (("auc", "max_day_auc_drop"), ("logloss", "max_day_logloss_rise")):
        values = found.get(metric, math.nan), reference.get(metric, math.nan)
        yield _check(name, metric, *values, threshold, getattr(thresholds, threshold))


def _check(rows: str, metric: str, value: float, reference: float | None, threshold: str, allowed: float) -> Check:
    sign = -1 if metric == "auc" else 1
    bound = allowed if reference is None else reference + sign * allowed
    # NaN passes nothing.
    return Check(rows, metric, value, reference, threshold, allowed, bool(sign * value <= sign * bound))


def _named(part: Judged, task: str) -> str:
    return f"{part.day}" if len(part.candidate.labels) == 1 else f"{part.day} ({task})"


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
