"""The days of a loop as a table, a picture, and one HTML page."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xdeepint_ext.experiments.daily_loop import DailyLoop
from xdeepint_ext.experiments.page import document, section, table
from xdeepint_ext.experiments.rendering import NONE
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.run_directory import write_atomically

__all__ = ["as_markdown", "write"]

NAMES = {
    "warm": "warm start",
    "scratch": "from scratch",
    "never": "never retrained",
}
PANELS = {"auc": "AUC of a day before training on it", "logloss": "log loss", "train_seconds": "seconds of training"}


def write(loop: DailyLoop, results: Results, plot: bool = True) -> str:
    """Writes days.md, days.png and report.html beside days.csv.

    Args:
      loop: whose days are done.
      results: what `DailyLoop.run` returned.
      plot: whether to draw.

    Returns:
      The table, as in days.md.
    """
    text = as_markdown(loop, results)
    write_atomically(os.path.join(loop.output_dir, "days.md"), text)
    picture = _draw(loop, results) if plot else b""
    if plot:
        with open(os.path.join(loop.output_dir, "days.png"), "wb") as stream:
            stream.write(picture)
    title = f"{loop.config.model} day by day, {loop.days[0]} to {loop.days[-1]}"
    write_atomically(os.path.join(loop.output_dir, "report.html"), document(title, _sections(loop, results, picture)))
    return text


def as_markdown(loop: DailyLoop, results: Results) -> str:
    """A line a day: AUC and log loss of each mode before it was trained on the day, seconds, and the verdict."""
    heads, rows = _table(loop, results)
    lines = [heads, ["---", *["---:"] * (len(heads) - 2), "---"], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _table(loop: DailyLoop, results: Results) -> tuple[list[str], list[list[str]]]:
    columns = [
        (head, mode, metric)
        for metric, head in (("auc", "AUC"), ("logloss", "log loss"), ("train_seconds", "training s"))
        for mode in loop.modes
        if metric != "train_seconds" or mode != "never"
    ]
    heads = ["day", *(f"{head}, {NAMES[mode]}" for head, mode, _ in columns), "version"]
    rows = []
    for day in loop.days:
        found = {mode: results.find({"day": day, "mode": mode}) or {} for mode in loop.modes}
        cells = [_number(metric, found[mode]) for _, mode, metric in columns]
        rows.append([str(day), *cells, _version(loop.verdict(day))])
    means = ["mean", *(_mean(results, loop, mode, metric) for _, mode, metric in columns), ""]
    return heads, [*rows, means]


def _number(metric: str, row: Mapping[str, str]) -> str:
    text = _of(row, metric)
    return NONE if not text else f"{float(text):.1f}" if metric.endswith("seconds") else f"{float(text):.5f}"


def _of(row: Mapping[str, str], metric: str) -> str:
    """A metric of a row; of several tasks their mean."""
    return row.get(metric) or row.get(f"mean.{metric}") or ""


def _mean(results: Results, loop: DailyLoop, mode: str, metric: str) -> str:
    rows = (results.find({"day": day, "mode": mode}) for day in loop.days)
    values = [float(_of(row, metric)) for row in rows if row and _of(row, metric)]
    return _number(metric, {metric: str(sum(values) / len(values))}) if values else NONE


def _version(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return NONE
    return "blessed" if verdict["blessed"] else f"refused ({len(verdict['refusals'])} checks)"


def _draw(loop: DailyLoop, results: Results) -> bytes:
    from xdeepint_ext.experiments import plots

    curves: dict[str, dict[str, tuple[Sequence[str], Sequence[float]]]] = {}
    for metric, title in PANELS.items():
        curves[title] = {}
        for mode in loop.modes:
            rows = [(day, results.find({"day": day, "mode": mode}) or {}) for day in loop.days]
            points = [(str(day), float(_of(row, metric))) for day, row in rows if _of(row, metric)]
            if points and (metric, mode) != ("train_seconds", "never"):
                x, y = zip(*points, strict=True)
                curves[title][NAMES[mode]] = (x, y)
    refused = [str(day) for day in loop.days if loop.is_refused(day)]
    return plots.panels({title: found for title, found in curves.items() if found}, refused, "version refused")


def _sections(loop: DailyLoop, results: Results, picture: bytes) -> Iterable[str]:
    heads, rows = _table(loop, results)
    if picture:
        data = base64.b64encode(picture).decode()
        described = "AUC, log loss and seconds of training by day"
        yield f'<p><img alt="{described}" src="data:image/png;base64,{data}"></p>'
    hint = (
        "Each day's records are scored before a model is trained on them, under the model's own vocabulary; "
        "seconds are wall time of the process that finished the day."
    )
    yield section("Days", table(heads, rows, text=1) + f'<p class="hint">{html.escape(hint)}</p>')
    for day in loop.days:
        verdict = loop.verdict(day)
        if verdict is not None and not verdict["blessed"]:
            lines = "".join(f"<li>{html.escape(line)}</li>" for line in verdict["refusals"])
            yield section(f"Refused: {day}", f"<ul>{lines}</ul>")
    yield section("Checks", _checks(loop))
    yield section("Settings", f"<pre>{html.escape(loop.config.settings().replace(' ', chr(10)))}</pre>")


def _checks(loop: DailyLoop) -> str:
    rows = []
    for day in loop.days:
        for check in (loop.verdict(day) or {}).get("checks", ()):
            numbers = [NONE if check[name] is None else f"{check[name]:.5f}" for name in ("value", "reference")]
            passed = "passed" if check["passed"] else "REFUSED"
            threshold = f"--{check['threshold']}={check['allowed']:g}"
            rows.append([str(day), check["rows"], check["metric"], threshold, passed, *numbers])
    heads = ["version", "rows", "metric", "threshold", "", "value", "last blessed version's"]
    return table(heads, rows, text=5)
