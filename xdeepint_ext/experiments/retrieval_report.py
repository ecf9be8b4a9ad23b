"""The part of `report.html` that only retrieval runs have."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xdeepint_ext.experiments import plots
from xdeepint_ext.experiments.page import image, section
from xdeepint_ext.experiments.retrieval_predictions import AT, RetrievalPredictions

__all__ = ["sections"]

MEASURES = {"recall": "Recall@N", "hit_rate": "HitRate@N", "ndcg": "NDCG@N"}
MOST = 50  # of the histogram


def sections(split: str, predictions: RetrievalPredictions) -> Iterable[str]:
    """Pictures of a split: metrics against N, and how many targets users have."""
    at = [n for n in AT if f"recall_at_{n}" in predictions.values]
    curves = {
        name: (at, [float(np.nanmean(predictions.values[f"{measure}_at_{n}"])) for n in at])
        for measure, name in MEASURES.items()
    }
    pictures = [image(plots.at_k(curves, "all items of the catalogue"), "Recall, hit rate and NDCG against N")]
    numbers, counts = np.unique(np.minimum(predictions.targets, MOST), return_counts=True)
    if len(numbers) > 1:
        counted = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        pictures.append(image(plots.histogram(counted, "targets of a user", "targets"), "Targets of users"))
    yield section(f"Retrieval on {split}", f'<div class="row">{"".join(pictures)}</div>')
