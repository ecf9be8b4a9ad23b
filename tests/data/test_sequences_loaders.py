"""Loaders of users with their items: each on small files against a loop, on bad ones, and on the real sets."""

import collections

import numpy as np
import pytest

from tests.data.prepared import records, vocabulary
from tests.data.raw_sequences import events, write_books, write_lightgcn, write_movielens, write_taobao
from tests.data.raw_taobao import write
from xdeepint_ext.data import DataError
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.data.sequences import Catalogue, read_sequences
from xdeepint_ext.schema import Schema

LEAST = 5


def comirec(log: list[tuple[int, int, int]]) -> dict[int, list[int]]:
    """User -> items in order, after ComiRec's one pass, by loops."""
    of_items = collections.Counter(item for _, item, _ in log)
    kept = [(user, item, time) for user, item, time in log if of_items[item] >= LEAST]
    of_users = collections.Counter(user for user, _, _ in kept)
    found: dict[int, list[tuple[int, int]]] = {}
    for user, item, time in kept:
        if of_users[user] >= LEAST:
            found.setdefault(user, []).append((time, item))
    return {user: [item for _, item in sorted(pairs, key=lambda pair: pair[0])] for user, pairs in found.items()}


def by_user(data_dir, split: str) -> dict:
    return {record["user"][0]: (record["items"], record["targets"]) for record in records(data_dir, split)}


@pytest.mark.parametrize(
    ("dataset", "writer", "user", "item"),
    [
        ("amazon_books", write_books, lambda u: f"A{u}".encode(), lambda i: f"00{i}X".encode()),
        ("taobao_views", write_taobao, int, int),
        ("movielens_sequences", write_movielens, int, int),
    ],
)
def test_comirec_preparation(tmp_path, dataset, writer, user, item):
    log = events()
    expected = comirec(log)
    assert 0 < len(expected) < 30 and len({i for _, i, _ in log}) > len({i for x in expected.values() for i in x})
    out = tmp_path / "out"
    options = {"valid_fraction": 0.2, "test_fraction": 0.2, "min_events": LEAST}
    manifest = prepare(dataset, raw_dir=writer(tmp_path / "raw", log), output_dir=out, **options)
    parts = {split: by_user(out, split) for split in ("train", "valid", "test")}
    assert sorted(u for found in parts.values() for u in found) == sorted(map(user, expected))
    for split, found in parts.items():
        for u, items in expected.items():
            if user(u) not in found:
                continue
            cut = len(items) if split == "train" else int(0.8 * len(items))
            targets = list(dict.fromkeys(map(item, items[cut:])))
            assert found[user(u)] == (list(map(item, items[:cut])), targets)
    dropped = manifest.notes["events_of_rare_items"] + manifest.notes["events_of_rare_users"]
    assert dropped == len(log) - sum(map(len, expected.values()))
    schema = Schema.load(out)
    assert Catalogue.of(schema).user is None and schema.side_inputs["group_ids"].name == "user"


def test_the_last_items_of_the_same_users(tmp_path):
    log = events(seed=1)
    out = tmp_path / "out"
    prepare("movielens_sequences", raw_dir=write_movielens(tmp_path / "raw", log), output_dir=out, split="last")
    for user, items in comirec(log).items():
        assert by_user(out, "train")[user] == (items[:-2], [])
        assert by_user(out, "valid")[user] == (items[:-2], [items[-2]])
        assert by_user(out, "test")[user] == (items[:-1], [items[-1]])
    assert Catalogue.of(Schema.load(out)).user is not None


def test_s3rec_lines(tmp_path):
    raw = write(tmp_path / "raw" / "Beauty.txt", ["1 5 6 7 8", "2 5 6 7", "3 9 5", "4 9"], zipped=True)
    manifest = prepare("amazon_beauty", raw_dir=raw, output_dir=tmp_path / "out")
    assert by_user(tmp_path / "out", "train") == {1: ([5, 6], []), 2: ([5], []), 3: ([9, 5], []), 4: ([9], [])}
    assert by_user(tmp_path / "out", "valid") == {1: ([5, 6], [7]), 2: ([5], [6])}
    assert by_user(tmp_path / "out", "test") == {1: ([5, 6, 7], [8]), 2: ([5, 6], [7])}
    assert manifest.notes["users_of_training_only"] == 2
    found = read_sequences(tmp_path / "out", "test")
    # 7 and 8 are in no training record: unseen, as history and as targets.
    ids = {int(v): found.catalogue.first + i for i, v in enumerate(vocabulary(tmp_path / "out", "item"))}
    assert sorted(ids) == [5, 6, 9]
    assert found.items.tolist() == [ids[5], ids[6], 1, ids[5], ids[6]] and found.targets.tolist() == [1, 1]
    assert found.catalogue.size == 3


def test_lightgcn_lines(tmp_path):
    train = {0: [3, 4, 5, 3], 1: [4], 2: [], 3: list(range(3, 40))}
    test = {0: [6, 7, 6], 3: [1], 9: [2]}
    raw = write_lightgcn(tmp_path / "raw", train, test)
    out = tmp_path / "out"
    manifest = prepare("gowalla", raw_dir=raw, output_dir=out, valid_fraction=0.5)
    trained, valid, tested = (by_user(out, split) for split in ("train", "valid", "test"))
    assert set(trained) == {0, 1, 3} and trained[1] == ([4], [])
    for user, (known, wanted) in valid.items():
        assert known == trained[user][0] and wanted and known
        assert sorted(known + wanted) == sorted(set(train[user]))
    assert len(valid[3][1]) == pytest.approx(37 / 2, abs=12)
    assert tested == {0: ([3, 4, 5], [6, 7]), 3: (train[3], [1]), 9: ([], [2])}
    assert manifest.notes["repeated_items"] == 2 and manifest.notes["users_without_history"] == 1
    prepare("gowalla", raw_dir=raw, output_dir=tmp_path / "whole", valid_fraction=0.0)
    assert by_user(tmp_path / "whole", "train")[3] == (train[3], []) and not records(tmp_path / "whole", "valid")


BAD = {
    "amazon_beauty": ("Beauty.txt", ["1 5 6 7", "2 5 x 7"], "Beauty.txt, row 2: .*got 'x'"),
    "amazon_sports": ("Sports_and_Outdoors.txt", ["1 5 6 7", "1 5 7"], "Sports_and_Outdoors.txt, row 2: user 1 has"),
    "amazon_books": ("reviews_Books_5.json", ["{", '{"asin": "b"}'], "reviews_Books_5.json, row 1: expected a review"),
    "taobao_views": (
        "UserBehavior.csv",
        ["1,2,3,pv,4", "1,2,3,pv,soon"],
        "UserBehavior.csv, row 2: user, item and time",
    ),
    "movielens_sequences": (
        "ratings.csv",
        ["userId,movieId,rating,timestamp", "1,2"],
        "ratings.csv, row 2: expected 4",
    ),
}


@pytest.mark.parametrize("dataset", BAD)
def test_bad_lines_are_named(tmp_path, dataset):
    name, lines, message = BAD[dataset]
    raw = write(tmp_path / "raw" / name, lines)
    with pytest.raises(DataError, match=message):
        prepare(dataset, raw_dir=raw, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_lines_may_be_skipped(tmp_path):
    raw = write_lightgcn(tmp_path / "raw", {u: [1, 2, 3] for u in range(9)}, {0: [4]})
    with open(raw / "train.txt", "a", encoding="utf-8") as stream:
        stream.write("7 -1\n")
    manifest = prepare("gowalla", raw_dir=raw, output_dir=tmp_path / "out", max_bad_rows=1)
    assert manifest.notes["bad_rows"]["count"] == 1


@pytest.mark.parametrize(
    ("dataset", "folder", "users", "items", "interactions"),
    [
        ("gowalla", "gowalla_lightgcn", 29_858, 40_981, 1_027_370),
        ("amazon_beauty", "amazon_s3rec", 22_363, 12_101, 198_502),
    ],
)
@pytest.mark.slow
def test_published_counts(tmp_path, shared_data, dataset, folder, users, items, interactions):
    options = {"valid_fraction": 0.0} if dataset == "gowalla" else {}
    prepare(dataset, raw_dir=shared_data(folder), output_dir=tmp_path / "out", **options)
    found = by_user(tmp_path / "out", "test")
    assert len(found) == users
    everything = np.concatenate([known + wanted for known, wanted in found.values()])
    assert len(everything) == interactions and len(np.unique(everything)) == items
