"""The parts of `report.html` that only runs on lists have."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from xdeepint_ext.data.lists import describe_lists
from xdeepint_ext.experiments import plots
from xdeepint_ext.experiments.list_predictions import ITEMS, SETS, ListPredictions
from xdeepint_ext.experiments.page import image, section, table

if TYPE_CHECKING:
    from xdeepint_ext.experiments.running import Run

__all__ = ["metrics_table", "sections"]

LENGTHS = {
    "lists": "lists",
    "items_mean": "items, mean",
    "items_median": "median",
    "items_p90": "90 %",
    "items_max": "most",
}
LENGTHS["positives_mean"] = "positives, mean"
MOST_ITEMS = 200  # of a histogram


def metrics_table(run: Run) -> str:
    """Recall and NDCG at each K by test set and split, what the sets are, and what the directory holds."""
    parts = []
    for name, test_set in SETS.items():
        splits = [split for split in run.predictions if f"{split}.{name}.lists" in run.metrics]
        if not splits:
            continue
        heads = ["", *(f"{measure}@{k}" for k in test_set.ks for measure in ("Recall", "NDCG")), *LENGTHS.values()]
        rows = []
        for split in splits:
            values = [run.metrics[f"{split}.{name}.{metric}"] for metric in test_set.metrics]
            counts = [run.metrics.get(f"{split}.{name}.{key}", float("nan")) for key in LENGTHS]
            texts = [f"{value:,.0f}" if value == round(value) else f"{value:.2f}" for value in np.nan_to_num(counts)]
            rows.append([split, *(f"{value:.5f}" for value in values), *texts])
        parts.append(f"<p><b>{name}</b>: {html.escape(test_set.what)}</p>{table(heads, rows, text=1)}")
    described = html.escape(describe_lists(run.inputs.manifest))
    return "".join(parts) + f"<p>The lists:</p><pre>{described}</pre>"


def sections(split: str, predictions: ListPredictions) -> Iterable[str]:
    """Pictures of a split: metrics against K, and how long the lists are."""
    pictures = []
    for name in predictions.sets:
        items = predictions.values[f"{name}.{ITEMS}"]
        items = items[~np.isnan(items)]
        if not len(items):
            continue
        curves = {}
        for measure, shown in (("recall", "Recall"), ("ndcg", "NDCG")):
            found = [np.nanmean(predictions.values[f"{name}.{measure}_at_{k}"]) for k in SETS[name].ks]
            curves[f"{shown}@K"] = (SETS[name].ks, found)
        pictures.append(image(plots.at_k(curves, name), f"Recall and NDCG against K, {name}"))
        lengths, counts = np.unique(items.astype(int), return_counts=True)
        if 1 < len(lengths) and lengths[-1] <= MOST_ITEMS:
            counted = dict(zip(lengths.tolist(), counts.tolist(), strict=True))
            pictures.append(image(plots.histogram(counted, f"{name}: items of a list", "items"), f"Lengths, {name}"))
    if pictures:
        yield section(f"Rankings on {split}", f'<div class="row">{"".join(pictures)}</div>')
