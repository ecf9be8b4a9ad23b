"""The losses of one list in NumPy float64, in loops straight from the formulas: (sum of weighted terms, units)."""

from __future__ import annotations

import math

import numpy as np


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def softplus(x: float) -> float:
    return -log_sigmoid(-x)


def list_cross_entropy(y, s, w, transform="sigmoid", normalize=True):
    log_t = [log_sigmoid(x) if transform == "sigmoid" else x for x in s]
    log_sum = math.log(sum(math.exp(x) for x in log_t))
    total = sum(y)
    if total == 0:
        return 0.0, 0
    loss = -sum(w[i] * y[i] * (log_t[i] - log_sum) for i in range(len(s)))
    return loss / total if normalize else loss, 1


def softmax_cross_entropy(y, s, w, normalize=True):
    return list_cross_entropy(y, s, w, "exp", normalize)


def pairwise_logistic(y, s, w, normalize=True):
    pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if y[i] > y[j]]
    if not pairs:
        return 0.0, 0
    loss = sum(w[i] * softplus(-(s[i] - s[j])) for i, j in pairs)
    return loss / len(pairs) if normalize else loss, 1


def _against_negatives(y, s, w, kernel, normalize):
    negatives = [j for j in range(len(s)) if y[j] == 0]
    positives = [i for i in range(len(s)) if y[i] == 1] if negatives else []
    loss = sum(w[i] * sum(kernel(s[j] - s[i]) for j in negatives) for i in positives)
    return loss / len(negatives) if normalize and negatives else loss, len(positives)


def bpr(y, s, w, normalize=True):
    return _against_negatives(y, s, w, softplus, normalize)


def triplet(y, s, w, margin=5.0, normalize=True):
    return _against_negatives(y, s, w, lambda gap: max(0.0, gap + margin), normalize)


def jrc(y, f, w, alpha=0.5):
    total = 0.0
    for b in range(len(y)):
        own = int(y[b])
        calibration = -(f[b][own] - math.log(math.exp(f[b][0]) + math.exp(f[b][1])))
        rank = -(f[b][own] - math.log(sum(math.exp(other[own]) for other in f)))
        total += w[b] * (alpha * calibration + (1 - alpha) * rank)
    return total, len(y)


def approx_ndcg(y, s, w, temperature=0.1):
    n = len(s)
    ranks = [0.5 + sum(1 / (1 + math.exp(-(s[j] - s[i]) / temperature)) for j in range(n)) for i in range(n)]
    found = sum(w[i] * (2.0 ** y[i] - 1) / math.log2(1 + ranks[i]) for i in range(n))
    ideal = sum((2.0**grade - 1) / math.log2(1 + r) for r, grade in enumerate(sorted(y, reverse=True), 1))
    return (-found / ideal, 1) if ideal > 0 else (0.0, 0)


def _softmax(x):
    e = np.exp(np.asarray(x) - np.max(x))
    return e / e.sum()


def neural_sort_matrix(s, temperature):
    n = len(s)
    apart = [sum(abs(s[j] - s[k]) for k in range(n)) for j in range(n)]
    rows = [[((n + 1 - 2 * r) * s[j] - apart[j]) / temperature for j in range(n)] for r in range(1, n + 1)]
    return np.array([_softmax(row) for row in rows])


def soft_sort_matrix(s, temperature, power=1):
    down = sorted(s, reverse=True)
    return np.array([_softmax([-(abs(top - x) ** power) / temperature for x in s]) for top in down])


def _matrices(truth, found, w, normalize):
    n = len(truth)
    loss = -sum(w[j] * truth[r, j] * math.log(found[r, j]) for r in range(n) for j in range(n))
    return loss / n if normalize else loss, 1


def neural_sort(y, s, w, temperature=1.0, label_temperature=None, normalize=True):
    if not any(grade > 0 for grade in y):
        return 0.0, 0
    truth = neural_sort_matrix(y, label_temperature or temperature)
    return _matrices(truth, neural_sort_matrix(s, temperature), w, normalize)


def soft_sort(y, s, w, temperature=1.0, label_temperature=None, power=1, normalize=True):
    if not any(grade > 0 for grade in y):
        return 0.0, 0
    truth = soft_sort_matrix(y, label_temperature or temperature, power)
    return _matrices(truth, soft_sort_matrix(s, temperature, power), w, normalize)


def rankmax(y, s, w, normalize=True):
    return adaptive_margin_rankmax(y, s, w, "constant", 1.0, normalize)


def adaptive_margin_rankmax(y, s, w, margin="label_gap", delta=1.0, normalize=True):
    n, positives = len(s), [j for j in range(len(s)) if y[j] > 0]
    loss = 0.0
    for j in positives:
        if margin == "constant":
            total = sum(max(0.0, s[i] - s[j] + delta) for i in range(n))
        else:
            total = 1 + sum(max(0.0, s[i] - s[j] + delta * (y[j] - y[i])) for i in range(n) if y[i] < y[j])
        loss += w[j] * math.log(total)
    if not positives:
        return 0.0, 0
    return loss / len(positives) if normalize else loss, 1


KERNELS = {
    "exp": math.exp,
    "softplus": softplus,
    "hinge": lambda x: max(0.0, x + 5.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "step": lambda x: float(x >= 0),
}


def cro_cost(r, negatives, num_items, weighting, estimator="repo"):
    """What a smooth rank costs: the repository's normalisation, and its limits for the additive estimator."""
    ratio = num_items / negatives
    estimate = ratio * r if estimator == "repo" else 1 + ratio * (r - 1)
    log_n = math.log(num_items + 1)
    if callable(weighting):
        return (weighting(estimate) - weighting(1.0)) / (weighting(num_items + 1.0) - weighting(1.0))
    if weighting == 1:
        return math.log(r) if estimator == "repo" else math.log(estimate)
    if weighting == 0 and estimator == "repo":
        return r * log_n / num_items
    return (estimate ** (1 - weighting) - 1) * log_n / ((num_items + 1) ** (1 - weighting) - 1)


def cro(y, s, w, kernel="softplus", weighting=1.0, num_items=1000, scale=1.0, estimator="repo"):
    negatives = [j for j in range(len(s)) if y[j] == 0]
    total = 0.0
    positives = [i for i in range(len(s)) if y[i] == 1] if negatives else []
    for i in positives:
        r = 1 + sum(KERNELS[kernel](scale * (s[j] - s[i])) for j in negatives)
        total += w[i] * cro_cost(r, len(negatives), num_items, weighting, estimator)
    return total, len(positives)


def softmax_distillation(t, s, w, teacher="logit", temperature=1.0):
    p = _softmax(np.asarray(t) / temperature) if teacher == "logit" else t
    log_sum = math.log(sum(math.exp(x) for x in s))
    return -sum(w[i] * p[i] * (s[i] - log_sum) for i in range(len(s))), 1


def _probabilities(t, teacher, temperature):
    return list(t) if teacher == "prob" else [1 / (1 + math.exp(-x / temperature)) for x in t]


def weighted_log_loss_distillation(t, s, w, weight="confidence", teacher="logit", temperature=1.0):
    total = 0.0
    for i, p in enumerate(_probabilities(t, teacher, temperature)):
        factor = {"confidence": abs(p - 0.5), "prob": p, None: 1.0}[weight]
        total -= w[i] * factor * (p * log_sigmoid(s[i]) + (1 - p) * log_sigmoid(-s[i]))
    return total, len(s)


def pairwise_logistic_distillation(t, s, w, normalize=True, teacher="logit", temperature=1.0):
    p = _probabilities(t, teacher, temperature)
    pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if p[i] > p[j]]
    if not pairs:
        return 0.0, 0
    loss = sum(w[i] * (p[i] - p[j]) * softplus(-(s[i] - s[j])) for i, j in pairs)
    return loss / len(pairs) if normalize else loss, 1


def mean_over_lists(of_list, lists, **options):
    """The mean over the units of all lists, each a tuple (y, s, w) without padding."""
    found = [of_list(*given, **options) for given in lists if len(given[0])]
    units = sum(count for _, count in found)
    return sum(loss for loss, count in found if count) / units if units else 0.0


def arf(y, s, w, top_k, supply_m, temperature=1.0, label_temperature=1e-4, normalize=True):
    """(L_relax, L_global)."""
    n = len(s)
    truth, found = neural_sort_matrix(y, label_temperature), neural_sort_matrix(s, temperature)
    relaxed = total = 0.0
    for j in range(n):
        wanted = w[j] * sum(truth[r, j] for r in range(top_k))
        supplied = sum(found[r, j] for r in range(min(supply_m, n)))
        relaxed -= wanted * (math.log(max(supplied, 1e-6)) if normalize else math.log(supplied / supply_m + 1e-6))
        for r in range(n):
            total -= w[j] * truth[r, j] * (math.log(found[r, j]) if normalize else math.log(found[r, j] + 1e-6))
    relaxed = relaxed / (top_k if normalize else n) if n > supply_m else 0.0
    return relaxed, total / (n if normalize else n * n)


def group_losses(y, s, codes, level, loss="listce", require_negative=True):
    """(mean over the valid groups of a level, their number)."""
    groups: dict[tuple, list[int]] = {}
    for row, code in enumerate(codes):
        if y[row] >= 0:
            groups.setdefault(tuple(code[:level]), []).append(row)
    found = []
    for rows in groups.values():
        labels, scores = [y[i] for i in rows], [s[i] for i in rows]
        if not any(v > 0 for v in labels) or (require_negative and not any(v == 0 for v in labels)):
            continue
        ones = [1.0] * len(rows)
        if loss == "pairwise":
            found.append(pairwise_logistic(labels, scores, ones)[0])
        else:
            found.append(list_cross_entropy(labels, scores, ones, {"listce": "sigmoid", "softmaxce": "exp"}[loss])[0])
    return (sum(found) / len(found) if found else 0.0), len(found)
