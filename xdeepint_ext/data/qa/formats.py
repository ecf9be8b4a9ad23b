"""Public formats of question answering -> `Question`s."""

from __future__ import annotations

import collections
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.qa.questions import Answer, Question, occurrences

__all__ = ["FORMATS", "read_questions"]

Notes = collections.Counter[str]


def read_questions(
    file: str | os.PathLike[str], format: str, notes: Notes | None = None, max_bad_records: int = 0
) -> list[Question]:
    """Reads a file of questions, and checks each.

    Args:
      file: JSON, plain or `.gz`.
      format: `squad` (version 1 or 2; the answers of a question are annotators' alternatives, of which the first is
        learned), `quoref` (the same layout, in which all answers together answer; How-many-answers' files too), `drop`
        (answers without places; those that are numbers or dates are no spans and are left out, and counted), or
        `multispanqa` (tokens with B, I and O, joined by blanks).
      notes: counts what was left out, and why.
      max_bad_records: questions that may be wrong (an answer that is not in the text, spans that overlap, nothing
        asked); they are left out and counted.

    Returns:
      The questions in the file's order.

    Raises:
      DataError: the file is not of the format, or more questions are wrong; names file and question.
      FileNotFoundError: there is no such file.
      ValueError: an unknown format.

    Example:
      >>> read_questions("train-v2.0.json", "squad")  # doctest: +SKIP
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {tuple(FORMATS)}, got {format!r}")
    notes = collections.Counter() if notes is None else notes
    path = os.fspath(file)
    found, bad, seen = [], 0, set()
    try:
        for question in FORMATS[format](_load(path), os.path.basename(path), notes):
            try:
                question.check()
                if question.id in seen:
                    raise DataError(f"{question.where}: the id occurs twice")
            except DataError as error:
                bad += 1
                if bad > max_bad_records:
                    raise DataError(f"{error} (max_bad_records={max_bad_records})") from None
                notes["questions that are wrong"] += 1
                continue
            seen.add(question.id)
            found.append(question)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path} is not of the format {format}: {type(error).__name__} {error}") from None
    if not found:
        raise DataError(f"{path} holds no question of the format {format}")
    return found


def _load(path: str) -> Any:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as stream:
        try:
            return json.load(stream)
        except (json.JSONDecodeError, UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path} is not JSON: {error}") from None


def _squad_layout(content: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(Context, question) of SQuAD's nesting, with or without the outer `data`."""
    for article in content["data"] if isinstance(content, Mapping) else content:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                yield paragraph["context"], entry


def _placed(entries: Iterable[Mapping[str, Any]], notes: Notes) -> tuple[Answer, ...]:
    """Answers with places, each place once."""
    entries = list(entries)
    found = tuple(dict.fromkeys(Answer(entry["text"], (int(entry["answer_start"]),)) for entry in entries))
    notes["answers given twice"] += len(entries) - len(found)
    return found


def _squad(content: Any, source: str, notes: Notes) -> Iterator[Question]:
    for context, entry in _squad_layout(content):
        nothing = entry.get("is_impossible", False)
        answers = () if nothing else tuple(entry["answers"])
        yield Question(
            str(entry["id"]),
            entry["question"],
            context,
            _placed(answers[:1], notes),
            tuple((answer["text"],) for answer in answers[1:]),
            source,
        )


def _quoref(content: Any, source: str, notes: Notes) -> Iterator[Question]:
    for context, entry in _squad_layout(content):
        yield Question(str(entry["id"]), entry["question"], context, _placed(entry["answers"], notes), (), source)


def _drop(content: Any, source: str, notes: Notes) -> Iterator[Question]:
    for passage in content.values():
        for entry in passage["qa_pairs"]:
            spans = list(dict.fromkeys(entry["answer"]["spans"]))
            if not spans:
                notes["answers that are no spans"] += 1
                continue
            context = passage["passage"]
            answers = tuple(Answer(text, occurrences(text, context)) for text in spans)
            others = (tuple(other["spans"]) for other in entry.get("validated_answers", ()))
            yield Question(
                str(entry["query_id"]),
                entry["question"],
                context,
                answers,
                tuple(dict.fromkeys(texts for texts in others if texts)),
                source,
            )


def _multispanqa(content: Any, source: str, notes: Notes) -> Iterator[Question]:
    for entry in content["data"]:
        words, tags = entry["context"], entry["label"]
        if len(words) != len(tags) or set(tags) - {"B", "I", "O"}:
            raise DataError(f"{source}, id {entry['id']!r}: expected one of B, I, O for each of {len(words)} words")
        spans: list[tuple[int, int]] = []
        place, before = 0, "O"
        for word, tag in zip(words, tags, strict=True):
            if tag == "B" or (tag == "I" and before == "O"):
                spans.append((place, place + len(word)))
            elif tag == "I":
                spans[-1] = (spans[-1][0], place + len(word))
            place, before = place + len(word) + 1, tag
        context = " ".join(words)
        answers = tuple(Answer(context[start:end], (start,)) for start, end in spans)
        yield Question(str(entry["id"]), " ".join(entry["question"]), context, answers, (), source)


FORMATS: dict[str, Callable[[Any, str, Notes], Iterator[Question]]] = {
    "squad": _squad,
    "quoref": _quoref,
    "drop": _drop,
    "multispanqa": _multispanqa,
}
