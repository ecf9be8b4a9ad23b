"""How good answers are: SQuAD's exact match and F1 of one answer, MultiSpanQA's exact and partial match of sets."""

from __future__ import annotations

import dataclasses
import difflib
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["MatchScores", "multi_span_match", "normalize_answer", "squad_scores"]

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """A text in small letters, without ASCII punctuation, English articles and extra blanks: SQuAD's normal form.

    Example:
      >>> normalize_answer("The  front-door camera.")
      'frontdoor camera'
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def squad_scores(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """SQuAD's exact match and F1 of one predicted text: the best over the gold texts.

    Exact match: equal normal forms. F1: harmonic mean of precision and recall of the words, counted with repetition;
    where either text has no words, 1 if neither has, else 0.

    Args:
      prediction: "" = no answer.
      golds: texts, any of which is right; none at all = the question has no answer.

    Returns:
      (exact match, F1), each in [0, 1].

    Example:
      >>> squad_scores("the courier", ["A courier", "courier with parcel"])
      (1.0, 1.0)

    Source: Rajpurkar et al., SQuAD (arXiv 1606.05250) and SQuAD 2 (1806.03822), official evaluation.
    """
    pairs = [(normalize_answer(prediction), normalize_answer(gold)) for gold in golds or [""]]
    return max(float(a == b) for a, b in pairs), max(_word_f1(a.split(), b.split()) for a, b in pairs)


def _word_f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    common = sum((Counter(predicted) & Counter(gold)).values())
    return 2.0 * common / (len(predicted) + len(gold))


@dataclasses.dataclass(frozen=True)
class MatchScores:
    """Precision, recall and F1 in [0, 1], over all answers of all questions.

    Args:
      precision: matched share of the predicted answers.
      recall: matched share of the gold answers.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """`2 p r / (p + r)`, 0 where both are 0."""
        total = self.precision + self.recall
        return 2.0 * self.precision * self.recall / total if total else 0.0


def multi_span_match(
    predictions: Sequence[Iterable[str]], golds: Sequence[Iterable[str]], partial: bool = False
) -> MatchScores:
    """MultiSpanQA's exact or partial match of sets of answers, micro-averaged over questions.

    Answers are compared in SQuAD's normal form, as sets; an empty set counts as the one item "no answer", which
    matches itself. Exact: an answer matches an equal one. Partial: a predicted answer earns the longest common
    substring with its best gold answer over its own length, a gold answer the same over its own.

    Args:
      predictions: the predicted answers of each question.
      golds: the gold answers of each question.
      partial: whether parts of answers count.

    Raises:
      ValueError: the numbers of questions differ.

    Example:
      >>> scores = multi_span_match([["Tom"]], [["Tom", "Ann"]])
      >>> scores.precision, scores.recall, round(scores.f1, 4)
      (1.0, 0.5, 0.6667)

    Source: Li et al., MultiSpanQA, NAACL 2022, section 5 and official evaluation. That counts a right "no answer" as
    wrong in exact match; here it is right, in both.
    """
    if len(predictions) != len(golds):
        raise ValueError(f"predictions and golds must be as many, got {len(predictions)} and {len(golds)}")
    matched = _partially_matched if partial else _matched
    totals = [0.0, 0.0]
    sizes = [0, 0]
    for pair in zip(predictions, golds, strict=True):
        predicted, gold = ({normalize_answer(text) for text in texts} or {""} for texts in pair)
        found = matched(predicted, gold)
        totals = [total + value for total, value in zip(totals, found, strict=True)]
        sizes = [sizes[0] + len(predicted), sizes[1] + len(gold)]
    return MatchScores(*(total / size if size else 0.0 for total, size in zip(totals, sizes, strict=True)))


def _matched(predicted: set[str], gold: set[str]) -> tuple[float, float]:
    common = float(len(predicted & gold))
    return common, common


def _partially_matched(predicted: set[str], gold: set[str]) -> tuple[float, float]:
    """What the predicted and what the gold answers earn."""
    if predicted == {""} or gold == {""}:
        both = float(predicted == gold)
        return both, both
    common = {(p, g): _longest_common_substring(p, g) for p in predicted for g in gold}
    earned = sum(max(common[p, g] for g in gold) / max(len(p), 1) for p in predicted)
    recalled = sum(max(common[p, g] for p in predicted) / max(len(g), 1) for g in gold)
    return earned, recalled


def _longest_common_substring(a: str, b: str) -> int:
    # The matcher's heuristics for long texts are left on, as in the official evaluation.
    return difflib.SequenceMatcher(None, b, a).find_longest_match(0, len(b), 0, len(a)).size
