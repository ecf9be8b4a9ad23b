"""What training left of the weights: the share of embedding rows and interaction weights that are exactly zero."""

from __future__ import annotations

import numpy as np

from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.models import RankingModel
from xdeepint_ext.utils.variables import optimizer_group

__all__ = ["sparsity", "zero_rows_by_table"]


def zero_rows_by_table(embedding: FeatureEmbedding) -> dict[str, tuple[int, int]]:
    """Embedding table -> (rows that are zero, rows); the row of id 0, which is always read as zero, is not counted."""
    groups: dict[tuple[int, bool], dict[str, int]] = {}
    tables = embedding.schema.tables
    for feature in embedding.schema.inputs:
        if feature.is_ids:
            group = groups.setdefault((feature.width or embedding.width, feature.trainable), {})
            group[feature.table_name] = tables[feature.table_name].rows - 1
    found: dict[str, tuple[int, int]] = {}
    for key, sizes in groups.items():
        zero = ~embedding.tables[key].numpy()[1:].any(axis=1)
        ends = np.cumsum(list(sizes.values()))
        parts = np.split(zero, ends[:-1])
        found |= {name: (int(part.sum()), len(part)) for name, part in zip(sizes, parts, strict=True)}
    return found


def sparsity(model: RankingModel) -> dict[str, float]:
    """`zero_embedding_rows`: rows of norm 0 over all rows; `zero_interaction_weights`: exact zeros over all weights.

    The interaction weights are those of the optimizer group `interaction`, head included.

    Source: xDeepInt (arXiv 2301.01089), Table 6, as the authors' analysis code computes it.
    """
    by_table = zero_rows_by_table(model.embedding)
    found: dict[str, float] = {}
    if by_table:
        zero, rows = np.sum(list(by_table.values()), axis=0)
        found["zero_embedding_rows"] = float(zero / rows) if rows else 0.0
    weights = [v.numpy() for v in model.trainable_weights if optimizer_group(v) == "interaction"]
    if weights:
        total = sum(weight.size for weight in weights)
        found["zero_interaction_weights"] = float(sum((weight == 0).sum() for weight in weights) / total)
    return found
