"""The ensembles of a table's rows, and whether they differ from its reference: made where they are not in the files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.experiments import comparing
from xdeepint_ext.experiments.kinds import Kind, kind_of
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.sweep import Sweep, at_seed

__all__ = ["comparison_key", "kind_of_sweep", "make_differences", "rows_without"]


def kind_of_sweep(sweep: Sweep) -> Kind:
    """The kind of its data."""
    first = next(iter(sweep.settings.values()))
    return kind_of(Manifest.load(at_seed(first, sweep.seeds[0]).data_dir))


def comparison_key(sweep: Sweep, name: str, reference: str) -> dict[str, str]:
    """What identifies the comparisons of a row with the reference, kind and metric apart."""
    return {
        "settings": sweep.settings[name].settings(),
        "other": sweep.settings[reference].settings(),
        "split": sweep.split,
        "seeds": "+".join(map(str, sweep.seeds)),
    }


def rows_without(sweep: Sweep, reference: str) -> list[str]:
    """The rows whose ensemble, or whose comparison with the reference, is not in the files yet."""
    results = Results(sweep.results)
    comparisons = Results(comparing.comparisons_file(sweep.results))
    kind = kind_of_sweep(sweep)
    several = len(sweep.seeds) > 1 and kind.ensembles
    found = []
    for name in sweep.settings:
        key = comparison_key(sweep, name, reference)
        kinds = [] if name == reference else ["seeds", "ensemble"] if several else ["seeds"]
        wanted = [comparisons.find({**key, "kind": which, "metric": kind.columns[0]}) for which in kinds]
        if several:
            ensemble = {"settings": key["settings"], "seed": key["seeds"]}
            wanted.append(results.find(ensemble, f"{sweep.split}.rows"))
        if None in wanted:
            found.append(name)
    return found


def make_differences(sweep: Sweep, names: Sequence[str], reference: str) -> None:
    """Adds rows' ensembles over the seeds to the results, and their differences from the reference to their file.

    Args:
      sweep: whose runs are finished, with `predictions_dir`.
      names: of the rows.
      reference: name of a row.

    Raises:
      FileNotFoundError: a run is not finished, or its predictions were not kept.
    """
    results, kind = Results(sweep.results), kind_of_sweep(sweep)
    path = comparing.comparisons_file(sweep.results)
    load = kind.predictions.load
    other = [load(sweep.prediction_path(row)) for row in _finished(sweep, results, reference)]
    for name in names:
        key = comparison_key(sweep, name, reference)
        rows = _finished(sweep, results, name)
        members = [load(sweep.prediction_path(row)) for row in rows]
        if len(members) > 1 and kind.ensembles:
            together = comparing.ensemble(members)
            comparing.add_ensemble(results, rows[0], key["seeds"], together, sweep.split)
            if name != reference:
                difference = comparing.compare(together, comparing.ensemble(other))
                comparing.add_comparison(path, name, {**key, "kind": "ensemble"}, [difference])
        if name != reference:
            found = [kind.compare(a, b) for a, b in zip(members, other, strict=True)]
            comparing.add_comparison(path, name, {**key, "kind": "seeds"}, found)


def _finished(sweep: Sweep, results: Results, name: str) -> list[dict[str, str]]:
    """The row's finished runs, one a seed."""
    found = []
    for seed in sweep.seeds:
        row = sweep.find(results, name, seed)
        if row is None:
            raise FileNotFoundError(f"row {name!r}, seed {seed}: no finished run in {sweep.results}; run it first")
        path = sweep.prediction_path(row)
        if not os.path.exists(path):
            raise FileNotFoundError(f"row {name!r}, seed {seed}: no predictions at {path}; run it again")
        found.append(row)
    return found
