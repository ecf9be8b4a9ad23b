"""The formulas of the layers of towers as loops in float64, written from the specification and nothing else."""

import math

import numpy as np


def sigmoid(value):
    return 1.0 / (1.0 + math.exp(-value))


def relu(value):
    return max(value, 0.0)


def affine(x, kernel, bias=None, activation=lambda value: value):
    """a(x W + b) of one vector."""
    found = np.zeros(kernel.shape[1])
    for j in range(kernel.shape[1]):
        total = sum(x[i] * kernel[i, j] for i in range(kernel.shape[0]))
        found[j] = activation(total + (0.0 if bias is None else bias[j]))
    return found


def softmax(values):
    highest = max(values)
    exponentials = [math.exp(value - highest) for value in values]
    return [e / sum(exponentials) for e in exponentials]


def multi_head_gate(x, mlp, value, gate, num_heads, gate_input="hidden"):
    """One example (n,) -> (H, d): e^p = sigmoid(W_g^p h + b_g^p) * (W_v^p h + b_v^p)."""
    hidden = x
    for kernel, bias in mlp:
        hidden = affine(hidden, kernel, bias, relu)
    values = affine(hidden, *value)
    gates = affine(hidden if gate_input == "hidden" else x, *gate, sigmoid)
    width = len(values) // num_heads
    heads = np.zeros((num_heads, width))
    for p in range(num_heads):
        for k in range(width):
            heads[p, k] = gates[p * width + k] * values[p * width + k]
    return heads


def attended(own, other, weights, other_weights, residual=True):
    """One pair's heads, own (H, d) and other (G, d): own + sigmoid(own W_G + b) * softmax(Q K' / sqrt(d)) V'."""
    (query, _, _, gate), bias = weights
    (_, key, value, _), _ = other_weights
    found = np.zeros((len(own), gate.shape[1]))
    keys, values = ([affine(row, kernel) for row in other] for kernel in (key, value))
    for p, row in enumerate(own):
        q = affine(row, query)
        shares = softmax([sum(q[k] * one[k] for k in range(len(q))) / math.sqrt(len(q)) for one in keys])
        gates = affine(row, gate, bias, sigmoid)
        for k in range(found.shape[1]):
            mixed = sum(share * one[k] for share, one in zip(shares, values, strict=True))
            found[p, k] = gates[k] * mixed + (row[k] if residual else 0.0)
    return found


def cosine(a, b):
    lengths = [max(math.sqrt(sum(v * v for v in x)), 1e-8) for x in (a, b)]
    return sum(v * w for v, w in zip(a, b, strict=True)) / lengths[0] / lengths[1]


def max_sim(user, item, temperature=1.0):
    """sum_p max_q cos(user_p, item_q) / temperature of (H_u, d) and (H_i, d)."""
    return sum(max(cosine(p, q) for q in item) for p in user) / temperature


def light_se(x, kernel):
    """One example (F, K): E_f + softmax(W z)_f E_f, z_f the mean of E_f."""
    means = [sum(row) / len(row) for row in x]
    shares = softmax([sum(kernel[f, g] * means[g] for g in range(len(x))) for f in range(len(x))])
    return np.array([[value * (1.0 + share) for value in row] for row, share in zip(x, shares, strict=True)])
