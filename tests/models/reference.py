"""The models' formulas in float64 loops, from the papers and nothing else."""

import numpy as np

from tests.layers import reference as layers


def pairwise(factors):
    """sum_{f < g} <v_f, v_g>, pair by pair: equation 1 of the FM paper."""
    logits = np.zeros((len(factors), 1))
    for b, rows in enumerate(factors):
        for f in range(len(rows)):
            for g in range(f + 1, len(rows)):
                logits[b, 0] += sum(rows[f, k] * rows[g, k] for k in range(rows.shape[1]))
    return logits


def total(rows):
    """The sum of all entries of each example's field matrix, (B, 1)."""
    return np.array([[sum(example.ravel())] for example in rows])


def xdeepint(x, kernels, head, num_subspaces=1, residual=True):
    """Logits of a field matrix; `head` = (w, b)."""
    weights, bias = head
    return layers.field_linear_head(layers.pin(x, kernels, num_subspaces, residual=residual), weights[:, 0], bias[0])
