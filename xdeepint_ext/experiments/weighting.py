"""Which weighting, kernel and alpha, is best for the N that matters: by the validation parts of finished runs.

python -m xdeepint_ext.experiments.weighting --results=results/amazon_beauty.csv --n=100
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from xdeepint_ext.experiments.config import canonical
from xdeepint_ext.experiments.results import Results

__all__ = ["Weighting", "best_weightings"]


@dataclasses.dataclass(frozen=True)
class Weighting:
    """A setting, and its recall on the validation part.

    Args:
      row: its name in the file.
      settings: flags that are not at their defaults.
      mean: of recall@N over the seeds.
      deviation: standard deviation over the seeds; NaN of one.
      seeds: how many.
    """

    row: str
    settings: str
    mean: float
    deviation: float
    seeds: int


def best_weightings(results: str, n: int, dataset: str = "") -> list[Weighting]:
    """The settings of a file of finished runs, the best for recall@N first.

    The choice is made on the validation part, so that the test part of the chosen one is an honest figure. Settings
    whose means are closer than their deviations are not told apart by these runs.

    Args:
      results: CSV file that `compare` wrote.
      n: the N that matters; one of those that are measured.
      dataset: name of the data set, where the file holds several.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: no run measured recall@N, or the runs are of several data sets.

    Example:
      >>> best_weightings("results/amazon_beauty.csv", n=100)[0].settings  # doctest: +SKIP
      'alpha=0.8 kernel=sigmoid ...'
    """
    metric = f"valid.recall_at_{n}"
    with open(results, encoding="utf-8"):
        rows = [row for row in Results(results) if row.get(metric) and dataset in ("", row["dataset"])]
    known = sorted(
        {name.rpartition("_")[2] for row in Results(results) for name in row if name.startswith("valid.recall_at")},
        key=int,
    )
    if not rows:
        raise ValueError(f"n: no run in {results} has {metric}; measured are {known}")
    datasets = sorted({row["dataset"] for row in rows})
    if len(datasets) > 1:
        raise ValueError(f"dataset: {results} holds runs of {datasets}; name one")
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(canonical(row["settings"]), []).append(row)
    found = []
    for settings, of_setting in groups.items():
        values = [float(row[metric]) for row in of_setting]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        found.append(Weighting(of_setting[-1]["row"], settings, float(np.mean(values)), deviation, len(values)))
    return sorted(found, key=lambda weighting: -weighting.mean)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, or 1 after an error that the message on standard error explains."""
    parser = argparse.ArgumentParser(
        prog="python -m xdeepint_ext.experiments.weighting", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--results", required=True, help="CSV file that compare wrote")
    parser.add_argument("--n", required=True, type=int, help="the N that matters")
    parser.add_argument("--dataset", default="", help="where the file holds several")
    options = parser.parse_args(arguments)
    try:
        found = best_weightings(options.results, options.n, options.dataset)
    except (OSError, ValueError) as error:
        print(f"weighting: {error}", file=sys.stderr)
        return 1
    print(f"valid recall@{options.n}, mean ± standard deviation over seeds")
    for weighting in found:
        spread = "" if np.isnan(weighting.deviation) else f" ± {weighting.deviation:.5f}"
        print(f"  {weighting.mean:.5f}{spread} ({weighting.seeds})  {weighting.row}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
