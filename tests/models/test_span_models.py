"""Losses against NumPy, merging of windows, decoding, replicas and precision of the models of spans."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models.span_examples import CLASSES, CONTEXT, LENGTH, START, as_tensors, encoder, labels, make, token_ids
from xdeepint_ext.models import MultiHeadSpanQA, MultiSpanTagger
from xdeepint_ext.models.baselines import SingleSpanQA
from xdeepint_ext.models.span_model import context_mask, question_mask

INSIDE = slice(START, START + CONTEXT)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def tagger_likelihood(logits, gold):
    """(B,): the sum over gold taggings of the product over the context's tokens."""
    p = softmax(np.float64(logits))
    found = []
    for row, taggings in enumerate(gold["taggings"]):
        valid = [tags for tags in taggings if tags[0] >= 0]
        found.append(sum(np.prod([p[row, t, tags[t]] for t in range(LENGTH)[INSIDE]]) for tags in valid))
    return np.array(found)


def single_likelihood(logits, gold):
    """(B,): the sum over gold spans of p(start) p(end), over the context's tokens and <s>."""
    places = [0, *range(LENGTH)[INSIDE]]
    p = np.zeros(logits.shape)
    p[:, places] = softmax(np.float64(logits)[:, places], axis=1)
    return np.array(
        [sum(p[row, s, 0] * p[row, e, 1] for s, e in spans if s >= 0) for row, spans in enumerate(gold["spans"])]
    )


def test_masks():
    ids = tf.constant(token_ids(2))
    for mask, places in ((context_mask(ids), range(LENGTH)[INSIDE]), (question_mask(ids), range(1, START - 2))):
        assert [np.flatnonzero(row).tolist() for row in mask.numpy()] == [list(places)] * 2


@pytest.mark.parametrize("cls", CLASSES)
def test_loss_is_the_formula(cls):
    model, ids, gold = make(cls), token_ids(6), labels(6)
    outputs = model({"token_ids": tf.constant(ids)})
    if cls is MultiSpanTagger:
        likelihood = tagger_likelihood(outputs, gold)
    elif cls is SingleSpanQA:
        likelihood = single_likelihood(outputs, gold)
    else:
        heads = softmax(np.float64(outputs["heads"]))
        one = single_likelihood(outputs["edges"].numpy(), gold) * (gold["num_answers"] <= 1)
        likelihood = heads[:, 0] * one + heads[:, 1] * tagger_likelihood(outputs["tags"], gold)
    losses = model.window_losses(outputs, as_tensors(gold), tf.constant(ids))
    np.testing.assert_allclose(losses, -np.log(likelihood), rtol=1e-4)
    model.compile("sgd")
    weights = np.array([1.0, 0, 2, 0, 1, 1], np.float32)
    found = model.compute_loss({"token_ids": ids}, as_tensors(gold), outputs, tf.constant(weights))
    np.testing.assert_allclose(found, np.average(-np.log(likelihood), weights=weights), rtol=1e-4)


@pytest.mark.parametrize(
    "cls", [MultiHeadSpanQA, *(pytest.param(cls, marks=pytest.mark.slow) for cls in (MultiSpanTagger, SingleSpanQA))]
)
def test_it_learns_and_answers_what_it_learned(cls):
    model, ids, gold = make(cls, allow_empty=True), token_ids(3), labels(3)
    model.compile(tf.keras.optimizers.Adam(0.01))
    dataset = tf.data.Dataset.from_tensors(({"token_ids": ids}, gold)).repeat(60)
    history = model.fit(dataset, verbose=0).history
    assert list(history) == ["loss"] and model.metrics[0].name == "loss"
    found = ask(model, ids)
    gold_spans = [[[]], [[(0, 1)], [(3, 4)]], [[(0, 2), (4, 5)]]]
    if cls is SingleSpanQA:
        gold_spans[2] = [[(0, 2)], [(4, 5)]]
    for row, choices in enumerate(gold_spans):
        assert [span for report, *span in found if report == row] in [[list(s) for s in c] for c in choices]


def ask(model, ids, **options):
    """(Report, start, end) of each answer, one window a report, in tokens of the context."""
    count = len(ids)
    positions = np.full((count, LENGTH), -1, np.int32)
    positions[:, INSIDE] = np.arange(CONTEXT)
    offsets = np.stack([positions, positions + 1], axis=-1)
    out = model.answer(tf.constant(ids), tf.range(count), tf.constant(positions), tf.constant(offsets), **options)
    assert ((out["score"].numpy() > 0) & (out["score"].numpy() <= 1)).all()
    return list(zip(*(out[name].numpy().tolist() for name in ("report", "start", "end")), strict=True))


@pytest.mark.parametrize("cls", CLASSES)
def test_without_empty_every_report_has_an_answer(cls):
    model, ids = make(cls), token_ids(6)
    model({"token_ids": tf.constant(ids)})
    for name in ("head", "tag_head"):
        if hasattr(model, name) and cls is not SingleSpanQA:
            getattr(model, name).logits.bias.assign([9.0, 0.0, 0.0])
    found = ask(model, ids, allow_empty=False)
    assert {report for report, *_ in found} == set(range(6))


class Lexical(MultiSpanTagger):
    """Its logits depend on the token alone, so windows must not change its answers."""

    def call(self, inputs, training=None):
        table = np.random.default_rng(8).normal(size=(20, 3)) * 2
        return tf.gather(tf.constant(table, tf.float32), inputs["token_ids"])


@pytest.mark.parametrize("scheme_empty", [True, False])
def test_windows_merge_to_what_one_window_gives(scheme_empty):
    random = np.random.default_rng(4)
    model = Lexical(encoder(), allow_empty=scheme_empty)
    lengths, rows = [17, 4], []
    texts = [random.integers(5, 20, length) for length in lengths]
    cuts = {0: [(0, 8, 0, 6), (5, 13, 6, 11), (9, 17, 11, 17)], 1: [(0, 4, 0, 4)]}
    whole = []
    for report, text in enumerate(texts):
        whole.append(window(text, 0, len(text), 0, len(text), report, 24))
        rows += [window(text, *cut, report, 24) for cut in cuts[report]]
    answers = []
    for windows in (whole, rows):
        ids, reports, positions, offsets = (tf.constant(np.array(x, np.int32)) for x in zip(*windows, strict=True))
        out = model.answer(ids, reports, positions, offsets)
        answers.append({name: value.numpy() for name, value in out.items()})
    assert len(answers[0]["start"])
    for name in answers[0]:
        np.testing.assert_allclose(answers[1][name], answers[0][name], rtol=1e-5)


def answer_of_two_windows(cls, outputs, **options):
    """The answers to a report of eight tokens in two windows of four; the model's outputs are given."""

    class Given(cls):
        def call(self, inputs, training=None):
            return tf.nest.map_structure(lambda value: tf.constant(value, tf.float32), outputs)

    rows = [window(np.full(8, 7), first, first + 4, first, first + 4, 0, 9) for first in (0, 4)]
    ids, reports, positions, offsets = (tf.constant(np.array(x, np.int32)) for x in zip(*rows, strict=True))
    out = Given(encoder(), **options).answer(ids, reports, positions, offsets)
    return [start // 3 for start in out["start"].numpy()]


@pytest.mark.parametrize(
    ("answered", "found"), [((False, False), []), ((True, False), [1]), ((False, True), [5]), ((True, True), [5])]
)
def test_no_answer_is_what_every_window_says(answered, found):
    edges = np.zeros((2, 9, 2))
    for row, there in enumerate(answered):
        edges[row, 4 + 1 if there else 0] = 8.0 + row  # the second token of the window, or <s>
    assert answer_of_two_windows(SingleSpanQA, edges, allow_empty=True) == found


@pytest.mark.parametrize(("second", "found"), [([4.0, 0.0], [5]), ([0.0, 5.0], [1, 5]), ([0.0, 2.0], [5])])
def test_a_head_must_be_likely_in_every_window(second, found):
    edges, tags = np.zeros((2, 9, 2)), np.zeros((2, 9, 3))
    edges[1, 5] = 9.0
    tags[:, :, 0], tags[:, 5, 1] = 5.0, 9.0  # the multi head finds one in each window
    heads = [[3.0, 0.0], second]
    assert answer_of_two_windows(MultiHeadSpanQA, {"edges": edges, "tags": tags, "heads": heads}) == found


def window(text, first, last, own_first, own_last, report, length):
    """Ids, report, positions and offsets of the tokens [first, last) of a text, which answers for [own)."""
    ids = np.full(length, 1)
    ids[: last - first + 5] = [0, 6, 2, 2, *text[first:last], 2]
    positions, offsets = np.full(length, -1), np.zeros((length, 2))
    places = np.arange(own_first, own_last)
    positions[4 + own_first - first : 4 + own_last - first] = places
    offsets[4 : 4 + last - first] = np.stack([3 * np.arange(first, last), 3 * np.arange(first, last) + 2], axis=1)
    return ids, report, positions, offsets


@pytest.mark.slow
@pytest.mark.parametrize("cls", CLASSES)
def test_two_replicas_are_one_device(cls, two_replicas):
    ids, gold = token_ids(6), labels(6)
    dataset = tf.data.Dataset.from_tensors(({"token_ids": ids}, gold)).repeat(2)
    start, ends, losses = None, [], []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = make(cls)
            model({"token_ids": tf.constant(ids)})
            model.compile(tf.keras.optimizers.SGD(0.05))
        start = model.get_weights() if start is None else start
        model.set_weights(start)
        losses.append(model.fit(dataset, verbose=0).history["loss"])
        ends.append(model.get_weights())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_encoder_trains_alike():
    ids, gold = token_ids(6), labels(6)
    ends = []
    for jit in (False, True):
        tf.keras.utils.set_random_seed(1)
        model = make(MultiSpanTagger)
        model.compile(tf.keras.optimizers.SGD(0.05), jit_compile=jit)
        model.train_on_batch({"token_ids": ids}, gold)
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: MultiSpanTagger("base"), "encoder must be a RobertaEncoder"),
        (lambda: make(MultiSpanTagger, scheme="x"), "scheme must be one of"),
        (lambda: make(MultiSpanTagger, likelihood="x"), "likelihood must be one of"),
        (lambda: make(MultiHeadSpanQA, max_answer=0), "max_answer must be >= 1"),
        (lambda: make(SingleSpanQA, max_answer=0), "max_answer must be >= 1"),
    ],
)
def test_bad_arguments(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


def test_labels_that_lack_something():
    model, ids = make(MultiSpanTagger), token_ids(2)
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"lacks \['num_answers', 'spans'\]"):
        model.compute_loss({"token_ids": ids}, {"taggings": labels(2)["taggings"]}, model({"token_ids": ids}))
