"""What training left of the weights: zero embedding rows, zero interaction weights, and which fields interact."""

from __future__ import annotations

import numpy as np

from xdeepint_ext.layers import PIN, FeatureEmbedding
from xdeepint_ext.models import RankingModel
from xdeepint_ext.serving import tables
from xdeepint_ext.utils.variables import optimizer_group

__all__ = ["pin_kernels", "sparsity", "zero_rows_by_table"]


def zero_rows_by_table(embedding: FeatureEmbedding) -> dict[str, tuple[int, int]]:
    """Embedding table -> (rows that are zero, rows); the row of id 0, which is always read as zero, is not counted."""
    return {name: (int((~rows.any(axis=1)).sum()), len(rows)) for name, rows in tables.values(embedding).items()}


def sparsity(model: RankingModel) -> dict[str, float]:
    """`zero_embedding_rows`: rows of norm 0 over all rows; `zero_interaction_weights`: exact zeros over all weights.

    The interaction weights are those of the optimizer group `interaction`, head included.

    Args:
      model: a built model.

    Source: xDeepInt (arXiv 2301.01089), Table 6, as the authors' analysis code computes it.
    """
    found: dict[str, float] = {}
    counts = [pair for layer in tables.embeddings(model) for pair in zero_rows_by_table(layer).values()]
    if counts:
        zero, rows = np.sum(counts, axis=0)
        found["zero_embedding_rows"] = float(zero / max(rows, 1))
    weights = [tables.array(v) for v in model.trainable_weights if optimizer_group(v) == "interaction"]
    if weights:
        total = sum(weight.size for weight in weights)
        found["zero_interaction_weights"] = float(sum((weight == 0).sum() for weight in weights) / total)
    return found


def pin_kernels(model: RankingModel) -> dict[str, np.ndarray]:
    """Interaction layer -> (F, F) matrix of the mean |W| over the blocks of its sub-spaces; empty for other models.

    Args:
      model: a built model.
    """
    pins = [layer for layer in model.submodules if isinstance(layer, PIN)]
    found = {}
    for number, pin in enumerate(pins, 1):
        for index, kernel in enumerate(pin.kernels, 1):
            h = pin.num_subspaces
            fields = kernel.shape[0] // h
            blocks = np.abs(tables.array(kernel)).reshape(h, fields, h, fields)
            name = f"layer {index}" if len(pins) == 1 else f"head {number}, layer {index}"
            found[name] = blocks.mean(axis=(0, 2))
    return found
