r"""Files of questions -> TFRecord.

    python -m xdeepint_ext.data.qa.prepare --output_dir=DIR \
        --train=quoref-train.json:quoref --train=drop_dataset_train.json:drop --test=valid.json:multispanqa

A file is PATH:FORMAT, with the formats squad, quoref (SQuAD's layout, all answers together), drop, multispanqa;
PATH:FORMAT:single and PATH:FORMAT:multi take the questions with one answer or with several only.
"""

from __future__ import annotations

import collections
import hashlib
import os
import sys
from collections.abc import Sequence

from absl import app, flags

from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.data.qa.formats import FORMATS, read_questions
from xdeepint_ext.data.qa.questions import Question, by_number_of_answers
from xdeepint_ext.data.qa.records import write_questions

__all__ = ["prepare_questions"]

flags.disclaim_key_flags()
PARTS = ("single", "multi")


def prepare_questions(
    output_dir: str | os.PathLike[str],
    train: Sequence[str],
    test: Sequence[str] = (),
    valid: Sequence[str] = (),
    *,
    valid_share: float = 0.1,
    max_bad_records: int = 0,
    dataset: str = "questions",
) -> Manifest:
    """Reads files of questions and writes them as TFRecord.

    Args:
      output_dir: for the records.
      train: `PATH:FORMAT` or `PATH:FORMAT:single|multi`, see above.
      test: the same.
      valid: the same; without any, `valid_share` of the training contexts, chosen by their hash, with all their
        questions.
      valid_share: see `valid`.
      max_bad_records: questions of a file that may be wrong; see `read_questions`.
      dataset: a name.

    Returns:
      The manifest; its notes count what was left out, and the questions with no, one and several answers.

    Raises:
      ValueError: a file is not given as above, or no training file.
      DataError: a file is not of its format, has too many wrong questions, or a test question is a training question.
    """
    if not train:
        raise ValueError("train must name a file at least, as PATH:FORMAT")
    if not 0 <= valid_share < 1:
        raise ValueError(f"valid_share must be in [0, 1), got {valid_share}")
    notes: collections.Counter[str] = collections.Counter()
    given = {"train": train, "valid": valid, "test": test}
    splits = {
        split: [question for file in files for question in _read(file, notes, max_bad_records)]
        for split, files in given.items()
    }
    if not valid and valid_share:
        apart = [_hash(question.context) < valid_share for question in splits["train"]]
        splits["valid"] = [question for question, there in zip(splits["train"], apart, strict=True) if there]
        splits["train"] = [question for question, there in zip(splits["train"], apart, strict=True) if not there]
    _check_apart(splits["train"] + splits["valid"], splits["test"])
    splits = {split: questions for split, questions in splits.items() if questions}
    counts = {
        split: {name: len(rows) for name, rows in by_number_of_answers(questions).items()}
        for split, questions in splits.items()
    }
    return write_questions(output_dir, splits, dataset, {"left_out": dict(+notes), "questions": counts})


def _read(file: str, notes: collections.Counter[str], max_bad_records: int) -> list[Question]:
    path, format, part = _parse(file)
    questions = read_questions(path, format, notes, max_bad_records)
    if not part:
        return questions
    rows = by_number_of_answers(questions)[part]
    notes[f"questions that are not {part}-span, as {os.path.basename(path)} was asked for"] += len(questions) - len(
        rows
    )
    return [questions[row] for row in rows]


def _parse(file: str) -> tuple[str, str, str]:
    path, _, format = file.rpartition(":")
    part = ""
    if format in PARTS:
        part = format
        path, _, format = path.rpartition(":")
    if not path or format not in FORMATS:
        raise ValueError(
            f"expected PATH:FORMAT or PATH:FORMAT:single|multi, FORMAT one of {list(FORMATS)}, got {file!r}"
        )
    return path, format, part


def _hash(text: str) -> float:
    """In [0, 1), the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _check_apart(train: Sequence[Question], test: Sequence[Question]) -> None:
    known = {(question.question, question.context) for question in train}
    both = [question.where for question in test if (question.question, question.context) in known]
    if both:
        raise DataError(f"{len(both)} test questions are training questions too, the first {both[0]}")


def main(argv: Sequence[str]) -> None:
    """The command; `--help` lists its flags."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    values = flags.FLAGS
    try:
        manifest = prepare_questions(
            values.output_dir,
            values.train,
            values.test,
            values.valid,
            valid_share=values.valid_share,
            max_bad_records=values.max_bad_records,
            dataset=values.dataset,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for split in manifest.splits:
        print(f"{split}: {manifest.records(split):,} questions, {manifest.notes['questions'][split]}")
    for why, count in manifest.notes["left_out"].items():
        print(f"left out: {count:,} {why}")


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "directory to write", required=True)
    for _split in ("train", "valid", "test"):
        flags.DEFINE_multi_string(_split, [], f"PATH:FORMAT[:single|multi] of a file for {_split}; may be repeated")
    flags.DEFINE_float("valid_share", 0.1, "share of the training contexts for valid, where no file is given for it")
    flags.DEFINE_integer("max_bad_records", 0, "questions of a file that may be wrong; they are left out and counted")
    flags.DEFINE_string("dataset", "questions", "name of the data")
    app.run(main)
