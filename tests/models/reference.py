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


def mlp(x, weights):
    """relu(W x + b), layer after layer; `weights` = (kernel, bias, kernel, bias, ...)."""
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        x = np.maximum(x @ kernel + bias, 0)
    return x


def cross(x, layers):
    """Cross layers of DCN, (kernel (n, 1), bias), or of DCN-V2, (W, b) or (U, V, b) in the row convention."""
    last = x
    for *kernels, bias in layers:
        mapped = last
        for kernel in kernels:
            mapped = mapped @ kernel
        # DCN-V2's bias is inside the product with x_0, DCN's is outside.
        last = x * (mapped + bias) + last if kernels[-1].shape[1] > 1 else x * mapped + bias + last
    return last
