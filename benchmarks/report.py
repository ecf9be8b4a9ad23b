"""What the measurements say: a table of medians, and the goals beside what was reached."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.settings import BATCH, OPTIMIZERS, PEERS, SETTINGS
from benchmarks.timing import Timing, median

LIMIT = "multiply-add limit"
OURS = "XDeepInt"


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table: a setting's name, who trains, with what, from where."""

    setting: str
    model: str
    optimizers: str = ""
    source: str = ""


Measured = Mapping[Case, Sequence[Timing]]


def machine() -> str:
    """Processor and cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def table(measured: Measured) -> str:
    """Markdown: medians, the extremes of the wall time, and the share of the limit that is reached."""
    lines = [
        "| model | optimizers | from | examples/s | ms a step | fastest - slowest | processor ms | share of limit |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for setting in dict.fromkeys(case.setting for case in measured):
        limit = _wall(measured, Case(setting, LIMIT))
        lines.append(f"| **{SETTINGS[setting]}** | | | | | | | |")
        for case, timings in measured.items():
            if case.setting != setting:
                continue
            wall, processor = median(timings)
            walls = [1e3 * timing.wall for timing in timings]
            cells = [case.model, case.optimizers, case.source, f"{BATCH / wall:,.0f}", f"{1e3 * wall:.1f}"]
            cells += [f"{min(walls):.1f} - {max(walls):.1f}", f"{1e3 * processor:.1f}"]
            lines.append(f"| {' | '.join([*cells, f'{limit / wall:.0%}' if case.model == OURS else ''])} |")
    return "\n".join(lines)


def limits(measured: Measured) -> str:
    """The limits' operations and rates, a line for each setting."""
    lines = []
    for case in measured:
        if case.model == LIMIT:
            setting, wall = SETTINGS[case.setting], _wall(measured, case)
            lines.append(
                f"- ({setting.name}) {setting.operations / 1e9:.2f} G multiplications and additions a step, at "
                f"{setting.operations / wall / 1e9:.0f} G/s of a ({BATCH * setting.columns:,}, {setting.rows}) x "
                f"({setting.rows}, {setting.rows}) product: {1e3 * wall:.1f} ms"
            )
    return "\n".join(lines)


def goals(measured: Measured) -> str:
    """Markdown: what was to be reached (with the paper's optimizers), and what was."""
    lines = ["| goal | reached | |", "| --- | ---: | --- |"]
    for text, sign, goal, value in _goals(measured):
        met = value >= goal if sign == ">=" else value <= goal
        lines.append(f"| {text} {sign} {goal:g} | {value:.2f} | {'yes' if met else 'NO'} |")
    return "\n".join(lines)


def _goals(measured: Measured) -> Iterator[tuple[str, str, float, float]]:
    def ours(setting: str, source: str) -> float:
        return _wall(measured, Case(setting, OURS, OPTIMIZERS[0], source))

    settings = {case.setting for case in measured}
    for source in ("materialised", "raw"):
        if "b" in settings:
            share = _wall(measured, Case("b", LIMIT)) / ours("b", source)
            yield f"(b) from {source} records: share of the limit", ">=", 0.6, share
            if Case("b", PEERS[0]) in measured:
                speed = _wall(measured, Case("b", PEERS[0])) / ours("b", source)
                yield f"(b) from {source} records: times the examples/s of DeepCTR's DCN-V2", ">=", 3.5, speed
            most = {"materialised": 1.05, "raw": 1.25}[source]
            cost = ours("b", source) / ours("b", "memory")
            yield f"(b) step time from {source} records over that from memory", "<=", most, cost
        if {"b", "c"} <= settings:
            yield f"(c) step time over that of (b), {source} records", "<=", 1.6, ours("c", source) / ours("b", source)


def _wall(measured: Measured, case: Case) -> float:
    return median(measured[case]).wall
