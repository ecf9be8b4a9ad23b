"""DROP's exact match and F1 of sets of answers: words in bags, bags aligned one to one in the best way."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from xdeepint_ext.metrics.answers import ARTICLES, PUNCTUATION

__all__ = ["best_assignment", "drop_scores"]


def drop_scores(predictions: Sequence[str], golds: Sequence[str]) -> tuple[float, float]:
    """DROP's exact match and F1 of one question.

    Exact match: equal sets of normal forms, and as many. F1: each answer is a set of words; predicted and gold answers
    are aligned one to one so that the sum of the pairs' F1 is largest; that sum over the larger number of answers,
    rounded to two digits as in the official evaluation. A pair earns nothing where the gold answer has numbers and the
    predicted one has none of them.

    Args:
      predictions: the predicted answers; [] = no answer.
      golds: the gold answers.

    Returns:
      (exact match, F1), each in [0, 1].

    Example:
      >>> drop_scores(["Tom Smith", "Ann"], ["Ann", "Tom"])
      (0.0, 0.83)

    Source: Dua et al., DROP (arXiv 1903.00161), section 5.1 and official evaluation.
    """
    predicted, gold = ([_normalize(text) for text in texts or [""]] for texts in (predictions, golds))
    exact = float(set(predicted) == set(gold) and len(predicted) == len(gold))
    bags = [[frozenset(text.split()) for text in texts] for texts in (predicted, gold)]
    values = np.array([[_bag_f1(p, g) for p in bags[0]] for g in bags[1]])
    pairs = best_assignment(values)
    total = sum(values[row, column] for row, column in pairs)
    return exact, round(float(total) / max(values.shape), 2)


def best_assignment(values: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (row, column), one for each row or for each column, with the largest sum of values.

    Args:
      values: (rows, columns) floats.

    Returns:
      min(rows, columns) pairs, by row.

    Example:
      >>> best_assignment(np.array([[0.9, 0.8], [0.7, 0.0]]))
      [(0, 1), (1, 0)]

    Source: the Hungarian method by shortest augmenting paths, Jonker and Volgenant, 1987.
    """
    if values.shape[0] > values.shape[1]:
        return sorted((row, column) for column, row in best_assignment(values.T))
    rows, columns = values.shape
    costs = -np.asarray(values, np.float64)
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    row_of = np.full(columns, -1)
    for row in range(rows):
        column, before = _augmenting_path(costs, row, row_of, row_price, column_price)
        while column >= 0:  # along the path, every column takes the row of the column before it
            row_of[column] = row if before[column] < 0 else row_of[before[column]]
            column = before[column]
    return sorted((int(row_of[column]), column) for column in range(columns) if row_of[column] >= 0)


def _augmenting_path(
    costs: np.ndarray, row: int, row_of: np.ndarray, row_price: np.ndarray, column_price: np.ndarray
) -> tuple[int, np.ndarray]:
    """The free column at the end of the cheapest path from a row, and each column's predecessor; updates the prices."""
    columns = costs.shape[1]
    length = np.full(columns, np.inf)
    before = np.full(columns, -1)
    done = np.zeros(columns, bool)
    last, here, far = -1, row, 0.0
    while True:
        through = far + costs[here] - row_price[here] - column_price
        shorter = ~done & (through < length)
        length[shorter], before[shorter] = through[shorter], last
        last = int(np.argmin(np.where(done, np.inf, length)))
        far, done[last] = length[last], True
        if row_of[last] < 0:
            break
        here = int(row_of[last])
    row_price[row] += far
    for column in np.flatnonzero(done):
        if row_of[column] >= 0:
            row_price[row_of[column]] += far - length[column]
        column_price[column] += length[column] - far
    return last, before


def _bag_f1(predicted: frozenset[str], gold: frozenset[str]) -> float:
    numbers = {word for word in gold if _is_number(word)}
    if numbers and not numbers & predicted:
        return 0.0
    if not predicted or not gold:
        return float(predicted == gold)
    return 2.0 * len(predicted & gold) / (len(predicted) + len(gold))


def _normalize(text: str) -> str:
    """DROP's normal form: words are cut at hyphens too, numbers have one form, punctuation stays inside numbers."""
    words = (_normal_word(word) for word in re.split(" |-", text))
    return " ".join(word for word in words if word.strip()).strip()


def _normal_word(word: str) -> str:
    word = word.lower()
    word = word if _is_number(word) else word.translate(PUNCTUATION)
    word = str(float(word)) if _is_number(word) else word
    return " ".join(ARTICLES.sub(" ", word).split())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
