"""Metrics of answers against their definitions, on cases worked by hand."""

import itertools

import numpy as np
import pytest

from xdeepint_ext.metrics.answers import multi_span_match, normalize_answer, squad_scores
from xdeepint_ext.metrics.drop_answers import best_assignment, drop_scores


@pytest.mark.parametrize(
    ("text", "normal"),
    [("The Cat, the dog!", "cat dog"), ("A  b\tc", "b c"), ("another", "another"), ("it's", "its"), ("...", "")],
)
def test_normal_form(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("the courier", ["A courier!"], 1, 1),
        ("red front door", ["front door"], 0, 2 * 2 / (3 + 2)),
        ("door door", ["door"], 0, 2 * 1 / (2 + 1)),
        ("fox", ["cat", "a fox"], 1, 1),
        ("", [], 1, 1),
        ("fox", [], 0, 0),
        ("", ["fox"], 0, 0),
        ("the", [""], 1, 1),
    ],
)
def test_squad(prediction, golds, exact, f1):
    assert squad_scores(prediction, golds) == pytest.approx((exact, f1))


@pytest.mark.parametrize(
    ("predictions", "golds", "exact", "f1"),
    [
        (["x", "b"], ["b", "x"], 1, 1),
        (["Tom Smith", "Ann"], ["Ann", "Tom"], 0, (1 + 2 / 3) / 2),
        (["Ann"], ["Ann", "Tom"], 0, 1 / 2),
        (["Ann", "Tom", "Ben"], ["Ann"], 0, 1 / 3),
        (["5 yards"], ["6 yards"], 0, 0),  # shares a word, but not the number
        (["6 miles"], ["6 yards"], 0, 2 * 1 / (2 + 2)),
        (["20-yard"], ["20 yard"], 1, 1),  # a hyphen parts words
        (["6.0"], ["6"], 1, 1),
        (["x", "x"], ["x"], 0, 1 / 2),  # equal sets, but not as many
        ([], ["Ann"], 0, 0),
        ([], [], 1, 1),
    ],
)
def test_drop(predictions, golds, exact, f1):
    assert drop_scores(predictions, golds) == (exact, round(f1, 2))


def test_identical_sets_are_perfect():
    texts = ["Tom", "the front door", "08:14"]
    assert drop_scores(texts, texts[::-1]) == (1, 1)
    for partial in (False, True):
        scores = multi_span_match([texts], [texts[::-1]], partial)
        assert (scores.precision, scores.recall, scores.f1) == (1, 1, 1)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 4), (4, 2), (5, 5)])
def test_assignment_is_the_best_of_all(shape):
    for seed in range(20):
        values = np.random.default_rng(seed).choice([0.0, 0.25, 0.5, 1.0, 0.9], shape)
        pairs = best_assignment(values)
        wide = values if shape[0] <= shape[1] else values.T
        best = max(
            sum(wide[row, column] for row, column in enumerate(columns))
            for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0])
        )
        assert sum(values[pair] for pair in pairs) == pytest.approx(best)
        assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(shape)


def test_exact_match_of_the_specification():
    scores = multi_span_match([["x"]], [["x", "b"]])
    assert (scores.precision, scores.recall, round(scores.f1, 4)) == (1, 0.5, 0.6667)


def test_exact_match_is_over_all_answers():
    scores = multi_span_match([["x", "y"], [], ["z"]], [["x"], [], ["q", "r"]])
    right, predicted, gold = 1 + 1, 2 + 1 + 1, 1 + 1 + 2
    assert (scores.precision, scores.recall) == (right / predicted, right / gold)


def test_nothing_matches_only_nothing():
    for partial in (False, True):
        assert multi_span_match([["x"], []], [[], ["y"]], partial).f1 == 0


def test_partial_match():
    scores = multi_span_match([["front door", "xyz"]], [["big front door", "ab"]], partial=True)
    earned = 1 + max(0, 0)  # all of "front door"; "xyz" shares nothing
    recalled = len("front door") / len("big front door") + 0
    assert scores.precision == pytest.approx(earned / 2)
    assert scores.recall == pytest.approx(recalled / 2)


def test_different_numbers_of_questions_are_refused():
    with pytest.raises(ValueError, match="got 1 and 2"):
        multi_span_match([["x"]], [["x"], ["y"]])
