"""Tags and spans, and Viterbi's algorithm against all tag sequences."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.layers.span_search import best_span, edge_log_probs, tags_of_best_span
from xdeepint_ext.layers.tagging import SCHEMES, best_tags, find_scheme, span_edges, tags_of_spans

BIO, IO = SCHEMES["bio"], SCHEMES["io"]


def spans_of(tags, scheme):
    starts, ends = (tf.where(edges).numpy() for edges in span_edges(tf.constant([tags], tf.int32), scheme))
    return [(int(a), int(b) + 1) for (_, a), (_, b) in zip(starts, ends, strict=True)]


def allowed(tags, scheme):
    if scheme is IO:
        return True
    return all(tag != 2 or before in (1, 2) for before, tag in itertools.pairwise([0, *tags]))


def brute_force(log_probs, mask, scheme, allow_empty):
    """The best allowed tags of all sequences."""
    n, size = log_probs.shape
    best, value = None, -np.inf
    for tags in itertools.product(range(size), repeat=n):
        if not allowed(tags, scheme) or any(tag and not there for tag, there in zip(tags, mask, strict=True)):
            continue
        if not allow_empty and any(mask) and not any(tags):
            continue
        total = sum(log_probs[t, tag] for t, tag in enumerate(tags) if mask[t])
        if total > value:
            best, value = tags, total
    return list(best)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("allow_empty", [True, False])
def test_best_tags_are_the_best_of_all_sequences(scheme, allow_empty):
    random = np.random.default_rng(5)
    for n in (1, 2, 5):
        logits = random.normal(size=(12, n, len(scheme.tags)))
        logits[::2, :, 0] += 2.5  # often nothing
        log_probs = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
        mask = random.uniform(size=(12, n)) < 0.8
        mask[0] = False
        found = best_tags(tf.constant(log_probs), tf.constant(mask), scheme, allow_empty).numpy()
        for row in range(12):
            assert found[row].tolist() == brute_force(log_probs[row], mask[row], scheme, allow_empty), (n, row)


def test_viterbi_never_gives_inside_behind_outside():
    log_probs = tf.math.log([[[0.1, 0.0, 0.9], [0.9, 0.05, 0.05], [0.1, 0.05, 0.85]]])
    tags = best_tags(log_probs, tf.ones((1, 3), tf.bool), BIO).numpy()[0]
    assert allowed(tags, BIO)
    assert best_tags(tf.gather(log_probs, [0, 2], axis=2), tf.ones((1, 3), tf.bool), IO).numpy()[0].tolist() == [
        1,
        0,
        1,
    ]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_all_outside_without_empty_gives_exactly_one_answer(scheme):
    outside = np.full((3, 6, len(scheme.tags)), -9.0)
    outside[..., 0] = -1e-4
    outside[1, 2, scheme.first] = -8.0
    mask = tf.constant([[True] * 6, [True] * 6, [False] * 6])
    tags = best_tags(tf.constant(outside), mask, scheme, allow_empty=False).numpy()
    assert [len(spans_of(row, scheme)) for row in tags] == [1, 1, 0]
    assert spans_of(tags[1], scheme) == [(2, 3)]
    assert not best_tags(tf.constant(outside), mask, scheme, allow_empty=True).numpy().any()


def test_rows_may_differ_in_whether_empty_is_allowed():
    outside = tf.constant(np.log(np.tile([0.9, 0.06, 0.04], (2, 3, 1))))
    tags = best_tags(outside, tf.ones((2, 3), tf.bool), BIO, tf.constant([True, False])).numpy()
    assert tags.any(axis=1).tolist() == [False, True]


def test_viterbi_under_xla():
    log_probs = tf.nn.log_softmax(tf.random.normal((3, 7, 3)))
    mask = tf.random.uniform((3, 7)) < 0.9
    jitted = tf.function(lambda x, m: best_tags(x, m, BIO, False), jit_compile=True)
    np.testing.assert_array_equal(jitted(log_probs, mask), best_tags(log_probs, mask, BIO, False))


@pytest.mark.parametrize("spans", [[], [(2, 3)], [(0, 2), (3, 6)], [(5, 6)], [(0, 6)]])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_spans_round_trip(spans, scheme):
    assert spans_of(tags_of_spans(spans, 6, scheme), scheme) == spans


def test_spans_that_touch_stay_apart_in_bio_and_merge_in_io():
    spans = [(1, 3), (3, 4)]
    assert spans_of(tags_of_spans(spans, 5, BIO), BIO) == spans
    assert spans_of(tags_of_spans(spans, 5, IO), IO) == [(1, 4)]


@pytest.mark.parametrize("spans", [[(0, 2), (1, 3)], [(2, 2)], [(3, 6)], [(-1, 2)]])
def test_bad_spans_are_refused(spans):
    with pytest.raises(ValueError, match="spans must"):
        tags_of_spans(spans, 5, BIO)


def test_unknown_scheme():
    with pytest.raises(ValueError, match="scheme must be one of"):
        find_scheme("bioul")


def test_best_span_is_the_best_of_all():
    random = np.random.default_rng(1)
    logits, mask = random.normal(size=(8, 6, 2)), random.uniform(size=(8, 6)) < 0.7
    mask[:, 0] = True
    log_probs = edge_log_probs(tf.constant(logits), tf.constant(mask))
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1.0)
    first, last, value = (x.numpy() for x in best_span(log_probs, tf.constant(mask), 3))
    for row in range(8):
        sums = {
            (s, e): log_probs[row, s, 0] + log_probs[row, e, 1]
            for s in range(6)
            for e in range(s, min(s + 3, 6))
            if mask[row, s] and mask[row, e]
        }
        assert (first[row], last[row]) == max(sums, key=sums.get)
        np.testing.assert_allclose(value[row], max(sums.values()))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_best_span_as_tags(scheme):
    there, mask = tf.constant([True, False, True]), tf.constant([[True] * 4, [True] * 4, [False] * 4])
    tags, values = tags_of_best_span(
        tf.constant([1, 1, 0]), tf.constant([2, 2, 0]), tf.constant([-0.5, 0.0, 0.0]), there, mask, scheme
    )
    assert [spans_of(row, scheme) for row in tags.numpy()] == [[(1, 3)], [], []]
    np.testing.assert_allclose(values[0], [-0.5] * 4)
