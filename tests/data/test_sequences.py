"""Users with their items in memory, and the batches that are drawn of them, against loops."""

import numpy as np
import pytest
import tensorflow as tf

from tests.data.prepared import records, vocabulary
from tests.data.raw_sequences import write_lightgcn
from xdeepint_ext.data import DataError
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.data.sequences import Catalogue, Sampling, Sequences, read_sequences, training_batches
from xdeepint_ext.schema import Feature, Schema, SchemaError

LENGTH = 4
SCHEMA = Schema(
    [
        Feature("user", role="user", num_values=20),
        Feature("items", "sequence", "user", table="item", max_length=LENGTH, num_values=30),
        Feature("item", "multi", "item", table="item", max_length=1, num_values=30, source="targets"),
    ]
)
CATALOGUE = Catalogue.of(SCHEMA)


def some_users(lengths: list[int], seed: int = 0) -> tuple[Sequences, list[list[int]]]:
    random = np.random.default_rng(seed)
    lists = [random.integers(CATALOGUE.first, CATALOGUE.first + CATALOGUE.size, n).tolist() for n in lengths]
    splits = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate(lists).astype(np.int32)
    none = np.zeros(len(lists) + 1, np.int64)
    users = 2 + np.arange(len(lists))
    return Sequences(CATALOGUE, users, flat, splits, np.zeros(0, np.int32), none), lists


def steps(sequences: Sequences, sampling: Sampling, count: int, start: int = 0) -> list[dict[str, np.ndarray]]:
    batches = training_batches(sequences, sampling, start)
    return [{name: x.numpy() for name, x in features.items()} for (features,) in batches.take(count)]


def history(items: list[int], place: int) -> list[int]:
    known = items[max(place - LENGTH, 0) : place]
    return known + [0] * (LENGTH - len(known))


@pytest.mark.parametrize("first", [0, 2])
def test_pairs_are_all_targets_once_an_epoch(first):
    sequences, lists = some_users([1, 7, 3, 9, 2])
    expected = sorted(
        (2 + u, items[k], tuple(history(items, k))) for u, items in enumerate(lists) for k in range(first, len(items))
    )
    sampling = Sampling(4, first_target=first, negatives=2, seed=3)
    number = len(expected)
    batches = steps(sequences, sampling, 3 * number)  # the least common multiple is a whole number of epochs
    assert training_batches(sequences, sampling).steps_per_epoch == -(-number // 4)
    drawn = [
        (int(u), int(i), tuple(h))
        for batch in batches
        for u, i, h in zip(batch["user"][:, 0], batch["item"][:, 0], batch["items"].tolist(), strict=True)
    ]
    epochs = [drawn[i : i + number] for i in range(0, len(drawn) - number, number)]
    assert all(sorted(epoch) == expected for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs) > 2


def test_users_are_distinct_and_places_uniform():
    sequences, lists = some_users([6, 2, 9, 5, 8, 7])
    sampling = Sampling(4, "users", first_target=4, negatives=1)
    counts: dict[tuple[int, int], int] = {}
    number = 1500
    for batch in steps(sequences, sampling, number):
        users = batch["user"][:, 0] - 2
        assert len(set(users.tolist())) == 4 and 1 not in users  # user 1 has two items
        for u, item, known in zip(users.tolist(), batch["item"][:, 0], batch["items"].tolist(), strict=True):
            places = [k for k in range(4, len(lists[u])) if lists[u][k] == item and history(lists[u], k) == known]
            assert places
            counts[u, places[0]] = counts.get((u, places[0]), 0) + 1
    for u in (0, 2, 3, 4, 5):
        expected = number * 4 / 5 / (len(lists[u]) - 4)
        found = [counts[u, k] for k in range(4, len(lists[u]))]
        np.testing.assert_allclose(found, expected, atol=5 * np.sqrt(expected))


def test_windows_are_the_last_items():
    sequences, lists = some_users([1, 3, 9, 5])
    batches = steps(sequences, Sampling(3, "windows", negatives=2), 1)
    assert sorted(batches[0]["user"][:, 0].tolist()) == [3, 4, 5]
    for u, known, wanted in zip(*(batches[0][name].tolist() for name in ("user", "items", "next_items")), strict=True):
        items = lists[u[0] - 2]
        assert known == history(items, len(items) - 1)
        targets = items[1:][-LENGTH:]
        assert wanted == targets + [0] * (LENGTH - len(targets))


@pytest.mark.parametrize("draw", ["pairs", "users", "windows"])
def test_a_batch_depends_on_seed_and_step_alone(draw):
    sequences, _ = some_users([6, 9, 5, 8, 7])
    sampling = Sampling(3, draw, negatives=5, seed=11)
    whole, later = steps(sequences, sampling, 6), steps(sequences, sampling, 3, start=3)
    for a, b in zip(whole[3:], later, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
    other = steps(sequences, Sampling(3, draw, negatives=5, seed=12), 6)
    assert all(
        any(not np.array_equal(a[n], b[n]) for a, b in zip(whole, other, strict=True)) for n in ("candidates", "items")
    )


def test_candidates_are_uniform_over_the_catalogue_alone():
    sequences, _ = some_users([6, 9])
    drawn = np.concatenate([b["candidates"] for b in steps(sequences, Sampling(2, negatives=200), 150)])
    counts = np.bincount(drawn, minlength=CATALOGUE.num_ids)
    assert not counts[: CATALOGUE.first].any() and len(counts) == CATALOGUE.first + CATALOGUE.size
    expected = len(drawn) / CATALOGUE.size
    np.testing.assert_allclose(counts[CATALOGUE.first :], expected, atol=5 * np.sqrt(expected))


@pytest.mark.parametrize(("draw", "negatives"), [("pairs", 0), ("pairs", 6), ("users", 3)])
def test_batch_candidates_and_their_correction(draw, negatives):
    sequences, lists = some_users([6, 9, 5, 8])
    size, first = 3, 2
    batch = steps(sequences, Sampling(size, draw, first, negatives, in_batch=True), 1)[0]
    assert batch["candidates"][:size].tolist() == batch["item"][:, 0].tolist()
    assert batch["candidate_owners"].tolist() == [0, 1, 2] + [-1] * negatives
    chance = np.zeros(CATALOGUE.num_ids)
    for items in lists:
        for item in items[first:]:
            chance[item] += (
                1 / len(items[first:]) / len(lists) if draw == "users" else 1 / sum(len(x) - first for x in lists)
            )
    for item, correction in zip(batch["candidates"], batch["candidate_corrections"], strict=True):
        q = (size * chance[item] + negatives / CATALOGUE.size) / (size + negatives)
        assert correction == pytest.approx(np.log(CATALOGUE.size * q), rel=1e-5, abs=1e-6)
    plain = steps(sequences, Sampling(size, draw, first, negatives, in_batch=True, correct=False), 1)[0]
    assert not plain["candidate_corrections"].any()
    for correct in (True, False):
        whole = Sampling(size, draw, first, negatives, in_batch=True, correct=correct, whole_catalogue=True)
        found = steps(sequences, whole, 1)[0]["candidate_corrections"]
        share = np.log((size + negatives) / CATALOGUE.size)
        np.testing.assert_allclose(found, share + (batch["candidate_corrections"] if correct else 0), rtol=1e-5)


def test_errors_of_sampling():
    sequences, _ = some_users([3, 2])
    for arguments, message in (
        ({"draw": "rows"}, "draw must be one of"),
        ({"batch_size": 0, "negatives": 1}, "batch_size must be >= 1, got 0"),
        ({}, "compared with"),
        ({"in_batch": True, "batch_size": 1}, "compared with"),
        ({"in_batch": True, "draw": "windows"}, "in_batch needs"),
    ):
        with pytest.raises(ValueError, match=message):
            Sampling(**{"batch_size": 2, **arguments})
    with pytest.raises(DataError, match="first_target=4 items; the longest history has 3"):
        training_batches(sequences, Sampling(1, first_target=4, negatives=1))
    with pytest.raises(DataError, match="batch of 3 distinct users"):
        training_batches(sequences, Sampling(3, "users", negatives=1))


def test_reading_is_looking_up(tmp_path):
    train = {u: list(range(u, u + 7)) for u in range(20)}
    out = tmp_path / "out"
    prepare("gowalla", raw_dir=write_lightgcn(tmp_path / "raw", train, {3: [1, 99], 21: [5]}), output_dir=out)
    users = {int(v): 2 + i for i, v in enumerate(vocabulary(out, "user"))}
    items = {int(v): 2 + i for i, v in enumerate(vocabulary(out, "item"))}
    for split in ("train", "valid", "test"):
        found = read_sequences(out, split)
        for row, record in enumerate(records(out, split)):
            assert found.users[row] == users.get(record["user"][0], 1)
            part = found.take(row, row + 1)
            assert part.items.tolist() == [items.get(v, 1) for v in record["items"]]
            assert part.targets.tolist() == [items.get(v, 1) for v in record["targets"]]
            inputs = part.features()
            length = found.catalogue.history.length
            known = part.items.tolist()[-length:]
            assert inputs["items"].numpy().tolist() == [known + [0] * (length - len(known))]
    assert read_sequences(out, "test", Schema.load(out).select(["items", "item"])).catalogue.user is None


def test_repeated_targets_count_once(tmp_path):
    from xdeepint_ext.data.sequences.read import _distinct

    targets, splits, again = _distinct(np.array([5, 6, 5, 1, 1, 6]), np.array([3, 0, 3]), first=2)
    assert targets.tolist() == [5, 6, 1, 1, 6] and splits.tolist() == [0, 2, 2, 5] and again == 1


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA.select(["user", "items"]),
        SCHEMA.select(["item"]),
        Schema([*SCHEMA, Feature("age", "numeric", "user", mean=0.0, deviation=1.0)]),
        SCHEMA.replace({"items": {"table": "other"}}),
    ],
)
def test_other_schemas_are_refused(schema):
    with pytest.raises(SchemaError, match="retrieval needs"):
        Catalogue.of(schema)


def test_damage_is_named(tmp_path):
    out = tmp_path / "out"
    prepare(
        "gowalla", raw_dir=write_lightgcn(tmp_path / "raw", {0: [1, 2]}, {0: [3]}), output_dir=out, valid_fraction=0.0
    )
    file = next(out.glob("test-*"))
    content = bytearray(file.read_bytes())
    content[20] ^= 255
    file.write_bytes(content)
    with pytest.raises(DataError, match=file.name):
        read_sequences(out, "test")


def test_batches_feed_a_graph():
    sequences, _ = some_users([6, 9])
    spec = training_batches(sequences, Sampling(2, negatives=3)).element_spec[0]
    assert spec["candidates"] == tf.TensorSpec((3,), tf.int64) and spec["items"].shape == (2, LENGTH)
