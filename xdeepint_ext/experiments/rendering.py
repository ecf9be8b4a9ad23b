"""A table of results as Markdown: mean ± standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.results import Results

__all__ = ["render"]

NAMES = {
    "auc": "AUC",
    "logloss": "log loss",
    "gauc": "GAUC",
    "zero_embedding_rows": "zero embedding rows",
    "zero_interaction_weights": "zero interaction weights",
}
LOWER_IS_BETTER = ("logloss",)


def render(
    settings: Mapping[str, Config],
    metrics: Sequence[str],
    results: Results,
    comparisons: Results,
    split: str,
    reference: str = "",
) -> str:
    """The Markdown table; a row without results is left empty.

    Args:
      settings: row name -> config.
      metrics: columns, without the split.
      results: finished runs, and ensembles (whose seed is several, joined by `+`).
      comparisons: of rows with the reference.
      split: `valid` or `test`.
      reference: the row that the others were compared with; "" = none.
    """
    heads = ["", "seeds", *(NAMES.get(metric, metric) for metric in metrics)]
    if reference:
        heads += [f"{NAMES.get(metric, metric)} − {reference}'s (95 %)" for metric in metrics[:1]]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, config in settings.items():
        rows = results.all({"settings": config.settings()}, f"{split}.rows")
        single = list({row["seed"]: row for row in rows if "+" not in row["seed"]}.values())
        several = [row for row in rows if "+" in row["seed"]]
        found = _difference(name, settings, comparisons, metrics, split, reference)
        lines.append(_line(name, single, metrics, split, found))
        if several:
            found = _difference(name, settings, comparisons, metrics, split, reference, ensemble=True)
            lines.append(_line(f"{name}, ensemble", several[-1:], metrics, split, found))
    return "\n".join(lines)


def _line(
    name: str, rows: Sequence[Mapping[str, str]], metrics: Sequence[str], split: str, difference: str | None
) -> str:
    cells = [name, rows[0]["seed"].replace("+", ", ") if len(rows) == 1 else str(len(rows)) if rows else ""]
    for metric in metrics:
        texts = [row.get(f"{split}.{metric}") or row.get(metric) for row in rows]
        values = [float(text) for text in texts if text]
        cells.append(_mean(values, share=metric.startswith("zero_")))
    if difference is not None:
        cells.append(difference)
    return "| " + " | ".join(cells) + " |"


def _mean(values: Sequence[float], share: bool) -> str:
    if not values:
        return ""
    if share:
        return f"{np.mean(values):.1%}"
    deviation = f" ± {np.std(values, ddof=1):.5f}" if len(values) > 1 else ""
    return f"{np.mean(values):.5f}{deviation}"


def _difference(
    name: str,
    settings: Mapping[str, Config],
    comparisons: Results,
    metrics: Sequence[str],
    split: str,
    reference: str,
    ensemble: bool = False,
) -> str | None:
    if not reference:
        return None
    if name == reference and not ensemble:
        return ""
    key = {
        "settings": settings[name].settings(),
        "other": settings[reference].settings(),
        "split": split,
        "kind": "ensemble" if ensemble else "seeds",
        "metric": metrics[0],
    }
    found = comparisons.find(key)
    if found is None:
        return ""
    value, low, high = (float(found[part]) for part in ("value", "low", "high"))
    return f"{value:+.5f} ({low:+.5f} … {high:+.5f})"
