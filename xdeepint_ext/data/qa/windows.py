"""Questions -> overlapping windows of tokens with gold tags: what a model of spans is trained on and asked."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.qa.questions import Question
from xdeepint_ext.data.qa.tokenizer import END, PAD, START, BytePairTokenizer, Tokens
from xdeepint_ext.layers.tagging import TagScheme, tags_of_spans

__all__ = ["Windows", "make_windows"]

NOWHERE = -1

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Windows:
    """W windows of n tokens, `<s> question </s></s> part of the context </s>`, padded; rows of a question together.

    Args:
      token_ids: (W, n) int32.
      reports: (W,) int32: number of the question whose window it is.
      positions: (W, n) int32: number of the token in its context, in the one window that has most context around it;
        -1 in the others, and where no context is.
      offsets: (W, n, 2) int32: characters of the context that the token's word (or token) covers.
      taggings: (W, K, n) int8: the gold taggings, K at most; -1 = fewer.
      spans: (W, M, 2) int32: acceptable single answers, (first, last token); (0, 0) = none here; -1 = fewer.
      num_answers: (W,) int32: different answers in the window.
      cut_taggings: questions whose taggings were more than K.
      merged_answers: questions with answers that share a token; these are learned as one.
      cut_answers: questions with answers longer than the windows' overlap that no window holds whole; these are not
        learned.
    """

    token_ids: np.ndarray
    reports: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    taggings: np.ndarray
    spans: np.ndarray
    num_answers: np.ndarray
    cut_taggings: int = 0
    merged_answers: int = 0
    cut_answers: int = 0

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def features(self) -> dict[str, np.ndarray]:
        """What a model is called with."""
        return {"token_ids": self.token_ids}

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """What it learns from."""
        return {"taggings": self.taggings, "spans": self.spans, "num_answers": self.num_answers}

    def blocks(self, questions: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """(First question, inputs of `answer`) of so many questions at a time."""
        last = int(self.reports.max(initial=-1))
        for first in range(0, last + 1, questions):
            rows = (self.reports >= first) & (self.reports < first + questions)
            yield (
                first,
                {
                    "token_ids": self.token_ids[rows],
                    "reports": self.reports[rows] - first,
                    "positions": self.positions[rows],
                    "offsets": self.offsets[rows],
                },
            )


def make_windows(
    questions: Sequence[Question],
    tokenizer: BytePairTokenizer,
    scheme: TagScheme,
    *,
    max_length: int = 512,
    overlap: int = 128,
    max_taggings: int = 8,
    whole_words: bool = True,
) -> Windows:
    """Tokenises questions and cuts their contexts into windows.

    Args:
      questions: checked ones; those without answers give windows that are O throughout.
      tokenizer: of the model.
      scheme: of the tags.
      max_length: tokens of a window at most; RoBERTa's 512. Windows are as long as the longest one needs.
      overlap: tokens that neighbouring windows share; 128 is the usual choice.
      max_taggings: most gold taggings of a window. There are several where answers are given without places: each
        answer may stand at any of its places, and at several. Those with fewer spans, at earlier places, are kept.
      whole_words: whether `offsets` are those of the tokens' words: an answer then never ends inside a word.

    Raises:
      DataError: a question, context or answer has no token, or a question leaves no room for its context.
      ValueError: max_length, overlap or max_taggings is out of range.
    """
    if overlap < 0 or max_taggings < 1 or max_length < 6:
        raise ValueError(
            f"expected max_length >= 6, overlap >= 0 and max_taggings >= 1, got {max_length}, {overlap}, {max_taggings}"
        )
    rows: list[_Row] = []
    cut_taggings = merged = cut_answers = 0
    for number, question in enumerate(questions):
        asked, context = tokenizer.encode(question.question.strip()), tokenizer.encode(question.context)
        places = [_token_spans(question, context, answer.spans) for answer in question.answers]
        windows = list(_cut(question, len(asked), len(context), max_length, overlap))
        found = [_Row(number, asked, context, *window, _gold(places, window[0], max_taggings)) for window in windows]
        cut_taggings += any(row.gold.cut for row in found)
        merged += any(row.gold.merged for row in found)
        cut_answers += any(not any(_inside(spans, window) for window, _ in windows) for spans in places)
        rows += found
    return dataclasses.replace(
        _stack(rows, scheme, whole_words, max_length),
        cut_taggings=cut_taggings,
        merged_answers=merged,
        cut_answers=cut_answers,
    )


@dataclasses.dataclass(frozen=True)
class _Row:
    """One window: tokens [window) of a context, of which it answers for [owned), and its gold spans in the context."""

    report: int
    asked: Tokens
    context: Tokens
    window: Span
    owned: Span
    gold: _Gold

    @property
    def length(self) -> int:
        return len(self.asked) + 4 + self.window[1] - self.window[0]

    @property
    def start(self) -> int:
        """Where in the window the context starts."""
        return len(self.asked) + 3


def _cut(
    question: Question, asked: int, context: int, max_length: int, overlap: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(Window, owned part) of each window, in tokens of the context."""
    if not asked or not context:
        raise DataError(f"{question.where}: the {'context' if asked else 'question'} is empty")
    room = max_length - asked - 4
    if room <= 0 or (room < context and room <= overlap):
        raise DataError(
            f"{question.where}: a question of {asked} tokens leaves {room} of max_length={max_length} for its context, "
            f"of which overlap={overlap} are shared"
        )
    starts = [0] if context <= room else [*range(0, context - room, room - overlap), context - room]
    # Inside an overlap the nearer middle wins: a token is answered for where it has more context on its poorer side.
    borders = [0, *((after + before + room + 1) // 2 for before, after in itertools.pairwise(starts)), context]
    for start, owned in zip(starts, itertools.pairwise(borders), strict=True):
        yield (start, min(start + room, context)), owned


def _token_spans(question: Question, context: Tokens, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The tokens that hold each span of characters."""
    found = []
    for start, end in spans:
        inside = np.flatnonzero((context.offsets[:, 1] > start) & (context.offsets[:, 0] < end))
        if not len(inside):
            raise DataError(f"{question.where}: no token holds the answer {question.context[start:end]!r}")
        found.append((int(inside[0]), int(inside[-1]) + 1))
    return found


@dataclasses.dataclass(frozen=True)
class _Gold:
    """Of a window: gold taggings as sets of spans, single answers, number of answers, what was left out or merged."""

    taggings: tuple[tuple[Span, ...], ...] = ((),)
    singles: tuple[Span, ...] = ()
    num_answers: int = 0
    cut: bool = False
    merged: bool = False


def _gold(places: Sequence[Sequence[Span]], window: Span, most: int) -> _Gold:
    """The gold of a window from the tokens of each answer's places."""
    seen = [spans for spans in (_inside(spans, window) for spans in places) if spans]
    if not seen:
        return _Gold()
    distinct = tuple(dict.fromkeys(itertools.islice(_taggings(sorted(seen, key=len)), most + 1)))
    singles = tuple(dict.fromkeys(span for spans in seen for span in spans))[:most]
    if not distinct:
        first = _merged(sorted(spans[0] for spans in seen))
        return _Gold((first,), singles, len(first), merged=True)
    return _Gold(distinct[:most], singles, len(seen), cut=len(distinct) > most)


def _inside(spans: Sequence[Span], window: Span) -> list[Span]:
    """The spans that lie wholly in a window."""
    return [span for span in spans if window[0] <= span[0] and span[1] <= window[1]]


def _taggings(places: Sequence[Sequence[Span]]) -> Iterator[tuple[Span, ...]]:
    """Sets of places, one at least of each answer, in all ways in which no two share a token; the smallest first."""
    for size in range(len(places), sum(map(len, places)) + 1):
        choices = _choices(places, size)
        first = next(choices, None)
        if first is None:  # a larger set would hold one of this size
            return
        yield first
        yield from choices


def _choices(places: Sequence[Sequence[Span]], size: int, chosen: tuple[Span, ...] = ()) -> Iterator[tuple[Span, ...]]:
    """The sets of `_taggings` that have a size."""
    if not places:
        yield tuple(sorted(chosen))
        return
    others = places[1:]
    free = [span for span in places[0] if all(_apart(span, other) for other in chosen)]
    fewest = max(1, size - sum(map(len, others)))
    for number in range(fewest, min(len(free), size - len(others)) + 1):
        for spans in itertools.combinations(free, number):
            if all(_apart(*pair) for pair in itertools.combinations(spans, 2)):
                yield from _choices(others, size - number, (*chosen, *spans))


def _apart(a: Span, b: Span) -> bool:
    return a[1] <= b[0] or b[1] <= a[0]


def _merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans in order, those that share a token as one."""
    found = [spans[0]]
    for first, last in spans[1:]:
        if first < found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _stack(rows: Sequence[_Row], scheme: TagScheme, whole_words: bool, max_length: int) -> Windows:
    """Windows of equal length."""
    count, longest = len(rows), max((row.length for row in rows), default=8)
    n = min(-(-longest // 8) * 8, max_length)
    most = max((len(row.gold.taggings) for row in rows), default=1)
    most_singles = max((len(row.gold.singles) for row in rows), default=1) or 1
    windows = Windows(
        token_ids=np.full((count, n), PAD, np.int32),
        reports=np.array([row.report for row in rows], np.int32),
        positions=np.full((count, n), NOWHERE, np.int32),
        offsets=np.zeros((count, n, 2), np.int32),
        taggings=np.full((count, most, n), NOWHERE, np.int8),
        spans=np.full((count, most_singles, 2), NOWHERE, np.int32),
        num_answers=np.array([row.gold.num_answers for row in rows], np.int32),
    )
    for index, row in enumerate(rows):
        first, last = row.window
        here = slice(row.start, row.start + last - first)
        ids = [START, *row.asked.ids, END, END, *row.context.ids[first:last], END]
        windows.token_ids[index, : row.length] = ids
        windows.positions[index, row.start + row.owned[0] - first : row.start + row.owned[1] - first] = np.arange(
            *row.owned
        )
        windows.offsets[index, here] = (row.context.words if whole_words else row.context.offsets)[first:last]
        shift = row.start - first
        for k, spans in enumerate(row.gold.taggings):
            windows.taggings[index, k] = tags_of_spans([(a + shift, b + shift) for a, b in spans], n, scheme)
        singles = [(a + shift, b - 1 + shift) for a, b in row.gold.singles] or [(0, 0)]
        windows.spans[index, : len(singles)] = singles
    return windows
