"""Residual quantisation and its moving averages in loops, float64, straight from the formulas."""

import numpy as np


def quantize(x, codebooks):
    """(codes (B, L), residuals (B, L + 1, d))."""
    codes, residuals = [], [x]
    for codebook in codebooks:
        found = [int(np.argmin([((row - code) ** 2).sum() for code in codebook])) for row in residuals[-1]]
        codes.append(found)
        residuals.append(residuals[-1] - codebook[found])
    return np.array(codes).T, np.stack(residuals, axis=1)


def moved(x, codebooks, counts, sums, decay, epsilon):
    """The three after a batch; counts None at the start."""
    codes, residuals = quantize(x, codebooks)
    new = [], [], []
    size = codebooks.shape[1]
    for level, codebook in enumerate(codebooks):
        rows = [residuals[codes[:, level] == k, level] for k in range(size)]
        n = np.array([float(len(r)) for r in rows])
        s = np.array([r.sum(axis=0) for r in rows])
        before = n if counts is None else counts[level]
        sums_before = n[:, None] * codebook if counts is None else sums[level]
        n_k = decay * before + (1 - decay) * n
        m_k = decay * sums_before + (1 - decay) * s
        smoothed = n_k.sum() * (n_k + epsilon) / (n_k.sum() + size * epsilon)
        for kept, value in zip(new, (m_k / smoothed[:, None], n_k, m_k), strict=True):
            kept.append(value)
    return tuple(np.array(part) for part in new)
