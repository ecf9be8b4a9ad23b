"""Checked questions, public formats, TFRecord, and the command that joins them."""

import collections
import gzip
import json

import pytest
import tensorflow as tf

from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.data.qa.formats import read_questions
from xdeepint_ext.data.qa.prepare import prepare_questions
from xdeepint_ext.data.qa.questions import Answer, Question, occurrences
from xdeepint_ext.data.qa.records import load_questions, write_questions

ODD = "Um ١٢:٣٠ فتحت مريم الباب 🚪👩‍👩‍👧. Cafe\u0301 zu."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": " \n"}, "the question is empty"),
        ({"context": ""}, "the context is empty"),
        ({"context": "Tom \ud83d came."}, r"the context has half a character at 4, '\\ud83d'"),
        ({"question": "Who\udeaa?"}, "the question has half a character at 3"),
        ({"answers": (Answer("", (0,)),)}, "an answer is empty"),
        ({"answers": (Answer("Ann", ()),)}, "'Ann' is not in the context"),
        ({"answers": (Answer("Ann", (4,)),)}, "not in the context at character 4, where 'cam' stands"),
        ({"answers": (Answer("e.", (6,)), Answer("came", (4,)))}, "not in the context at character 6, where 'me'"),
        ({"answers": (Answer("Tom came", (0,)), Answer("came", (4,)))}, r"overlap: 'Tom came' \(0, 8\) and 'came'"),
    ],
)
def test_wrong_questions_are_named(changes, message):
    question = Question(**{"id": "7", "question": "Who?", "context": "Tom came.", "source": "f.json", **changes})
    with pytest.raises(DataError, match=rf"f.json, id '7'.*{message}"):
        question.check()


def test_spans_that_touch_are_no_overlap():
    Question("1", "Who?", "TomAnn", (Answer("Ann", (3,)), Answer("Tom", (0,)))).check()


def test_occurrences():
    assert occurrences("aa", "aaaa") == (0, 1, 2)
    assert occurrences("x", "aaaa") == occurrences("", "a") == ()


def test_occurrences_inside_words_are_the_last_resort():
    assert occurrences("he", "The other said he, not she: he.") == (15, 28)
    assert occurrences("20", "2019: 20-yard, 20%") == (6, 15)
    assert occurrences("(he", "x(he") == (1,)
    assert occurrences("male", "two females") == (6,)


def squad(answers, **more):
    entry = {"id": "q", "question": "Who?", "answers": answers, **more}
    return {"data": [{"title": "t", "paragraphs": [{"context": "Tom and Ann came. Tom left.", "qas": [entry]}]}]}


TOM, ANN = {"text": "Tom", "answer_start": 0}, {"text": "Ann", "answer_start": 8}


def read(tmp_path, content, format, **options):
    file = tmp_path / "file.json.gz"
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        json.dump(content, stream)
    return read_questions(file, format, **options)


def test_squad_has_alternatives(tmp_path):
    (question,) = read(tmp_path, squad([TOM, ANN]), "squad")
    assert question.answers == (Answer("Tom", (0,)),)
    assert question.alternatives == (("Ann",),)
    (question,) = read(tmp_path, squad([], is_impossible=True), "squad")
    assert question.answers == ()


@pytest.mark.parametrize("outer", [True, False])
def test_quoref_has_all_answers_together(tmp_path, outer):
    content, notes = squad([ANN, TOM, ANN]), collections.Counter()
    (question,) = read(tmp_path, content if outer else content["data"], "quoref", notes=notes)
    assert question.answers == (Answer("Ann", (8,)), Answer("Tom", (0,)))
    assert notes == {"answers given twice": 1}


def test_drop_has_no_places_and_more_than_spans(tmp_path):
    number = {"number": "3", "date": {}, "spans": []}
    spans = {"number": "", "date": {}, "spans": ["Tom", "Ann"]}
    pairs = [
        {"query_id": "1", "question": "How many?", "answer": number},
        {"query_id": "2", "question": "Who?", "answer": spans, "validated_answers": [number, {"spans": ["Tom"]}]},
    ]
    notes = collections.Counter()
    content = {"p": {"passage": "Tom and Ann came. Tom left.", "qa_pairs": pairs}}
    (question,) = read(tmp_path, content, "drop", notes=notes)
    assert question.answers == (Answer("Tom", (0, 18)), Answer("Ann", (8,)))
    assert question.alternatives == (("Tom",),)
    assert notes == {"answers that are no spans": 1}


def test_multispanqa_is_joined_words(tmp_path):
    entry = {"id": "1", "question": ["Who", "?"], "context": ["Tom", "Smith", "Ann", "and", "Ben"], "label": [*"BIBOI"]}
    (question,) = read(tmp_path, {"data": [entry]}, "multispanqa")
    assert question.question == "Who ?"
    assert question.answers == (Answer("Tom Smith", (0,)), Answer("Ann", (10,)), Answer("Ben", (18,)))


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (squad([{"text": "Bob", "answer_start": 0}]), "quoref", r"'Bob' is not in the context.*max_bad_records=0"),
        ({"data": [{}]}, "squad", "not of the format squad: KeyError 'paragraphs'"),
        ([1], "drop", "not of the format drop: AttributeError"),
        ({"data": []}, "squad", "holds no question"),
        ({"data": [{"id": "1", "question": ["?"], "context": ["a"], "label": ["X"]}]}, "multispanqa", "one of B, I, O"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, format, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, format)


def test_a_cut_file_is_named(tmp_path):
    file = tmp_path / "file.json.gz"
    whole = gzip.compress(json.dumps(squad([TOM])).encode())
    for damaged in (whole[:-12], whole[:20] + b"\xff" * 8 + whole[28:], b"{}"):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"file\.json\.gz is not JSON"):
            read_questions(file, "squad")


def test_wrong_questions_may_be_allowed_and_are_counted(tmp_path):
    content = squad([TOM])
    qas = content["data"][0]["paragraphs"][0]["qas"]
    qas += [{**qas[0], "id": "r", "question": ""}, {**qas[0]}]
    notes = collections.Counter()
    assert len(read(tmp_path, content, "squad", notes=notes, max_bad_records=2)) == 1
    assert notes["questions that are wrong"] == 2
    with pytest.raises(DataError, match="the id occurs twice"):
        read(tmp_path, content, "squad", max_bad_records=1)


def test_unknown_format_and_file(tmp_path):
    with pytest.raises(ValueError, match="format must be one of"):
        read_questions(tmp_path / "x", "newsqa")
    with pytest.raises(FileNotFoundError):
        read_questions(tmp_path / "x", "squad")


QUESTIONS = [
    Question(
        "1",
        "Wer?",
        ODD,
        (Answer("مريم", (ODD.index("مريم"),)), Answer("🚪", (ODD.index("🚪"),))),
        (("a", "b"), ()),
        "s",
    ),
    Question("2", "Who?", "Tom, Tom", (Answer("Tom", (0, 5)),), (), "s"),
    Question("3", "Who?", "nobody", (), (), "s"),
]


def test_records_round_trip(tmp_path):
    manifest = write_questions(tmp_path / "d", {"train": QUESTIONS, "test": QUESTIONS[:1]}, "mine", {"n": 1})
    assert load_questions(tmp_path / "d", "train") == QUESTIONS
    assert load_questions(tmp_path / "d", "test") == QUESTIONS[:1]
    assert Manifest.load(tmp_path / "d") == manifest
    with pytest.raises(FileExistsError):
        write_questions(tmp_path / "d", {}, "mine")
    with pytest.raises(DataError, match="'valid' is empty or absent"):
        load_questions(tmp_path / "d", "valid")


def test_damaged_records_are_named(tmp_path):
    write_questions(tmp_path, {"train": QUESTIONS}, "mine")
    (file,) = tmp_path.glob("*.tfrecord")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"train-00000-of-00001.tfrecord, record 2"):
        load_questions(tmp_path, "train")


def test_records_of_something_else_are_named(tmp_path):
    write_questions(tmp_path, {"train": QUESTIONS}, "mine")
    (file,) = tmp_path.glob("*.tfrecord")
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(b"\xffno example")
    with pytest.raises(DataError, match=r"train-00000-of-00001.tfrecord, record 0"):
        load_questions(tmp_path, "train")


def test_a_directory_of_something_else_is_refused(tmp_path):
    Manifest("adult", {}, {}, "abc").save(tmp_path)
    with pytest.raises(DataError, match="holds no questions"):
        load_questions(tmp_path, "train")


def make_file(path, contexts, answers=1):
    paragraphs = [
        {
            "context": context,
            "qas": [{"id": f"{path.name}{i}", "question": "Who?", "answers": [TOM, ANN][:answers]}],
        }
        for i, context in enumerate(contexts)
    ]
    path.write_text(json.dumps([{"paragraphs": paragraphs}]), encoding="utf-8")
    return path


def test_prepare(tmp_path):
    one = make_file(tmp_path / "one.json", [f"Tom and Ann {i}" for i in range(40)])
    two = make_file(tmp_path / "two.json", ["Tom and Ann came"], answers=2)
    manifest = prepare_questions(
        tmp_path / "d", [f"{one}:quoref"], [f"{two}:quoref:multi"], valid_share=0.3, dataset="mine"
    )
    sizes = {split: manifest.records(split) for split in manifest.splits}
    assert sizes["train"] + sizes["valid"] == 40 and 4 <= sizes["valid"] <= 20 and sizes["test"] == 1
    assert manifest.notes["questions"]["test"] == {"none": 0, "single": 0, "multi": 1}
    contexts = [{q.context for q in load_questions(tmp_path / "d", split)} for split in ("train", "valid")]
    assert not contexts[0] & contexts[1]


def test_prepare_refuses(tmp_path):
    one = make_file(tmp_path / "one.json", ["Tom and Ann"])
    with pytest.raises(DataError, match="1 test questions are training questions too"):
        prepare_questions(tmp_path / "d", [f"{one}:quoref"], [f"{one}:quoref"])
    with pytest.raises(ValueError, match="PATH:FORMAT"):
        prepare_questions(tmp_path / "d", [str(one)])
    with pytest.raises(ValueError, match="train must name a file"):
        prepare_questions(tmp_path / "d", [])
    with pytest.raises(ValueError, match="valid_share"):
        prepare_questions(tmp_path / "d", [f"{one}:quoref"], valid_share=1)
