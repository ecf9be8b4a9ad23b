"""Byte-level BPE with offsets, and windows with gold tags."""

import gzip
import itertools
import json

import numpy as np
import pytest

from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.qa.formats import read_questions
from xdeepint_ext.data.qa.questions import Answer, Question, occurrences
from xdeepint_ext.data.qa.reports import generate_reports
from xdeepint_ext.data.qa.windows import make_windows
from xdeepint_ext.layers.tagging import SCHEMES

pytest.importorskip("tokenizers", reason="needs the extra qa")
from xdeepint_ext.data.qa.tokenizer import SMALLEST, BytePairTokenizer

BIO = SCHEMES["bio"]
ODD = "  Um 12:30 öffnete Zoe\u0308 die Tür 🚪👩‍👩‍👧.\nפתחה מרים את הדלת\u00a0!  </s> "


@pytest.fixture(scope="module")
def tokenizer():
    texts = [text for question in generate_reports(80, seed=1) for text in (question.context, question.question)]
    return BytePairTokenizer.train(texts, 420)


def test_tokens_cover_every_sign_of_any_text(tokenizer):
    tokens = tokenizer.encode(ODD)
    covered = {place for start, end in tokens.offsets for place in range(start, end)}
    signs = {place for place, sign in enumerate(ODD) if not sign.isspace()}
    assert signs <= covered and not any(ODD[place] == " " for place in covered)
    assert (tokens.offsets[:, 0] <= tokens.offsets[:, 1]).all()
    assert (tokens.words[:, 0] <= tokens.offsets[:, 0]).all() and (tokens.words[:, 1] >= tokens.offsets[:, 1]).all()
    assert 2 not in tokens.ids, "the text's own </s> is no end"


def test_an_empty_text_has_no_tokens(tokenizer):
    assert len(tokenizer.encode("")) == 0


def test_tokenizer_round_trip(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = BytePairTokenizer.load(tmp_path)
    np.testing.assert_array_equal(loaded.encode(ODD).ids, tokenizer.encode(ODD).ids)
    assert loaded.vocab_size == tokenizer.vocab_size <= 420
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    np.testing.assert_array_equal(BytePairTokenizer.load(tmp_path).encode(ODD).ids, tokenizer.encode(ODD).ids)


def test_bad_tokenizers(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocab.json nor"):
        BytePairTokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(ValueError, match=r"vocab.json is not JSON"):
        BytePairTokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"<s>": 0, "<pad>": 1, "</s>": 3}))
    with pytest.raises(ValueError, match="two tokens in a line, got 'a b c'"):
        BytePairTokenizer.load(tmp_path)
    with pytest.raises(ValueError, match="</s> the id 2"):
        BytePairTokenizer({"<s>": 0, "<pad>": 1, "</s>": 3}, [])
    with pytest.raises(ValueError, match=f"vocab_size must be >= {SMALLEST}"):
        BytePairTokenizer.train(["a"], 20)


def answers_of(windows, questions):
    """Per question the characters that the first tagging of each window marks, by the windows that own them."""
    found = [set() for _ in questions]
    for row in range(len(windows)):
        tags, positions = windows.taggings[row, 0], windows.positions[row]
        starts = np.flatnonzero(tags == 1)
        for start in starts:
            end = start + 1
            while end < len(tags) and tags[end] == 2:
                end += 1
            if positions[start] >= 0:
                found[windows.reports[row]].add((windows.offsets[row, start, 0], windows.offsets[row, end - 1, 1]))
    return found


def test_gold_answers_come_back_from_tags(tokenizer):
    questions = [
        *generate_reports(60, seed=2),
        Question("odd", "Wo?", ODD, (Answer("Zoe\u0308", (ODD.index("Zoe"),)), Answer("מרים", (ODD.index("מרים"),)))),
        Question("emoji", "?", "a 🚪👩 b", (Answer("🚪👩", (2,)),)),
    ]
    windows = make_windows(questions, tokenizer, BIO, whole_words=False)
    expected = [{answer.spans[0] for answer in question.answers} for question in questions]
    assert answers_of(windows, questions) == expected


@pytest.mark.parametrize("overlap", [0, 5, 12])
def test_windows_hold_each_token_once_with_the_most_context(tokenizer, overlap):
    questions = generate_reports(6, seed=3)
    whole = make_windows(questions, tokenizer, BIO, max_length=512)
    assert len(whole) == len(questions)
    cut = make_windows(questions, tokenizer, BIO, max_length=64, overlap=overlap)
    assert len(cut) > 2 * len(whole)
    for number in range(len(questions)):
        rows = np.flatnonzero(cut.reports == number)
        owned = cut.positions[rows]
        assert sorted(owned[owned >= 0]) == sorted(whole.positions[number][whole.positions[number] >= 0])
        full = whole.token_ids[number][whole.positions[number] >= 0]
        for row in rows:
            there = cut.positions[row] >= 0
            np.testing.assert_array_equal(cut.token_ids[row][there], full[cut.positions[row][there]])
            ends = np.flatnonzero(cut.token_ids[row] == 2)
            assert len(ends) == 3 and cut.token_ids[row, 0] == 0
            first, last = ends[1] + 1, ends[2] - 1
            if row != rows[0]:
                assert np.flatnonzero(there)[0] - first >= overlap // 2 - 1
            if row != rows[-1]:
                assert last - np.flatnonzero(there)[-1] >= overlap // 2 - 1


def test_answers_without_places_have_several_taggings(tokenizer):
    question = Question("1", "Who?", "Tom, Tom, Ann", (Answer("Tom", (0, 5)), Answer("Ann", (10,))))
    windows = make_windows([question], tokenizer, BIO)
    assert windows.taggings.shape[1] == 3 and windows.num_answers.tolist() == [2] and windows.cut_taggings == 0
    starts = [{int(start) for start in windows.offsets[0, tags == 1, 0]} for tags in windows.taggings[0]]
    assert starts == [{0, 10}, {5, 10}, {0, 5, 10}]
    few = make_windows([question], tokenizer, BIO, max_taggings=1)
    assert few.taggings.shape[1] == 1 and few.cut_taggings == 1


def test_taggings_are_all_sets_of_places_that_spell_the_answers(tokenizer):
    context = "Tom Smith, Tom, Ann, Tom, Ann"
    answers = {text: occurrences(text, context) for text in ("Tom", "Ann", "Tom Smith")}
    question = Question("1", "Who?", context, tuple(Answer(text, starts) for text, starts in answers.items()))
    windows = make_windows([question], tokenizer, BIO, max_taggings=100)
    offsets, found = windows.offsets[0], []
    for tags in windows.taggings[0]:
        starts = np.flatnonzero(tags == 1)
        inside = [np.append(tags[start + 1 :], 0) for start in starts]
        ends = [start + int(np.argmax(rest != 2)) for start, rest in zip(starts, inside, strict=True)]
        found.append({(int(offsets[a, 0]), int(offsets[b, 1])) for a, b in zip(starts, ends, strict=True)})
    free = [(0, 9), *((start, start + 3) for text in ("Tom", "Ann") for start in answers[text] if start)]
    sets = [set(spans) for size in range(1, 7) for spans in itertools.combinations(free, size)]
    texts = {context[slice(*span)] for span in free}
    assert sorted(map(sorted, found)) == sorted(
        sorted(spans) for spans in sets if {context[slice(*span)] for span in spans} == texts
    )
    assert len(found) == 3 * 3 and [len(spans) for spans in found] == sorted(map(len, found))


def test_answers_that_share_a_token_are_one(tokenizer):
    question = Question("1", "Who?", "Tom came", (Answer("om", (1,)), Answer("T", (0,)), Answer("came", (4,))))
    windows = make_windows([question], BytePairTokenizer.train(["Tom Tom came"] * 3, 300), BIO)
    assert windows.merged_answers == 1 and windows.num_answers.tolist() == [2]
    assert answers_of(windows, [question]) == [{(0, 3), (4, 8)}]


def test_many_places_of_answers_that_overlap_are_tried_in_time(tokenizer):
    context = "Tom Smith, Tom, " + "Ann, Ben, Lena, Paul, Omar, Nina, David, Sofia, " * 8
    names = ["Tom", "Ann", "Ben", "Lena", "Paul", "Omar", "Nina", "David", "Sofia", "Tom Smith"]
    answers = tuple(Answer(name, occurrences(name, context)) for name in names)
    windows = make_windows([Question("1", "Who?", context, answers)], tokenizer, BIO)
    assert windows.taggings.shape[1] == 8 and windows.cut_taggings == 1
    assert answers_of(windows, [None])[0] >= {(0, 9), (11, 14)}


@pytest.mark.parametrize("max_length", [30, 45])
def test_no_window_is_longer_than_the_model(tokenizer, max_length):
    windows = make_windows(generate_reports(3, seed=3), tokenizer, BIO, max_length=max_length, overlap=4)
    assert windows.token_ids.shape[1] == windows.offsets.shape[1] == max_length


def test_answers_that_fit_no_window_are_counted(tokenizer):
    question = Question("1", "Who?", "Tom and Ann and " * 20, (Answer("Tom and Ann and " * 10, (16,)),))
    assert make_windows([question], tokenizer, BIO).cut_answers == 0
    windows = make_windows([question], tokenizer, BIO, max_length=32, overlap=8)
    assert windows.cut_answers == 1 and not windows.taggings.any()


def test_no_answer_is_outside_throughout(tokenizer):
    windows = make_windows([Question("1", "Who?", "Tom came.")], tokenizer, BIO)
    assert not windows.taggings.any() and windows.spans.tolist() == [[[0, 0]]] and windows.num_answers.tolist() == [0]


@pytest.mark.parametrize(
    ("question", "options", "error", "message"),
    [
        (Question("1", "Who?", ""), {}, DataError, "the context is empty"),
        (Question("1", "Who " * 30, "Tom " * 60), {"max_length": 40}, DataError, "leaves .* of max_length=40"),
        (Question("1", "Who?", "Tom"), {"overlap": -1}, ValueError, "expected max_length"),
    ],
)
def test_bad_input(tokenizer, question, options, error, message):
    with pytest.raises(error, match=message):
        make_windows([question], BytePairTokenizer.train(["Tom Tom Tom"], 300), BIO, **options)


# Answers that the annotation begins or ends inside a token, such as "males" in "females".
FILES = {"how_many_answers_drop": 74, "how_many_answers_multispanqa": 0, "how_many_answers_quoref": 10}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_offsets_round_trip_on_real_files(shared_data, name):
    tokenizer = BytePairTokenizer.load(shared_data("roberta_bpe"))
    questions = read_questions(shared_data("multispan_qa") / f"{name}.json.gz", "quoref", max_bad_records=1)
    found = answers_of(make_windows(questions, tokenizer, BIO, whole_words=False), questions)
    others = 0
    for question, spans in zip(questions, found, strict=True):
        for start, end in (answer.spans[0] for answer in question.answers):
            if (start, end) not in spans:
                others += 1
                assert any(first <= start and end <= last for first, last in spans), question.id
    assert others == FILES[name]


def test_roberta_s_known_ids(shared_data):
    tokenizer = BytePairTokenizer.load(shared_data("roberta_bpe"))
    assert tokenizer.encode("Hello world").ids.tolist() == [31414, 232]
    assert tokenizer.encode(" Hello").ids.tolist() == [20920]
    assert tokenizer.vocab_size == 50265
