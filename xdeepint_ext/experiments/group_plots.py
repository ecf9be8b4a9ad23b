"""The pictures of users' codes and groups in `report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xdeepint_ext.experiments.plots import COLOURS, OTHER, TRAIN, VALID, new_figure, styled, svg_of

__all__ = ["code_usage", "lines", "pairs_of_bars", "user_map"]


@styled
def code_usage(counts: np.ndarray) -> str:
    """Share of the records of each code, the most used first, a panel a level.

    Args:
      counts: (L, K).
    """
    levels, size = counts.shape
    figure, axes = new_figure(levels, width=3.4 * levels, height=3.0)
    for level, ax in enumerate(axes):
        shares = np.sort(counts[level] / max(counts[level].sum(), 1))[::-1]
        ax.bar(np.arange(1, size + 1), shares, color=VALID, width=0.8)
        ax.axhline(1 / size, color=OTHER, linewidth=1, linestyle=":", label="all alike")
        ax.set(title=f"level {level + 1}", xlabel="codes, most used first", xlim=(0.3, size + 0.7))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.grid(axis="x", visible=False)
        ax.legend(fontsize=8)
    return svg_of(figure)


@styled
def lines(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, log: bool = False) -> str:
    """Values against training steps.

    Args:
      curves: name -> (steps, values).
      title: of the picture.
      log: whether the values' axis is logarithmic.
    """
    figure, (ax,) = new_figure(1, width=5, height=3.2)
    for (name, (steps, values)), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        ax.plot(steps, values, marker=".", color=colour, label=name)
    if log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.set(title=title, xlabel="training steps")
    ax.legend(fontsize=8)
    return svg_of(figure)


@styled
def pairs_of_bars(
    first: np.ndarray, second: np.ndarray, names: Sequence[str], legend: tuple[str, str], title: str
) -> str:
    """Two values of each of some things beside each other.

    Args:
      first: (n,).
      second: (n,).
      names: of the things.
      legend: names of the two.
      title: of the picture.
    """
    figure, (ax,) = new_figure(1, width=5, height=3.2)
    places = np.arange(len(names))
    ax.bar(places - 0.2, first, width=0.38, color=VALID, label=legend[0])
    ax.bar(places + 0.2, second, width=0.38, color=TRAIN, label=legend[1])
    ax.set_xticks(places, names)
    ax.set(title=title, xlabel="level", ylim=(0, 1.25 * np.nanmax([first, second])))
    ax.grid(axis="x", visible=False)
    ax.legend(fontsize=8, ncols=2)
    return svg_of(figure)


@styled
def user_map(places: np.ndarray, codes: np.ndarray, shares: np.ndarray) -> str:
    """Users in a plane, coloured by a code.

    Args:
      places: (n, 2).
      codes: (n,).
      shares: (2,) of the variance along the axes.
    """
    figure, (ax,) = new_figure(1, width=5.6, height=4.6)
    number = int(codes.max()) + 1
    ax.scatter(
        *places.T, c=codes, cmap="tab20" if number > 10 else "tab10", s=5, alpha=0.7, linewidths=0, rasterized=True
    )
    names = [
        f"{axis} principal axis, {share:.0%} of the variance"
        for axis, share in zip(("first", "second"), shares, strict=True)
    ]
    ax.set(title="Users, coloured by first code", xlabel=names[0], ylabel=names[1])
    return svg_of(figure)
