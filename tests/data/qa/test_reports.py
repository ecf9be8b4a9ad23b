"""Generated reports: answers follow from the events, wordings are held out."""

import itertools

import pytest

from xdeepint_ext.data.qa.questions import by_number_of_answers
from xdeepint_ext.data.qa.reports import generate_reports
from xdeepint_ext.data.qa.wordings import ASKS, EVENT_FRAMES, KINDS, QUESTION_FRAMES, VALUES

TRAIN = generate_reports(400, seed=1)
TEST = generate_reports(400, seed=1, held_out=True)


def wording(question):
    """A question with its values taken out."""
    text = question.question
    for field, values in VALUES.items():
        for value in sorted(values, key=len, reverse=True):
            text = text.replace(value, f"<{field}>")
    return text


def test_every_question_holds():
    for question in TRAIN + TEST:
        question.check()
    assert len({question.id for question in TRAIN}) == len(TRAIN)


def test_shares():
    sizes = {name: len(rows) / len(TRAIN) for name, rows in by_number_of_answers(TRAIN).items()}
    assert sizes == pytest.approx({"none": 0.1, "single": 0.45, "multi": 0.45}, abs=0.08)


def test_wordings_are_held_out_and_their_words_are_not():
    known, held_out = ({wording(question) for question in part} for part in (TRAIN, TEST))
    assert not known & held_out
    words = [set(" ".join(texts).replace("?", "").replace(".", "").split()) for texts in (known, held_out)]
    assert words[1] <= words[0]


def test_a_seed_repeats_and_another_does_not():
    assert generate_reports(5, seed=3) == generate_reports(5, seed=3)
    assert generate_reports(5, seed=3) != generate_reports(5, seed=4)


def test_wordings_name_fields_that_exist():
    for ask in ASKS:
        kind = KINDS[ask.kind]
        assert {*ask.given} | {ask.asked} <= {*kind.fields, "time"}
        for predicate in ask.predicates:
            predicate.format(**dict.fromkeys(ask.given, ""))
    for kind, frame in itertools.product(KINDS.values(), EVENT_FRAMES):
        for telling in kind.tellings:
            telling.format(**dict.fromkeys(kind.fields, ""))
        assert "{time}" in frame
    assert set(QUESTION_FRAMES) == {ask.asked for ask in ASKS}


@pytest.mark.parametrize(
    "options",
    [{"count": -1}, {"count": 1, "events": (3, 2)}, {"count": 1, "unanswerable": 0.6}, {"count": 1, "events": (1, 3)}],
)
def test_bad_arguments(options):
    with pytest.raises(ValueError, match="must be"):
        generate_reports(**options)
