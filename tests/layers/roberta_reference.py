"""RoBERTa's forward pass in NumPy float64, from the weights of an encoder."""

import math

import numpy as np

_erf = np.vectorize(math.erf)


def _norm(x, layer, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * np.float64(layer.gamma) + np.float64(layer.beta)


def _dense(x, layer):
    return x @ np.float64(layer.kernel) + np.float64(layer.bias)


def _attention(x, block, there, heads):
    query, key, value = (_dense(x, layer) for layer in (block.query, block.key, block.value))
    width = x.shape[1] // heads
    parts = []
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        scores = query[:, columns] @ key[:, columns].T / math.sqrt(width)
        scores[:, ~there] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        parts.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, columns])
    return _dense(np.concatenate(parts, axis=1), block.attended)


def roberta_reference(encoder, ids):
    """(B, n, width) of token ids (B, n); rows one by one."""
    found = []
    for row in ids:
        there = row != encoder.pad_id
        places = np.where(there, np.cumsum(there) + encoder.pad_id, encoder.pad_id)
        tables = [np.float64(table.embeddings) for table in (encoder.words, encoder.positions, encoder.types)]
        x = _norm(tables[0][row] + tables[1][places] + tables[2][0], encoder.norm, encoder.epsilon)
        for block in encoder.blocks:
            x = _norm(x + _attention(x, block, there, encoder.num_heads), block.attention_norm, encoder.epsilon)
            hidden = _dense(x, block.hidden)
            hidden = hidden * 0.5 * (1 + _erf(hidden / math.sqrt(2)))
            x = _norm(x + _dense(hidden, block.output_), block.output_norm, encoder.epsilon)
        found.append(x)
    return np.stack(found)
