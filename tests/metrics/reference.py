"""The streaming metrics as loops over rows, pairs and lists, in NumPy float64 and straight from the definitions."""

import itertools
import math

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def gauc(labels, scores, groups, weight="rows", weights=None):
    """Every pair of every group; NaN where no group has both classes."""
    weights = np.ones(len(labels)) if weights is None else weights
    total = share = 0.0
    for group in set(groups):
        positives = [i for i in range(len(labels)) if groups[i] == group and labels[i] == 1 and weights[i] > 0]
        negatives = [i for i in range(len(labels)) if groups[i] == group and labels[i] == 0 and weights[i] > 0]
        wins = pairs = 0.0
        for i, j in itertools.product(positives, negatives):
            pairs += weights[i] * weights[j]
            wins += weights[i] * weights[j] * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
        if pairs:
            of_positives, of_negatives = (sum(weights[i] for i in rows) for rows in (positives, negatives))
            w = {"rows": of_positives + of_negatives, "positives": of_positives, "uniform": 1.0}[weight]
            total += w * wins / pairs
            share += w
    return total / share if share else math.nan


def calibration_error(labels, probabilities, weights, bins):
    """The bins as intervals (i / bins, (i + 1) / bins], the first with its lower edge."""
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for i in range(bins):
        inside = [
            j
            for j, p in enumerate(probabilities)
            if (edges[i] < p or (i == 0 and p == 0)) and (p <= edges[i + 1] or i == bins - 1)
        ]
        total += abs(sum(weights[j] * (labels[j] - probabilities[j]) for j in inside))
    return total / sum(weights)


def orders(scores):
    """All orders of a list's items, best first, that its scores allow."""
    blocks = [[i for i, s in enumerate(scores) if s == value] for value in sorted(set(scores), reverse=True)]
    for choice in itertools.product(*(list(itertools.permutations(block)) for block in blocks)):
        yield [i for block in choice for i in block]


def dcg(gains):
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def top_k(kind, labels, scores, k, weights=None, average="lists", gain="exponential", legacy=False):
    """A metric of the K best over lists: the mean over all orders of tied items, then over lists with a positive."""
    weights = np.ones_like(labels, np.float64) if weights is None else weights
    numerator = denominator = 0.0
    for y, s, w in zip(labels, scores, weights, strict=True):
        there = [i for i in range(len(y)) if y[i] >= 0 and w[i] > 0]
        y, s, w = (np.asarray(x, np.float64)[there] for x in (y, s, w))
        if not (y > 0).any():
            continue
        gains = 2**y - 1 if gain == "exponential" else y
        if kind != "ndcg" or legacy:
            gains = (y > 0).astype(np.float64)
        list_weight = (w * gains).sum() / gains.sum()
        found = []
        for order in orders(s.tolist()):
            best = order[:k]
            if kind == "recall":
                found.append((w * gains)[best].sum() / (w * gains).sum())
            elif kind == "hit_rate":
                found.append(float((y[best] > 0).any()))
            elif legacy:
                hits = int((y[best] > 0).sum())
                found.append(dcg(gains[best]) / dcg([1.0] * hits) if hits else 0.0)
            else:
                found.append(dcg((w * gains)[best]) / dcg(sorted(w * gains, reverse=True)[:k]))
        list_weight = (w * gains).sum() if average == "pooled" else list_weight
        numerator += list_weight * np.mean(found)
        denominator += list_weight
    return numerator / denominator if denominator else 0.0
