"""`Question`: a text, a question about it, and its answers, each a span of the text."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from xdeepint_ext.data.manifest import DataError

__all__ = ["Answer", "Question"]


@dataclasses.dataclass(frozen=True)
class Answer:
    """A gold answer.

    Args:
      text: its characters.
      starts: where it may stand in the context: the annotated place, or, where none is annotated, all its places.

    Example:
      >>> Answer("Tom", (0,)).spans
      ((0, 3),)
    """

    text: str
    starts: tuple[int, ...]

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(first character, one behind the last) of each place."""
        return tuple((start, start + len(self.text)) for start in self.starts)


@dataclasses.dataclass(frozen=True)
class Question:
    """A question about a context (a report, a passage).

    Args:
      id: unique in its file.
      question: its text.
      context: the text that holds the answers.
      answers: the set of answers; () = the context does not answer it.
      alternatives: other answer sets that annotators gave, as texts; metrics take the best of all.
      source: the file or data set that it comes from.

    Example:
      >>> question = Question("1", "Who came?", "Tom and Ann came.", (Answer("Tom", (0,)), Answer("Ann", (8,))))
      >>> question.check()
      >>> question.answer_texts
      ('Tom', 'Ann')
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] = ()
    alternatives: tuple[tuple[str, ...], ...] = ()
    source: str = ""

    @property
    def answer_texts(self) -> tuple[str, ...]:
        """The answers' texts."""
        return tuple(answer.text for answer in self.answers)

    def check(self) -> None:
        """Checks that there is something to ask and to read, and that every answer stands where it says.

        Raises:
          DataError: question or context is blank, or holds half a character (a surrogate without its other half, as
            from a text that was cut); an answer is blank, is not in the context, or lies over another.
        """
        for name in ("question", "context"):
            text = getattr(self, name)
            if not text.strip():
                raise DataError(f"{self.where}: the {name} is empty")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{self.where}: the {name} has half a character at {error.start}, {text[error.start]!r}"
                ) from None
        for answer in self.answers:
            self._check_answer(answer)
        self._check_overlaps()

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"{self.source or 'question'}, id {self.id!r}"

    def _check_answer(self, answer: Answer) -> None:
        if not answer.text.strip():
            raise DataError(f"{self.where}: an answer is empty")
        if not answer.starts:
            raise DataError(f"{self.where}: the answer {answer.text!r} is not in the context")
        for start, end in answer.spans:
            found = self.context[max(start, 0) : end]
            if start < 0 or found != answer.text:
                raise DataError(
                    f"{self.where}: the answer {answer.text!r} is not in the context at character {start}, where "
                    f"{found!r} stands"
                )

    def _check_overlaps(self) -> None:
        placed = sorted(answer.spans[0] for answer in self.answers if len(answer.starts) == 1)
        for before, after in itertools.pairwise(placed):
            if after[0] < before[1]:
                texts = [self.context[slice(*span)] for span in (before, after)]
                raise DataError(f"{self.where}: the gold spans overlap: {texts[0]!r} {before} and {texts[1]!r} {after}")


def occurrences(text: str, context: str) -> tuple[int, ...]:
    """All starts of a text in a context, overlapping ones too; inside of words only where it stands nowhere else.

    So "he" does not stand in "she", and "male" stands in "females" if it has no better place.
    """
    found, start = [], context.find(text)
    while text and start >= 0:
        found.append(start)
        start = context.find(text, start + 1)
    whole = [start for start in found if not (_inside_word(context, start) or _inside_word(context, start + len(text)))]
    return tuple(whole or found)


def _inside_word(context: str, place: int) -> bool:
    """Whether a word goes on at a character."""
    return context[max(place - 1, 0) : place].isalnum() and context[place : place + 1].isalnum()


def by_number_of_answers(questions: Sequence[Question]) -> dict[str, list[int]]:
    """Indices of the questions with no, one and several answers: `none`, `single`, `multi`."""
    found: dict[str, list[int]] = {"none": [], "single": [], "multi": []}
    for index, question in enumerate(questions):
        found[("none", "single", "multi")[min(len(question.answers), 2)]].append(index)
    return found
