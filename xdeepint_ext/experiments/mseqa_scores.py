"""From answers to the flat metrics of `metrics.json`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xdeepint_ext.data.qa.questions import Question, by_number_of_answers
from xdeepint_ext.metrics.answers import multi_span_match, squad_scores
from xdeepint_ext.metrics.drop_answers import drop_scores
from xdeepint_ext.serving.span_reader import Found

__all__ = ["score_answers"]


def score_answers(questions: Sequence[Question], found: Sequence[Sequence[Found]]) -> dict[str, float]:
    """Metrics of all questions, and, as `none.`, `single.` and `multi.`, of those with no, one and several answers.

    Args:
      questions: with gold answers.
      found: the answers to each.

    Returns:
      `exact_precision`, `exact_recall`, `exact_f1` and `partial_f1` (MultiSpanQA's), `drop_em` and `drop_f1` (the best
      over alternative answer sets), `squad_em` and `squad_f1` of the questions with one answer at most (several answers
      given are joined to one text), `questions`.
    """
    values = _score(questions, found)
    for name, rows in by_number_of_answers(questions).items():
        if rows:
            part = _score([questions[row] for row in rows], [found[row] for row in rows])
            values |= {f"{name}.{metric}": value for metric, value in part.items()}
    return values


def _score(questions: Sequence[Question], found: Sequence[Sequence[Found]]) -> dict[str, float]:
    predicted = [list(dict.fromkeys(answer.text for answer in answers)) for answers in found]
    golds = [list(dict.fromkeys(question.answer_texts)) for question in questions]
    exact, partial = (multi_span_match(predicted, golds, partial=partial) for partial in (False, True))
    drops = [
        max(drop_scores(texts, gold) for gold in (golds_of, *question.alternatives))
        for texts, golds_of, question in zip(predicted, golds, questions, strict=True)
    ]
    values = {
        "questions": float(len(questions)),
        "exact_precision": exact.precision,
        "exact_recall": exact.recall,
        "exact_f1": exact.f1,
        "partial_f1": partial.f1,
        "drop_em": float(np.mean([exact for exact, _ in drops])),
        "drop_f1": float(np.mean([f1 for _, f1 in drops])),
    }
    squads = [
        squad_scores(texts[0] if len(texts) == 1 else " ".join(texts), [*gold, *(t for s in q.alternatives for t in s)])
        for texts, gold, q in zip(predicted, golds, questions, strict=True)
        if len(gold) <= 1
    ]
    if squads:
        values |= {
            f"squad_{name}": float(np.mean(column))
            for name, column in zip(("em", "f1"), zip(*squads, strict=True), strict=True)
        }
    return values
