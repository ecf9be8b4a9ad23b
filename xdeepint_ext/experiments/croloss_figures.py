"""Figures 3 to 5 of CROLoss of finished runs: kernels against N, a wide range of alpha, alpha as hard mining.

    python -m xdeepint_ext.experiments.croloss_figures --results=results/amazon_beauty.csv --output_dir=figures

The runs are the rows of the tables `*_croloss_kernels`, `*_croloss_alpha` and `*_croloss_mining` of `compare`. Each
figure is an .svg, and its numbers, mean and standard deviation over the seeds, a .csv beside it.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from xdeepint_ext.experiments import plots
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.run_directory import write_atomically

__all__ = ["figures"]

ROW = re.compile(r"(?P<kernel>[a-z]+) alpha=(?P<alpha>[0-9.]+)")
Values = Mapping[tuple[str, float], Mapping[int, tuple[float, float]]]


def figures(results: str, split: str = "test", dataset: str = "") -> dict[str, tuple[str, list[list[object]]]]:
    """The figures that the runs suffice for.

    Args:
      results: CSV file that `compare` wrote.
      split: of which part the recalls are.
      dataset: name of the data set, where the file holds several.

    Returns:
      name -> (picture, rows of its numbers: kernel, alpha, N, mean, standard deviation).

    Raises:
      ValueError: no run is of a row of the tables.
    """
    values = _values(results, split, dataset)
    if not values:
        raise ValueError(
            f"results: no run in {results} is of a row such as 'sigmoid alpha=0.8', with recalls on {split}"
        )
    found = {}
    at_one = {key: recalls for key, recalls in values.items() if key[1] == 1.0}
    if len(at_one) > 1:
        curves = {kernel: _relative(recalls, at_one) for (kernel, _), recalls in at_one.items()}
        picture = plots.lines(curves, "Kernels at alpha = 1, over their mean", "N", "recall@N", log=True)
        found["figure_3"] = (picture, _rows(at_one))
    wide = {key: recalls for key, recalls in values.items() if key[0] == "sigmoid"}
    if len(wide) > 2:
        picture = plots.lines(
            _by_alpha(wide, relative=True), "Sigmoid kernel, over the best alpha", "alpha", "recall@N"
        )
        found["figure_4"] = (picture, _rows(wide))
    for kernel, name in (("hinge", "triplet"), ("softplus", "BPR")):
        mining = {key: recalls for key, recalls in values.items() if key[0] == kernel and key[1] <= 1}
        if len(mining) > 2:
            picture = plots.lines(_by_alpha(mining), f"{name}'s kernel; alpha = 0 is {name}", "alpha", "recall@N")
            found[f"figure_5_{kernel}"] = (picture, _rows(mining))
    return found


def _values(results: str, split: str, dataset: str) -> Values:
    """(kernel, alpha) -> N -> mean and deviation of recall@N over the seeds."""
    lists: dict[tuple[str, float], dict[int, list[float]]] = {}
    for row in Results(results):
        match = ROW.fullmatch(row["row"])
        if match is None or dataset not in ("", row["dataset"]):
            continue
        of_row = lists.setdefault((match["kernel"], float(match["alpha"])), {})
        for name, text in row.items():
            if name.startswith(f"{split}.recall_at_") and text:
                of_row.setdefault(int(name.rpartition("_")[2]), []).append(float(text))
    return {
        key: {
            n: (float(np.mean(x)), float(np.std(x, ddof=1)) if len(x) > 1 else float("nan"))
            for n, x in sorted(of_row.items())
        }
        for key, of_row in sorted(lists.items())
        if of_row
    }


def _relative(recalls: Mapping[int, tuple[float, float]], others: Values) -> tuple[list[float], list[float]]:
    means = {n: float(np.mean([other[n][0] for other in others.values()])) for n in recalls}
    return [float(n) for n in recalls], [mean / means[n] for n, (mean, _) in recalls.items()]


def _by_alpha(values: Values, relative: bool = False) -> dict[str, tuple[list[float], list[float]]]:
    """Curve of each N: recall against alpha."""
    curves = {}
    for n in next(iter(values.values())):
        recalls = [found[n][0] for found in values.values()]
        best = max(recalls) if relative else 1.0
        curves[f"N = {n}"] = ([alpha for _, alpha in values], [recall / best for recall in recalls])
    return curves


def _rows(values: Values) -> list[list[object]]:
    return [[*key, n, *found] for key, recalls in values.items() for n, found in recalls.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, or 1 after an error that the message on standard error explains."""
    parser = argparse.ArgumentParser(
        prog="python -m xdeepint_ext.experiments.croloss_figures", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--results", required=True, help="CSV file that compare wrote")
    parser.add_argument("--output_dir", required=True, help="gets the pictures and their numbers")
    parser.add_argument("--split", default="test", choices=("valid", "test"))
    parser.add_argument("--dataset", default="", help="where the file holds several")
    options = parser.parse_args(arguments)
    try:
        plots.require_matplotlib("the figures", "no other way")
        made = figures(options.results, options.split, options.dataset)
        os.makedirs(options.output_dir, exist_ok=True)
        for name, (picture, rows) in made.items():
            stream = io.StringIO(newline="")
            csv.writer(stream, lineterminator="\n").writerows([["kernel", "alpha", "n", "mean", "deviation"], *rows])
            write_atomically(os.path.join(options.output_dir, f"{name}.csv"), stream.getvalue())
            write_atomically(os.path.join(options.output_dir, f"{name}.svg"), picture)
            print(os.path.join(options.output_dir, f"{name}.svg"))
    except (OSError, ValueError, ImportError) as error:
        print(f"croloss_figures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
