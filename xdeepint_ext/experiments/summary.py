"""The numbers of a table: of each row, and of its ensemble, means over seeds and differences from the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from xdeepint_ext.experiments.comparing import comparisons_file
from xdeepint_ext.experiments.costs import costs_of_config
from xdeepint_ext.experiments.differences import comparison_key, kind_of_sweep
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.sweep import Sweep, at_seed

__all__ = ["Difference", "Line", "summarize"]

COSTS = ("parameters", "multiply_adds", "examples_per_second")


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference from the reference and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a table.

    Args:
      name: of the row.
      settings: of the row.
      ensemble: whether it is the ensemble of the row's seeds.
      seeds: how many.
      values: metric -> one value a seed, or the ensemble's; without those that the results do not have.
      differences: metric -> difference from the reference.
    """

    name: str
    settings: str
    ensemble: bool
    seeds: int
    values: Mapping[str, Sequence[float]]
    differences: Mapping[str, Difference]

    def mean(self, metric: str) -> float:
        """Mean over the seeds; NaN where there is no value."""
        return float(np.mean(self.values[metric])) if self.values.get(metric) else float("nan")

    def deviation(self, metric: str) -> float:
        """Standard deviation over the seeds; NaN below two values."""
        values = self.values.get(metric, ())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def summarize(sweep: Sweep, reference: str, metrics: Sequence[str] = ()) -> list[Line]:
    """The lines of a table, rows in their order, each followed by its ensemble where there is one.

    Args:
      sweep: whose runs are finished.
      reference: name of the row that the others were compared with.
      metrics: more metrics of the runs.
    """
    results = Results(sweep.results)
    comparisons = Results(comparisons_file(sweep.results))
    seeds, kind = "+".join(map(str, sweep.seeds)), kind_of_sweep(sweep)
    lines = []
    for name, config in sweep.settings.items():
        found = [sweep.find(results, name, seed) for seed in sweep.seeds]
        rows = [row for row in found if row is not None]
        several = results.find({"settings": config.settings(), "seed": seeds}, f"{sweep.split}.rows")
        for ensemble, of_line in ((False, rows), (True, [several] if several and len(sweep.seeds) > 1 else [])):
            if not of_line:
                continue
            values = {metric: _values(of_line, metric, sweep.split) for metric in (*kind.metrics, *COSTS, *metrics)}
            if not ensemble and not values["multiply_adds"]:  # of a run that did not count them
                count = costs_of_config(at_seed(config, sweep.seeds[0]))["multiply_adds"]
                values["multiply_adds"] = [] if np.isnan(count) else [count]
            differences = _differences(comparisons, sweep, name, reference, ensemble, kind.metrics)
            lines.append(Line(name, config.settings(), ensemble, len(sweep.seeds), values, differences))
    return lines


def _values(rows: Sequence[Mapping[str, str]], metric: str, split: str) -> list[float]:
    """The metric of every row, or nothing where one has none."""
    texts = [row.get(f"{split}.{metric}") or row.get(metric) for row in rows]
    values = [float(text) for text in texts if text]
    return values if len(values) == len(rows) and not np.isnan(values).any() else []


def _differences(
    comparisons: Results, sweep: Sweep, name: str, reference: str, ensemble: bool, metrics: Sequence[str]
) -> dict[str, Difference]:
    if name == reference:
        return {}
    key = {**comparison_key(sweep, name, reference), "kind": "ensemble" if ensemble else "seeds"}
    found = {metric: comparisons.find({**key, "metric": metric}) for metric in metrics}
    return {
        metric: Difference(*(float(row[part]) for part in ("value", "low", "high")))
        for metric, row in found.items()
        if row is not None
    }
