"""The optimizers' formulas as loops over single numbers in float64, written from the specification and nothing else."""

import math

import numpy as np


def group_ftrl(w, n, z, g, *, alpha, beta, lambda1, lambda2):
    """One dense G-FTRL step on matrices, rows = groups; returns the next (w, n, z)."""
    rows, width = w.shape
    w, n, z = w.astype(np.float64), n.astype(np.float64), z.astype(np.float64)
    for r in range(rows):
        for k in range(width):
            sigma = (math.sqrt(n[r, k] + g[r, k] ** 2) - math.sqrt(n[r, k])) / alpha
            n[r, k] += g[r, k] ** 2
            z[r, k] += g[r, k] - sigma * w[r, k]
        norm = math.sqrt(sum(z[r, k] ** 2 for k in range(width)))
        threshold = lambda1 * math.sqrt(width)
        for k in range(width):
            if norm <= threshold or z[r, k] == 0:
                w[r, k] = 0.0
            else:
                w[r, k] = z[r, k] * (threshold / norm - 1) / ((beta + math.sqrt(n[r, k])) / alpha + lambda2)
    return w, n, z


def ftrl(w, n, z, g, *, learning_rate, l1, l2):
    """One step of TensorFlow's FTRL on vectors; returns the next (w, n, z)."""
    w, n, z = list(w), list(n), list(z)
    for i in range(len(w)):
        sigma = (math.sqrt(n[i] + g[i] ** 2) - math.sqrt(n[i])) / learning_rate
        n[i] += g[i] ** 2
        z[i] += g[i] - sigma * w[i]
        if abs(z[i]) <= l1:
            w[i] = 0.0
        else:
            w[i] = (math.copysign(l1, z[i]) - z[i]) / (math.sqrt(n[i]) / learning_rate + 2 * l2)
    return np.array(w), np.array(n), np.array(z)


def lazy_adam(w, m, v, gradient_of_row, *, step, learning_rate, beta_1, beta_2, epsilon):
    """One step on the rows of the mapping row -> summed gradient; returns the next (w, m, v)."""
    w, m, v = w.astype(np.float64), m.astype(np.float64), v.astype(np.float64)
    rate = learning_rate * math.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    for r, g in gradient_of_row.items():
        for k in range(w.shape[1]):
            m[r, k] = beta_1 * m[r, k] + (1 - beta_1) * g[k]
            v[r, k] = beta_2 * v[r, k] + (1 - beta_2) * g[k] ** 2
            w[r, k] -= rate * m[r, k] / (math.sqrt(v[r, k]) + epsilon)
    return w, m, v


def lazy_adagrad(w, n, gradient_of_row, *, learning_rate, epsilon):
    """One step on the rows of the mapping row -> summed gradient; returns the next (w, n)."""
    w, n = w.astype(np.float64), n.astype(np.float64)
    for r, g in gradient_of_row.items():
        for k in range(w.shape[1]):
            n[r, k] += g[k] ** 2
            w[r, k] -= learning_rate * g[k] / math.sqrt(n[r, k] + epsilon)
    return w, n


def sum_in_batch_order(ids, values, rows):
    """Adds values to their rows one after the other in the values' own precision: the dense gradient of a look-up."""
    total = np.zeros((rows, *values.shape[1:]), values.dtype)
    for row, value in zip(ids, values, strict=True):
        total[row] = total[row] + value
    return total
