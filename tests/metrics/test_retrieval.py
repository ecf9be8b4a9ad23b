"""Exact search and retrieval metrics against loops, blocks, ties, and tensorflow-recommenders."""

import resource

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.metrics import best_items, hits_of, retrieval_scores
from xdeepint_ext.metrics.top_k import HitRateAtK, NDCGAtK, RecallAtK

USERS, ITEMS, WIDTH, N = 13, 37, 5, 9


def problem(seed: int = 0, ties: bool = False):
    """Vectors, seen items and targets of users; one has seen nearly everything, one nothing."""
    random = np.random.default_rng(seed)
    users, items = (random.normal(size=(n, WIDTH)).astype(np.float32) for n in (USERS, ITEMS))
    if ties:
        users, items = users.round(), items.round()
    seen = [random.choice(ITEMS, random.integers(0, 12), replace=False) for _ in range(USERS)]
    seen[2], seen[3] = np.arange(ITEMS - 4), np.array([], int)
    targets = [np.setdiff1d(random.choice(ITEMS, 6, replace=False), s)[: u % 5] for u, s in enumerate(seen)]
    return users, items, seen, targets


def ragged(lists) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(lists).astype(np.int64), np.concatenate([[0], np.cumsum([len(x) for x in lists])])


def by_loop(users, items, seen) -> list[list[int]]:
    found = []
    for user, out in zip(users, seen, strict=True):
        scores = items @ user
        left = [i for i in range(ITEMS) if i not in set(out.tolist())]
        found.append(sorted(left, key=lambda i: (-scores[i], i))[:N])
    return found


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("blocks", [(USERS, ITEMS), (4, 10), (1, N)])
def test_search_is_sorting_whatever_the_blocks(ties, blocks):
    users, items, seen, _ = problem(ties=ties)
    found = best_items(users, items, N, *ragged(seen), *blocks)
    expected = by_loop(users, items, seen)
    assert [[i for i in row if i >= 0] for row in found.items.tolist()] == expected
    assert found.items[2].tolist()[4:] == [-1] * (N - 4) and np.isneginf(found.scores[2, 4:]).all()
    for user, row, scores in zip(users, expected, found.scores, strict=True):
        np.testing.assert_allclose(scores[: len(row)], items[row] @ user, rtol=1e-5)


def test_both_zeros_are_equal():
    items = np.array([-1.0, -0.0, 0.0, -2.0, -0.0, 3.0], np.float32)[:, np.newaxis]
    assert best_items(np.ones((1, 1), np.float32), items, 6).items.tolist() == [[5, 1, 2, 4, 0, 3]]


def test_vectors_of_another_type_are_ranked_as_float32():
    users, items, _, _ = problem()
    found = best_items(users.astype(np.float64), items.astype(np.float64), N)
    np.testing.assert_array_equal(found.items, best_items(users, items, N).items)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("argument", ["users", "items"])
def test_search_refuses_what_is_not_finite(argument, value):
    users, items, _, _ = problem()
    {"users": users, "items": items}[argument][7, 2] = value
    with pytest.raises(FloatingPointError, match=f"{argument} must be finite, got .* in row 7"):
        best_items(users, items, N)


def test_no_users_are_ranked():
    assert best_items(np.zeros((0, WIDTH), np.float32), problem()[1], N).items.shape == (0, N)


def test_seen_items_outside_of_the_catalogue_change_nothing():
    users, items, _, _ = problem()
    outside = np.array([-2, ITEMS, ITEMS + 5] * USERS)
    found = best_items(users, items, N, outside, np.arange(USERS + 1) * 3)
    np.testing.assert_array_equal(found.items, best_items(users, items, N).items)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": ITEMS + 1}, "n must be in 1 .. 37, the catalogue's size, got 38"),
        ({"n": 0}, "n must be in"),
        ({"items_at_once": N - 1}, "items_at_once >= n"),
        ({"seen": np.array([1]), "seen_splits": np.array([0, 1])}, "seen_splits must be 14 ends"),
        ({"users": np.zeros((2, 3), np.float32)}, "must be"),
    ],
)
def test_search_refuses(arguments, message):
    users, items, _, _ = problem()
    with pytest.raises(ValueError, match=message):
        best_items(**{"users": users, "items": items, "n": N, **arguments})


def test_metrics_are_the_formulas():
    users, items, seen, targets = problem()
    best = best_items(users, items, N, *ragged(seen)).items
    hits = hits_of(best, *ragged(targets))
    unknown = [np.append(wanted, [-1, -2]) for wanted in targets]
    np.testing.assert_array_equal(hits_of(best, *ragged(unknown)), hits)
    counts = np.array([len(x) for x in targets])
    found = retrieval_scores(hits, counts, (1, 4, N))
    discount = lambda ranks: sum(1 / np.log2(rank + 1) for rank in ranks)  # noqa: E731
    for u, wanted in enumerate(targets):
        for n in (1, 4, N):
            ranks = [rank for rank, item in enumerate(best[u, :n].tolist(), 1) if item in wanted.tolist()]
            values = {name: found[f"{name}_at_{n}"][u] for name in ("recall", "hit_rate", "ndcg", "legacy_ndcg")}
            if not len(wanted):
                assert np.isnan(list(values.values())).all()
                continue
            assert values["recall"] == len(ranks) / len(wanted) and values["hit_rate"] == bool(ranks)
            assert values["ndcg"] == pytest.approx(discount(ranks) / discount(range(1, min(n, len(wanted)) + 1)))
            legacy = discount(ranks) / discount(range(1, len(ranks) + 1)) if ranks else 0
            assert values["legacy_ndcg"] == pytest.approx(legacy)
    assert any(0 < x < 1 for x in found["recall_at_9"])


def test_metrics_agree_with_the_streaming_ones():
    """Of whole rankings, which the streaming metrics take."""
    users, items, _, targets = problem()
    best = best_items(users, items, ITEMS).items
    found = retrieval_scores(hits_of(best, *ragged(targets)), np.array([len(x) for x in targets]), (4,))
    labels = np.zeros((USERS, ITEMS))
    for u, wanted in enumerate(targets):
        labels[u, wanted] = 1
    for name, metric in (
        ("recall", RecallAtK(4)),
        ("hit_rate", HitRateAtK(4)),
        ("ndcg", NDCGAtK(4)),
        ("legacy_ndcg", NDCGAtK(4, legacy=True)),
    ):
        metric.update_state(labels, users @ items.T)
        assert np.nanmean(found[f"{name}_at_4"]) == pytest.approx(float(metric.result()), abs=1e-6)


def test_recommenders_metric_agrees():
    """tensorflow-recommenders' FactorizedTopK is the hit rate of one target a user, nothing removed."""
    tfrs = pytest.importorskip("tensorflow_recommenders")
    users, items, _, _ = problem()
    wanted = np.random.default_rng(5).integers(0, ITEMS, USERS)
    search = tfrs.layers.factorized_top_k.BruteForce(k=N)
    search.index(tf.constant(items), tf.range(ITEMS))
    metric = tfrs.metrics.FactorizedTopK(search, ks=(1, 4, N))
    # Without ids it compares scores, and its own item's differ in the last digit between its two products.
    metric.update_state(
        tf.constant(users), tf.constant(items[wanted]), true_candidate_ids=tf.constant(wanted, tf.int32)
    )
    expected = [float(value) for value in metric.result()]
    best = best_items(users, items, N).items
    found = retrieval_scores(hits_of(best, wanted, np.arange(USERS + 1)), np.ones(USERS, int), (1, 4, N))
    np.testing.assert_allclose([found[f"recall_at_{n}"].mean() for n in (1, 4, N)], expected, atol=1e-6)


def test_lists_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match=r"at must be in 1 \.\. 2, the length of the lists, got \[3\]"):
        retrieval_scores(np.zeros((1, 2), bool), np.ones(1), (1, 3))
    with pytest.raises(ValueError, match="target_splits must be 2 ends"):
        hits_of(np.zeros((1, 2), int), np.zeros(0, int), np.zeros(1, int))


def test_memory_is_that_of_a_block():
    """A block of 64 x 4096 scores is 1 MB; all of 4096 x 65,536 would be 1 GB."""
    random = np.random.default_rng(0)
    users, items = (random.normal(size=(n, 2)).astype(np.float32) for n in (4096, 65536))
    best_items(users[:64], items, 5, users_at_once=64, items_at_once=4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best_items(users[:512], items, 5, users_at_once=64, items_at_once=4096)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
