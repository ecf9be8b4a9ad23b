"""From a model of spans to a SavedModel and its client."""

from itertools import chain

import numpy as np
import pytest
import tensorflow as tf

from tests.models.span_examples import CLASSES
from tests.serving.c_api import run_signature
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.qa.questions import Question
from xdeepint_ext.data.qa.windows import make_windows
from xdeepint_ext.layers import RobertaEncoder
from xdeepint_ext.layers.tagging import SCHEMES
from xdeepint_ext.models import MultiSpanTagger
from xdeepint_ext.serving.span_reader import DROPPED, Found, SpanReader, _without, export_spans

pytest.importorskip("tokenizers", reason="needs the extra qa")
from xdeepint_ext.data.qa.tokenizer import BytePairTokenizer

REPORT = "At 08:14 Zoe\u0308 opened the door 🚪. At 09:15 מרים left the house. " * 3
PAIRS = [("Who came?", REPORT), ("When?", "Tom left."), ("Who?", "Ann")]
WINDOWS = {"max_length": 40, "overlap": 10}


@pytest.fixture(scope="module")
def tokenizer():
    return BytePairTokenizer.train([REPORT], 300)


def make(cls, tokenizer):
    encoder = RobertaEncoder.of_size("tiny", vocab_size=tokenizer.vocab_size, max_positions=50, deviation=0.3)
    model = cls(encoder)
    model.build_weights()
    return model


def assert_same(found, expected, rtol):
    """The same answers; their scores may differ in float32's last digits, as a batch's size sets the order of sums."""
    for a, b in zip(found, expected, strict=True):
        assert (a.text, a.start, a.end) == (b.text, b.start, b.end)
        np.testing.assert_allclose(a.score, b.score, rtol=rtol)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_c_library_answers_as_the_model(cls, tokenizer, tmp_path):
    model = make(cls, tokenizer)
    path = export_spans(model, tokenizer, tmp_path / "m", **WINDOWS)
    assert path == str(tmp_path / "m" / "1")
    here = SpanReader(model.answer, tokenizer, **WINDOWS).read_all(PAIRS)
    for (_, report), found in zip(PAIRS, here, strict=True):
        assert all(answer.text == report[answer.start : answer.end] for answer in found)
    assert all(here), "allow_empty is False"
    there = SpanReader.load(tmp_path / "m").read_all(PAIRS)
    assert_same(chain(*here), chain(*there), rtol=1e-5)
    questions = [Question(str(i), *pair) for i, pair in enumerate(PAIRS)]
    ((_, inputs),) = make_windows(questions, tokenizer, SCHEMES["bio"], **WINDOWS).blocks(5)
    assert len(inputs["reports"]) > len(PAIRS)
    out = run_signature(path, "serving_default", inputs)
    expected = model.answer(**{name: tf.constant(value) for name, value in inputs.items()})
    for name, values in expected.items():
        np.testing.assert_allclose(out[name], values, rtol=1e-5)


def test_the_reader_reads_one_question(tokenizer):
    reader = SpanReader(make(MultiSpanTagger, tokenizer).answer, tokenizer, **WINDOWS)
    assert_same(reader.read(*PAIRS[1]), reader.read_all(PAIRS)[1], rtol=5e-7)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("", "Tom left."), "the question is empty"),
        (("Who?", "\n"), "the context is empty"),
        (("Who " * 40, REPORT), "leaves"),
    ],
)
def test_what_cannot_be_read_is_named(tokenizer, pair, message):
    with pytest.raises(DataError, match=message):
        SpanReader(make(MultiSpanTagger, tokenizer).answer, tokenizer, **WINDOWS).read(*pair)


def test_what_is_dropped(tokenizer):
    found = [Found(text, 0, 0, 0.5) for text in ("Tom", "Ann", "Tom", "Tom Smith")]
    texts = {drop: [answer.text for answer in _without(found, drop)] for drop in DROPPED}
    assert texts == {
        "nothing": ["Tom", "Ann", "Tom", "Tom Smith"],
        "duplicates": ["Tom", "Ann", "Tom Smith"],
        "substrings": ["Ann", "Tom Smith"],
    }
    with pytest.raises(ValueError, match="drop must be one of"):
        SpanReader(None, tokenizer, drop="some")


def test_another_export_is_refused(tokenizer, tmp_path):
    path = export_spans(make(MultiSpanTagger, tokenizer), tokenizer, tmp_path / "m")
    long = "Tom left. " * 60
    assert SpanReader.load(path).read("Who?", long), "cut to the encoder's 48 tokens by default"
    with pytest.raises(ValueError, match="max_length must be at most the encoder's 48 tokens, got 49"):
        export_spans(make(MultiSpanTagger, tokenizer), tokenizer, tmp_path / "n", max_length=49)
    with pytest.raises(FileExistsError):
        export_spans(make(MultiSpanTagger, tokenizer), tokenizer, tmp_path / "m", version=1)
    (tmp_path / "m" / "1" / "assets.extra" / "span_reader.json").unlink()
    with pytest.raises(FileNotFoundError, match="no export of a span model"):
        SpanReader.load(path)
