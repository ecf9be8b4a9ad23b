"""Generated smart-home activity reports: events of a day as text, and questions with no, one or several answers."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping

from xdeepint_ext.data.qa.questions import Answer, Question
from xdeepint_ext.data.qa.wordings import ASKS, EVENT_FRAMES, KINDS, QUESTION_FRAMES, VALUES, Ask

__all__ = ["generate_reports"]

HELD_OUT_EVERY = 4
MOST_ANSWERS = 4
MINUTES = 24 * 60


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened: its kind, and field -> value, `time` among them once it is placed in the day."""

    kind: str
    values: Mapping[str, str]

    def answers(self, ask: Ask, given: Mapping[str, str]) -> bool:
        """Whether it is among what is asked for."""
        return self.kind == ask.kind and all(self.values[field] == value for field, value in given.items())


def generate_reports(
    count: int,
    seed: int = 0,
    held_out: bool = False,
    *,
    unanswerable: float = 0.1,
    multi: float = 0.45,
    events: tuple[int, int] = (4, 8),
) -> list[Question]:
    """Reports with one question each, whose answers follow from how they were made.

    A quarter of all wordings (frame x predicate of a question, frame x telling of an event) is held out: reports for
    training never use them, those with `held_out` use no other questions, and tell some of their events in them.
    Every word of a held-out wording occurs in training, in other company.

    Args:
      count: how many.
      seed: of everything drawn.
      held_out: for the test part.
      unanswerable: share of questions that the report does not answer.
      multi: share with 2 to 4 answers; the rest have one.
      events: fewest and most events of a report.

    Returns:
      The questions, in the order drawn.

    Raises:
      ValueError: shares or numbers are out of range.

    Example:
      >>> question = generate_reports(1, seed=3)[0]
      >>> all(answer.text in question.context for answer in question.answers)
      True
    """
    if count < 0 or not 1 <= events[0] <= events[1]:
        raise ValueError(f"count must be >= 0 and events 1 <= fewest <= most, got {count} and {events}")
    if min(unanswerable, multi) < 0 or unanswerable + multi > 1:
        raise ValueError(f"unanswerable and multi must be shares with a sum <= 1, got {unanswerable} and {multi}")
    if multi and events[0] < 2:
        raise ValueError(f"events must be at least 2 in a report where several answer a question, got {events}")
    draw = random.Random(f"{seed} {held_out}")
    return [_report(draw, f"{seed}-{number}", held_out, unanswerable, multi, events) for number in range(count)]


def _report(
    draw: random.Random, id: str, held_out: bool, unanswerable: float, multi: float, events: tuple[int, int]
) -> Question:
    ask = draw.choice(ASKS)
    given = {field: draw.choice(VALUES[field]) for field in ask.given}
    size = draw.randint(*events)
    kind = draw.random()
    wanted = (
        0 if kind < unanswerable else draw.randint(2, min(MOST_ANSWERS, size)) if kind < unanswerable + multi else 1
    )
    told = _answering(draw, ask, given, wanted) + _distracting(draw, ask, given, size - wanted)
    draw.shuffle(told)
    minutes = sorted(draw.sample(range(MINUTES), len(told)))
    told = [
        Event(event.kind, {**event.values, "time": f"{minute // 60:02d}:{minute % 60:02d}"})
        for event, minute in zip(told, minutes, strict=True)
    ]
    context, answers = "", []
    for event in told:
        sentence, start = _tell(draw, event, ask.asked, held_out)
        before = f"{context} " if context else ""
        if event.answers(ask, given):
            answers.append(Answer(event.values[ask.asked], (len(before) + start,)))
        context = before + sentence
    question = _wording(draw, QUESTION_FRAMES[ask.asked], ask.predicates, held_out, only=held_out)
    text = question[0].replace("{}", question[1]).format(**given)
    return Question(id, text, context, tuple(answers), source="generated reports")


def _answering(draw: random.Random, ask: Ask, given: Mapping[str, str], count: int) -> list[Event]:
    """Events that answer, each with another value of what is asked."""
    found = []
    different = draw.sample(VALUES[ask.asked], count) if ask.asked != "time" else [""] * count
    for value in different:
        values = {field: draw.choice(VALUES[field]) for field in KINDS[ask.kind].fields} | dict(given)
        found.append(Event(ask.kind, values if ask.asked == "time" else {**values, ask.asked: value}))
    return found


def _distracting(draw: random.Random, ask: Ask, given: Mapping[str, str], count: int) -> list[Event]:
    """Events that do not answer; half of them differ from what is asked in what is given only."""
    found: list[Event] = []
    while len(found) < count:
        kind = ask.kind if given and draw.random() < 0.5 else draw.choice(list(KINDS))
        event = Event(kind, {field: draw.choice(VALUES[field]) for field in KINDS[kind].fields})
        if not event.answers(ask, given):
            found.append(event)
    return found


def _tell(draw: random.Random, event: Event, marked: str, held_out: bool) -> tuple[str, int]:
    """The event's sentence, and where in it the value of the field `marked` starts (-1 if it has no such field)."""
    frame, telling = _wording(draw, EVENT_FRAMES, KINDS[event.kind].tellings, held_out)
    first = frame.startswith("{Event}")
    template = frame.replace("{Event}" if first else "{event}", telling)
    start, text = -1, ""
    for part in template.replace("{", "\0{").replace("}", "}\0").split("\0"):
        field = part[1:-1] if part.startswith("{") else ""
        if field and field == marked:
            start = len(text)
        text += event.values[field] if field else part
    return (text[0].upper() + text[1:] if not marked or start != 0 else text), start


def _wording(
    draw: random.Random, frames: tuple[str, ...], fillings: tuple[str, ...], held_out: bool, only: bool = False
) -> tuple[str, str]:
    """A frame and a filling: of those for training, of all, or (`only`) of those held out."""
    pairs = [(i, j) for i in range(len(frames)) for j in range(len(fillings))]
    secret = [(i, j) for i, j in pairs if (i + 3 * j) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1]
    choice = secret if only else pairs if held_out else [pair for pair in pairs if pair not in secret]
    i, j = draw.choice(choice)
    return frames[i], fillings[j]
