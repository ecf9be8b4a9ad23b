"""The lines of a table as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence

from xdeepint_ext.experiments.kinds import ROWS, Kind
from xdeepint_ext.experiments.summary import COSTS, Line

__all__ = ["NAMES", "as_csv", "as_markdown", "as_more_markdown", "name_of"]

NAMES = {
    "auc": "AUC",
    "gauc": "GAUC",
    "logloss": "log loss",
    "parameters": "parameters",
    "multiply_adds": "multiply-adds",
    "multiply_adds_online": "online",
    "examples_per_second": "examples/s",
    "zero_embedding_rows": "zero embedding rows",
    "zero_interaction_weights": "zero interaction weights",
}
NONE = "–"


def name_of(metric: str) -> str:
    """A metric's name in a table: `candidates.ndcg_at_10` -> `candidates NDCG@10`."""
    if metric in NAMES:
        return NAMES[metric]
    test_set, _, name = metric.rpartition(".")
    part = test_set.removeprefix("slice.")
    if part != test_set:
        return f"{name_of(name)}, {part.replace('_', ' ').replace('=', ' ')}"
    measure, at, k = name.partition("_at_")
    names = {"ndcg": "NDCG", "recall": "Recall"}
    return f"{test_set} {names.get(measure, measure)}{'@' if at else ''}{k}".strip()


def as_markdown(
    lines: Sequence[Line], reference: str, metrics: Sequence[str], trials: Mapping[str, int], kind: Kind = ROWS
) -> str:
    """The Markdown table: mean ± standard deviation over seeds; `*` = the interval of the difference excludes 0.

    Args:
      lines: of the table.
      reference: name of the row that the others were compared with.
      metrics: columns besides the usual ones.
      trials: row -> settings tried; none = no such column.
      kind: of the data.
    """
    shown = [metric for metric in kind.columns if any(line.values[metric] for line in lines)]
    compared = [metric for metric in kind.compared if any(metric in line.differences for line in lines)]
    columns: dict[str, Callable[[Line], str]] = {
        "": lambda line: f"{line.name}, ensemble" if line.ensemble else line.name,
        "seeds": lambda line: str(line.seeds),
    }
    if trials:
        columns["trials"] = lambda line: NONE if line.ensemble else str(trials[line.name])
    for metric in (*shown, *metrics, *COSTS):
        head = f"{kind.records}/s" if metric == "examples_per_second" else name_of(metric)
        columns[head] = lambda line, metric=metric: _value(line, metric)  # type: ignore[misc]
    for metric in compared:
        head = f"{name_of(metric)} − {reference}'s (95 %)"
        columns[head] = lambda line, metric=metric: _difference(line, metric)  # type: ignore[misc]
    return _table(columns, lines)


def as_more_markdown(lines: Sequence[Line], kind: Kind) -> str:
    """The further tables of a kind, each under its heading; "" where it has none."""
    parts = []
    for heading, metrics in kind.more.items():
        columns: dict[str, Callable[[Line], str]] = {"": lambda line: line.name}
        for metric in metrics:
            if any(line.values[metric] for line in lines):
                columns[name_of(metric.rpartition(".")[2])] = lambda line, m=metric: _value(line, m)  # type: ignore[misc]
        if len(columns) > 1:
            parts.append(f"{heading}\n\n{_table(columns, lines)}")
    return "\n\n".join(parts)


def _table(columns: Mapping[str, Callable[[Line], str]], lines: Sequence[Line]) -> str:
    cells = [list(columns), ["---", *["---:"] * (len(columns) - 1)]]
    cells += [[column(line) for column in columns.values()] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def as_csv(
    lines: Sequence[Line], reference: str, metrics: Sequence[str], trials: Mapping[str, int], kind: Kind = ROWS
) -> str:
    """The same numbers in full, one line of the table a row; arguments as of `as_markdown`."""
    stream = io.StringIO(newline="")
    rows = [_row(line, reference, (*kind.metrics, *metrics), trials) for line in lines]
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _row(line: Line, reference: str, metrics: Sequence[str], trials: Mapping[str, int]) -> dict[str, object]:
    row: dict[str, object] = {"row": line.name, "ensemble": line.ensemble, "seeds": line.seeds}
    if trials:
        row["trials"] = trials[line.name]
    for metric in (*metrics, *COSTS):
        row |= {metric: _number(line.mean(metric)), f"{metric}_deviation": _number(line.deviation(metric))}
    row["reference"] = reference
    for metric, found in line.differences.items():
        numbers = {"difference": found.value, "low": found.low, "high": found.high}
        row |= {f"{metric}_{name}": _number(value) for name, value in numbers.items()}
        row[f"{metric}_significant"] = found.significant
    return {**row, "settings": line.settings}


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.9g}"


def _value(line: Line, metric: str) -> str:
    mean, deviation = line.mean(metric), line.deviation(metric)
    if math.isnan(mean):
        return NONE
    if metric in COSTS or metric.startswith("multiply_adds"):
        return f"{mean:,.0f}"
    if metric.startswith("zero_"):
        return f"{mean:.1%}"
    return f"{mean:.5f}" if math.isnan(deviation) else f"{mean:.5f} ± {deviation:.5f}"


def _difference(line: Line, metric: str) -> str:
    found = line.differences.get(metric)
    if found is None:
        return NONE
    return f"{found.value:+.5f} ({found.low:+.5f} … {found.high:+.5f})" + (r" \*" if found.significant else "")
