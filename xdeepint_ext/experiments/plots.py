"""The pictures of `report.html`, as SVG texts, and of `compare`, as PNG: all that needs matplotlib."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from xdeepint_ext.metrics import CalibrationTable

__all__ = [
    "at_k",
    "calibration",
    "depth_histogram",
    "error_bars",
    "heat_map",
    "histogram",
    "learning_curves",
    "lines",
    "panels",
    "require_matplotlib",
    "roc",
    "share_map",
    "zero_rows",
]

Picture = TypeVar("Picture", str, bytes)

TRAIN, VALID, OTHER = "#7f8c9b", "#1f6fb2", "#c44e52"
COLOURS = (VALID, OTHER, "#4f9d5d", "#8b6bb1", "#c98b2b", "#5aa7b5")
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#9aa4ae",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.color": "#e4e8ec",
    "legend.frameon": False,
    "svg.hashsalt": "xdeepint_ext",
}


def require_matplotlib(what: str = "report.html", without: str = "--noreport") -> None:
    """Checks that the pictures can be drawn.

    Args:
      what: needs them.
      without: flag that does without.

    Raises:
      ImportError: matplotlib is not installed; names the extra that brings it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError(
            f'{what} needs matplotlib: pip install "xdeepint-ext[plots]", or leave it out ({without})'
        ) from None


def styled(draw: Callable[..., Picture]) -> Callable[..., Picture]:
    """Draws in this file's style, whatever the process's is."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **keywords: Any) -> Picture:
        require_matplotlib()
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **keywords)

    return drawn


@styled
def learning_curves(
    history: Sequence[Mapping[str, float]],
    best_step: int | None,
    metric: str = "auc",
    titles: tuple[str, str] = ("log loss", "AUC"),
) -> str:
    """Loss and a metric of train and valid against steps.

    Args:
      history: entries with `step`, `train_*`, `valid_*`.
      best_step: is marked; None = none.
      metric: its name behind `train_`, `valid_` and a task.
      titles: of the two pictures.
    """
    names = list(dict.fromkeys(name for entry in history for name in entry))
    panels = (
        (titles[0], [n for n in names if n.endswith("loss")]),
        (titles[1], [n for n in names if re.fullmatch(rf"(train|valid)_(.*[._])?{re.escape(metric)}", n)]),
    )
    figure, axes = new_figure(2, width=10)
    for ax, (title, curves) in zip(axes, panels, strict=True):
        tasks = {"train": 0, "valid": 0}
        for name in curves:
            part = name.partition("_")[0]
            steps, values = zip(*((e["step"], e[name]) for e in history if name in e), strict=True)
            style = ("-", "--", ":", "-.")[tasks[part] % 4]
            tasks[part] += 1
            label = _curve_name(name)
            ax.plot(steps, values, style, color=TRAIN if part == "train" else VALID, marker=".", label=label)
        if best_step is not None:
            ax.axvline(best_step, color=OTHER, linewidth=1, linestyle=":", label=f"best step, {best_step:,}")
        ax.set(title=title, xlabel="training steps")
        ax.legend(fontsize=9)
    return svg_of(figure)


@styled
def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> str:
    """ROC curves.

    Args:
      curves: name -> (false positive rates, true positive rates, AUC).
    """
    figure, (ax,) = new_figure(1, width=5, height=4.6)
    ax.plot([0, 1], [0, 1], color=TRAIN, linewidth=1, linestyle=":")
    for (name, (false, true, area)), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        ax.plot(false, true, color=colour, label=f"{name}: AUC {area:.4f}")
    ax.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.005))
    ax.set_aspect("equal")
    ax.legend(loc="lower right", fontsize=9)
    return svg_of(figure)


@styled
def calibration(tables: Mapping[str, CalibrationTable], title: str = "Calibration") -> str:
    """Reliability diagram: observed against predicted frequency, bin by bin.

    Args:
      tables: name -> table.
      title: of the picture.
    """
    figure, (ax,) = new_figure(1, width=5, height=4.6)
    highest = max(float(max(table.predicted.max(), table.observed.max())) for table in tables.values())
    limit = min(1.0, 1.08 * highest)
    ax.plot([0, limit], [0, limit], color=TRAIN, linewidth=1, linestyle=":", label="perfect")
    for (name, table), colour in zip(tables.items(), COLOURS * len(tables), strict=False):
        error = np.sqrt(np.maximum(table.observed * (1 - table.observed), 0) / table.weight)
        ax.errorbar(table.predicted, table.observed, 2 * error, fmt="o-", ms=4, lw=1.2, color=colour, label=name)
    ax.set(title=title, xlabel="mean predicted probability", ylabel="observed frequency")
    ax.set(xlim=(0, limit), ylim=(0, limit))
    ax.set_aspect("equal")
    ax.legend(loc="upper left", fontsize=9)
    return svg_of(figure)


@styled
def zero_rows(tables: Mapping[str, tuple[int, int]]) -> str:
    """Share of the embedding rows that are zero, a bar a table.

    Args:
      tables: table -> (rows that are zero, rows).
    """
    names = list(tables)
    shares = [zero / rows if rows else 0.0 for zero, rows in tables.values()]
    figure, (ax,) = new_figure(1, width=8, height=0.8 + 0.27 * len(names))
    places = np.arange(len(names))
    ax.barh(places, shares, color=VALID, height=0.65)
    for place, share, (zero, rows) in zip(places, shares, tables.values(), strict=True):
        inside = share > 0.7
        text = f"{share:.0%} of {rows:,}" if zero else f"none of {rows:,}"
        colour, side, shift = ("white", "right", -0.01) if inside else ("#333333", "left", 0.01)
        ax.text(share + shift, place, text, va="center", ha=side, color=colour, fontsize=9)
    ax.set_yticks(places, names)
    ax.set(title="Embedding rows that are exactly zero", xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.grid(axis="y", visible=False)
    return svg_of(figure)


@styled
def heat_map(matrix: np.ndarray, fields: Sequence[str], title: str, largest: float) -> str:
    """A field-by-field matrix of values >= 0.

    Args:
      matrix: (F, F); row i is what field i is multiplied with.
      fields: their names.
      title: of the picture.
      largest: value of the darkest colour, so that several pictures compare.
    """
    count = len(fields)
    side = min(max(3.2, 0.24 * count + 1.6), 11)
    size = 9 if count <= 25 else 7 if count <= 45 else 5
    figure, (ax,) = new_figure(1, width=side + 0.9, height=side)
    picture = ax.imshow(matrix, cmap="Blues", vmin=0, vmax=largest or 1.0, interpolation="nearest", aspect="equal")
    ax.set_xticks(np.arange(count), fields, rotation=90, fontsize=size)
    ax.set_yticks(np.arange(count), fields, fontsize=size)
    ax.set(title=title)
    ax.grid(visible=False)
    ax.tick_params(length=2)
    bar = figure.colorbar(picture, ax=ax, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return svg_of(figure)


@styled
def error_bars(values: Mapping[str, tuple[float, float]], reference: str, title: str, label: str) -> bytes:
    """Mean and standard deviation, a line a row, the highest on top.

    Args:
      values: name -> (mean, standard deviation; NaN = none).
      reference: its row is marked, and its mean drawn through all.
      title: of the picture.
      label: of the axis.

    Returns:
      A PNG.
    """
    names = sorted(values, key=lambda name: values[name][0], reverse=True)
    figure, (ax,) = new_figure(1, width=8, height=1.3 + 0.3 * len(names))
    ax.axvline(values[reference][0], color=OTHER, linewidth=1, linestyle=":")
    for place, name in enumerate(names):
        mean, deviation = values[name][0], np.nan_to_num(values[name][1])
        colour = OTHER if name == reference else VALID
        ax.errorbar(mean, place, xerr=deviation, fmt="o", ms=5, lw=1.4, capsize=3, color=colour)
        number = f"{mean:.4f}" + (f" ± {deviation:.4f}" if deviation else "")
        ax.text(1.02, place, number, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.set_yticks(range(len(names)), [f"{name} (reference)" if name == reference else name for name in names])
    ax.set(title=title, xlabel=label, ylim=(len(names) - 0.4, -0.6))
    ax.xaxis.get_major_formatter().set_useOffset(False)
    ax.grid(axis="y", visible=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    return stream.getvalue()


@styled
def at_k(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], title: str) -> str:
    """Metrics against K.

    Args:
      curves: name -> (values of K, metric).
      title: of the picture.
    """
    figure, (ax,) = new_figure(1, width=5)
    for (name, (ks, values)), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        ax.plot(ks, values, "o-", ms=4, color=colour, label=name)
    ks = sorted({k for found, _ in curves.values() for k in found})
    ax.set_xscale("log")
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.minorticks_off()
    ax.set(title=title, xlabel="K", ylim=(0, None))
    ax.legend(fontsize=9)
    return svg_of(figure)


@styled
def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x_label: str,
    y_label: str,
    log: bool = False,
) -> str:
    """Curves in one picture.

    Args:
      curves: name -> (x, y).
      title: of the picture.
      x_label: of the axis.
      y_label: of the axis.
      log: whether x is drawn by its logarithm.
    """
    figure, (ax,) = new_figure(1, width=6)
    for (name, (x, y)), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        ax.plot(x, y, "o-", ms=4, color=colour, label=name)
    ax.set(title=title, xlabel=x_label, ylabel=y_label, xscale="log" if log else "linear")
    ax.legend(fontsize=9)
    return svg_of(figure)


@styled
def panels(
    curves: Mapping[str, Mapping[str, tuple[Sequence[str], Sequence[float]]]], marked: Collection[str], meaning: str
) -> bytes:
    """Pictures side by side whose x are the same words, with one legend.

    Args:
      curves: title -> name -> (x, y).
      marked: x at which a line is drawn.
      meaning: of that line.

    Returns:
      A PNG.
    """
    figure, axes = new_figure(len(curves), width=5 * len(curves), height=3.9)
    for ax, (title, of_panel) in zip(axes, curves.items(), strict=True):
        places = {word: i for i, word in enumerate(dict.fromkeys(w for x, _ in of_panel.values() for w in x))}
        for (name, (x, y)), colour in zip(of_panel.items(), COLOURS * len(of_panel), strict=False):
            ax.plot([places[word] for word in x], y, "o-", ms=4, color=colour, label=name)
        for word in marked:
            if word in places:
                ax.axvline(places[word], color=TRAIN, linewidth=1, linestyle=":", label=meaning)
        ax.set_xticks(range(len(places)), list(places), rotation=60, ha="right", fontsize=8)
        ax.set(title=title)
    # Of equal names the last: one line stands for all that are marked.
    shown = {name: line for ax in axes for line, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend([*shown.values()], [*shown], loc="outside lower center", ncols=len(shown), fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    return stream.getvalue()


@styled
def histogram(counts: Mapping[int, int], title: str, label: str) -> str:
    """How often there are so many of something.

    Args:
      counts: number -> how often.
      title: of the picture.
      label: of the axis.
    """
    figure, (ax,) = new_figure(1, width=5)
    ax.bar(list(counts), list(counts.values()), color=VALID, width=0.8)
    ax.set(title=title, xlabel=label, ylabel="lists")
    ax.grid(axis="x", visible=False)
    return svg_of(figure)


@styled
def share_map(shares: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> str:
    """A matrix of shares, each written in its cell.

    Args:
      shares: (rows, columns), 0 .. 1; NaN = none.
      rows: their names.
      columns: their names.
      title: of the picture.
    """
    figure, (ax,) = new_figure(
        1, width=0.4 + 0.5 * len(columns) + 0.065 * max(map(len, rows)), height=1.2 + 0.24 * len(rows)
    )
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, interpolation="nearest", aspect="auto")
    for row, column in np.ndindex(shares.shape):
        share = shares[row, column]
        text, colour = ("–", "#333333") if np.isnan(share) else (f"{share:.0%}", "white" if share > 0.7 else "#333333")
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    ax.set_xticks(np.arange(len(columns)), columns, rotation=25, ha="right", fontsize=8)
    ax.set_yticks(np.arange(len(rows)), rows, fontsize=8)
    ax.grid(visible=False)
    ax.tick_params(length=2)
    figure.suptitle(title, fontsize=11)  # over the names of the rows, too
    return svg_of(figure)


@styled
def depth_histogram(shares: np.ndarray, wanted: np.ndarray) -> str:
    """Shares of the records by the layers that they need.

    Args:
      shares: (L,).
      wanted: (L,), the shares that the balance loss pulls to.
    """
    depths = np.arange(1, len(shares) + 1)
    figure, (ax,) = new_figure(1, width=5, height=3.2)
    ax.bar(depths, shares, color=VALID, width=0.6, label="routed")
    ax.plot(depths, wanted, linestyle="", marker="_", markersize=26, markeredgewidth=2, color=OTHER, label="prior")
    for depth, share in zip(depths, shares, strict=True):
        ax.text(depth, share + 0.01, f"{share:.1%}", ha="center", va="bottom", fontsize=9)
    ax.set_xticks(depths)
    ax.set(title="Depth of the records", xlabel="layers", ylim=(0, 1.12 * max(shares.max(), wanted.max())))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.grid(axis="x", visible=False)
    ax.legend(fontsize=9, markerscale=0.4)
    return svg_of(figure)


def _curve_name(name: str) -> str:
    part, _, rest = name.partition("_")
    task = rest.rpartition(".")[0] or rest.rpartition("_")[0]
    return f"{part} {task}".strip()


def new_figure(panels: int, width: float, height: float = 3.6) -> tuple[Any, Any]:
    """A figure of so many panels side by side, in inches, and its axes; no window system takes part."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.ravel(figure.subplots(1, panels))


def svg_of(figure: Any) -> str:
    """The figure as SVG, alike whenever it is drawn."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
