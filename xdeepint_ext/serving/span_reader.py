"""`SpanReader`: asks a model, or its SavedModel, questions about reports; tokenises, so that the model need not."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.qa.questions import Question
from xdeepint_ext.data.qa.tokenizer import BytePairTokenizer
from xdeepint_ext.data.qa.windows import Windows, make_windows
from xdeepint_ext.layers.tagging import SCHEMES
from xdeepint_ext.models.span_model import SpanModel
from xdeepint_ext.serving.servable import silent
from xdeepint_ext.serving.version_folder import version_dir, written_beside
from xdeepint_ext.serving.warmup import write_requests

__all__ = ["Found", "SpanReader", "answer_windows", "export_spans"]

EXTRA = "assets.extra"
SETTINGS = "span_reader.json"
INPUTS = {"token_ids": (None, None), "reports": (None,), "positions": (None, None), "offsets": (None, None, 2)}
DROPPED = ("nothing", "duplicates", "substrings")
QUESTIONS_AT_ONCE = 16

Answering = Callable[..., Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Found:
    """An answer that was found: its text, its characters [start, end) in the report, and its score in (0, 1]."""

    text: str
    start: int
    end: int
    score: float


class SpanReader:
    """Answers questions about reports of any length.

    Args:
      answer: `SpanModel.answer`, or the signature `serving_default` of its SavedModel.
      tokenizer: that of the model's training.
      max_length: tokens of a window; see `make_windows`.
      overlap: tokens that windows share.
      whole_words: whether answers begin and end with whole words.
      drop: answers to leave out: `nothing`, `duplicates` (a text that an earlier answer has), or `substrings` (texts
        inside another answer, too), TASE's.

    Raises:
      ValueError: an unknown `drop`.

    Example:
      >>> reader = SpanReader.load("saved_model")  # doctest: +SKIP
      >>> reader.read("Who opened the front door?", "At 08:14 Tom opened the front door.")  # doctest: +SKIP
      [Found(text='Tom', start=9, end=12, score=0.98)]
    """

    def __init__(
        self,
        answer: Answering,
        tokenizer: BytePairTokenizer,
        max_length: int = 512,
        overlap: int = 128,
        whole_words: bool = True,
        drop: str = "duplicates",
    ) -> None:
        if drop not in DROPPED:
            raise ValueError(f"drop must be one of {DROPPED}, got {drop!r}")
        self._answer, self._tokenizer, self._drop = answer, tokenizer, drop
        self._loaded: Any = None
        self._options: dict[str, Any] = {"max_length": max_length, "overlap": overlap, "whole_words": whole_words}

    @classmethod
    def load(cls, path: str | os.PathLike[str], drop: str = "duplicates") -> SpanReader:
        """The reader of what `export_spans` wrote: a version's folder, or its base.

        Raises:
          FileNotFoundError: there is none.
        """
        folder = version_dir(os.fspath(path))
        settings_file = os.path.join(folder, EXTRA, SETTINGS)
        if not os.path.exists(settings_file):
            raise FileNotFoundError(f"{folder} is no export of a span model: no {EXTRA}/{SETTINGS}")
        with open(settings_file, encoding="utf-8") as stream:
            settings = json.load(stream)
        loaded = tf.saved_model.load(folder)
        tokenizer = BytePairTokenizer.load(os.path.join(folder, EXTRA))
        reader = cls(loaded.signatures["serving_default"], tokenizer, drop=drop, **settings)
        reader._loaded = loaded  # a signature alone does not keep the variables alive
        return reader

    def read(self, question: str, report: str) -> list[Found]:
        """The answers, in the report's order.

        Raises:
          DataError: question or report is empty, or the question is too long for a window.
        """
        return self.read_all([(question, report)])[0]

    def read_all(self, pairs: Sequence[tuple[str, str]]) -> list[list[Found]]:
        """As `read`, for many (question, report)."""
        questions = [Question(str(number), *pair) for number, pair in enumerate(pairs)]
        for question in questions:
            question.check()
        windows = make_windows(questions, self._tokenizer, SCHEMES["bio"], **self._options)
        return [_without(found, self._drop) for found in answer_windows(self._answer, windows, questions)]


def answer_windows(answer: Answering, windows: Windows, questions: Sequence[Question]) -> list[list[Found]]:
    """What a model answers, by question.

    Args:
      answer: see `SpanReader`.
      windows: of the questions.
      questions: theirs.
    """
    found: list[list[Found]] = [[] for _ in questions]
    for first, inputs in windows.blocks(QUESTIONS_AT_ONCE):
        given = {name: tf.constant(value, tf.int32) for name, value in inputs.items()}
        out = {name: np.asarray(value) for name, value in answer(**given).items()}
        for row, start, end, score in zip(*(out[name] for name in ("report", "start", "end", "score")), strict=True):
            text = questions[first + row].context[start:end]
            found[first + row].append(Found(text, int(start), int(end), float(score)))
    return found


def export_spans(
    model: SpanModel,
    tokenizer: BytePairTokenizer,
    path: str | os.PathLike[str],
    version: int | None = None,
    *,
    max_length: int | None = None,
    overlap: int | None = None,
    whole_words: bool = True,
) -> str:
    """Writes a model as a SavedModel, `path/<version>/`, for TF Serving, with its tokeniser's files for the client.

    The signature `serving_default` takes windows of any number of reports, int32: `token_ids` (W, n), `reports` (W,),
    `positions` (W, n), `offsets` (W, n, 2); it answers with one row an answer: `report`, `start`, `end` (int32
    characters) and `score` (float32); see `SpanModel.answer`. TF Serving's batching must stay off, as rows of windows
    are not rows of answers.

    Args:
      model: a model with weights.
      tokenizer: that of its training.
      path: the model's base folder; made where it does not exist.
      version: a whole number; None = one more than the highest in `path`, 1 at first.
      max_length: the client's; see `make_windows`; None = the most that the encoder has positions for.
      overlap: the client's; None = a quarter of max_length, 128 of RoBERTa's 512.
      whole_words: the client's.

    Returns:
      The version's folder.

    Raises:
      ValueError: max_length is more than the encoder has positions for.
      FileExistsError: the version exists.
      OSError: it cannot be written.
    """
    longest = model.encoder.longest
    max_length = longest if max_length is None else max_length
    if max_length > longest:
        raise ValueError(f"max_length must be at most the encoder's {longest} tokens, got {max_length}")
    overlap = max_length // 4 if overlap is None else overlap
    specs = [tf.TensorSpec(shape, tf.int32, name) for name, shape in INPUTS.items()]
    jit_trunk, model.jit_trunk = model.jit_trunk, False
    try:
        with written_beside(os.fspath(path), version) as (scratch, final):
            archive = tf.keras.export.ExportArchive()
            archive.track(model)
            archive.add_endpoint("serving_default", model.answer, specs)
            with silent():
                archive.write_out(scratch)
            extra = os.path.join(scratch, EXTRA)
            tokenizer.save(extra)
            settings = {"max_length": max_length, "overlap": overlap, "whole_words": whole_words}
            with open(os.path.join(extra, SETTINGS), "w", encoding="utf-8") as stream:
                json.dump(settings, stream)
            write_requests(scratch, {"serving_default": _a_question(tokenizer, max_length, overlap)})
    finally:
        model.jit_trunk = jit_trunk
    return final


def _a_question(tokenizer: BytePairTokenizer, max_length: int, overlap: int) -> dict[str, np.ndarray]:
    """The windows of a short question and report, for warming up."""
    question = Question("0", "?", ".")
    windows = make_windows([question], tokenizer, SCHEMES["bio"], max_length=max_length, overlap=overlap)
    ((_, inputs),) = windows.blocks(1)
    return {name: np.asarray(value, np.int32) for name, value in inputs.items()}


def _without(found: Sequence[Found], drop: str) -> list[Found]:
    """The answers that stay."""
    if drop == "nothing":
        return list(found)
    first: dict[str, Found] = {}
    for answer in found:
        first.setdefault(answer.text, answer)
    kept = list(first.values())
    if drop == "substrings":
        kept = [a for a in kept if not any(a.text in b.text and a.text != b.text for b in kept)]
    return kept
