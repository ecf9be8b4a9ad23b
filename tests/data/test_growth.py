"""Vocabularies that grow from day to day: places, ages, evictions, room, and what is refused."""

import os
import pathlib

import numpy as np
import pandas as pd
import pytest

from xdeepint_ext.data.growth import AGES, Growth
from xdeepint_ext.data.manifest import DataError, Manifest, vocabulary_file
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.data.views import write_view
from xdeepint_ext.schema import Feature, Schema, SchemaError

FEATURES = Schema(
    [
        Feature("user", min_count=2),
        Feature("slot", dtype="int", lookup="identity"),
        Feature("click", "numeric", "label"),
    ]
)


@pytest.fixture
def day(tmp_path):
    """A function that prepares a day: name, its users, and arguments of `prepare`; the valid split has user `z`."""

    def make(name, users, slots=(0, 1), **options):
        raw = tmp_path / f"raw_{name}"
        raw.mkdir()
        for split, found in {"train": users, "valid": ["z"]}.items():
            frame = pd.DataFrame({"user": found})
            frame["slot"] = [slots[i % len(slots)] for i in range(len(frame))]
            frame["click"] = [i % 2 for i in range(len(frame))]
            frame.to_csv(raw / f"{split}.csv", index=False)
        FEATURES.save(raw)
        directory = str(tmp_path / name)
        prepare("csv", raw_dir=raw, output_dir=directory, num_shards=1, num_workers=1, **options)
        return directory

    return make


def values(directory):
    with open(vocabulary_file(os.path.join(directory, "vocabulary"), "user"), "rb") as stream:
        return stream.read().decode().split()


def ages(directory):
    return np.load(os.path.join(directory, "vocabulary", AGES, "user.npy")).tolist()


def user(directory):
    return Schema.load(directory)["user"]


def test_old_values_keep_their_ids_and_frequent_new_ones_follow(day):
    first = day("first", list("aaabb"))
    second = day("second", [*"bbcccddex"], vocabulary_from=first, grow=True)
    assert values(second) == ["a", "b", "c", "d"]  # e and x only once
    assert ages(second) == [1, 0, 0, 0]
    assert Manifest.load(second).notes["growth"] == {
        "new": {"user": 2},
        "evicted": {"user": 0},
        "beyond_capacity": ["user"],
    }
    third = day("third", list("ccff"), vocabulary_from=second, grow=True, max_values=4)
    assert values(third) == ["a", "b", "c", "d"] and ages(third) == [2, 1, 0, 1]


def test_without_growth_nothing_changes(day):
    first = day("first", list("aabb"))
    second = day("second", list("ccdd"), vocabulary_from=first)
    assert Manifest.load(first).tables == Manifest.load(second).tables


def test_stale_and_listed_values_leave_unless_the_day_has_them(day, tmp_path):
    first = day("first", list("aabbccdd"))
    second = day("second", list("aabb"), vocabulary_from=first, grow=True, evict_after=2)
    assert values(second) == list("abcd") and ages(second) == [0, 0, 1, 1]
    third = day("third", list("aadd"), vocabulary_from=second, grow=True, evict_after=2)
    assert values(third) == list("abd") and ages(third) == [0, 1, 0]  # c is two days old
    listed = tmp_path / "listed"
    listed.mkdir()
    (listed / "user.txt").write_text("a\nb\n")
    fourth = day("fourth", list("aa"), vocabulary_from=third, grow=True, evict=listed)
    assert values(fourth) == list("ad")
    assert Manifest.load(fourth).notes["growth"]["evicted"] == {"user": 2}


def test_reserved_rows_keep_the_shapes_until_they_are_used_up(day):
    first = day("first", list("aabb"), reserve=0.5)
    assert (user(first).num_values, user(first).capacity, user(first).num_ids) == (2, 3, 1 + 1 + 3)
    second = day("second", list("cc"), vocabulary_from=first, grow=True, reserve=0.5)
    assert (user(second).num_values, user(second).capacity) == (3, 3)
    assert Manifest.load(first).tables["user"]["rows"] == Manifest.load(second).tables["user"]["rows"]
    third = day("third", list("ddee"), vocabulary_from=second, grow=True, reserve=0.5)
    assert (user(third).num_values, user(third).capacity) == (5, 8)  # ceil(5 * 1.5)
    assert Manifest.load(third).notes["growth"]["beyond_capacity"] == ["user"]
    ids = Preprocessor(Schema.load(third), os.path.join(third, "vocabulary"))(
        {"user": ["a", "e", "nobody"], "slot": np.array([0, 1, 9])}
    )
    assert ids["user"].numpy().ravel().tolist() == [2, 6, 1]


def test_identity_tables_grow_with_the_largest_id(day):
    first = day("first", list("aabb"), reserve=1.0)
    second = day("second", list("aabb"), (0, 2), vocabulary_from=first, grow=True)
    slots = [Schema.load(directory)["slot"] for directory in (first, second)]
    assert [(slot.num_values, slot.capacity) for slot in slots] == [(2, 4), (3, 4)]


def test_what_cannot_grow_is_refused(day, tmp_path):
    first = day("first", list("aabb"))
    with pytest.raises(ValueError, match="grow: vocabularies go on from those of vocabulary_from, which is not given"):
        day("a", list("aa"), grow=True)
    with pytest.raises(ValueError, match="evict_after is for vocabularies that grow: say grow=True"):
        day("b", list("aa"), vocabulary_from=first, evict_after=3)
    with pytest.raises(ValueError, match="reserve: the tables of vocabulary_from stay as they are, unless grow=True"):
        day("c", list("aa"), vocabulary_from=first, reserve=0.1)
    for wrong, message in (
        ({"reserve": -1.0}, "reserve must be >= 0"),
        ({"evict_after": 0}, "evict_after must be >= 1"),
        ({"evict": str(tmp_path / "nowhere")}, "is no folder"),
    ):
        with pytest.raises(ValueError, match=message):
            Growth(**wrong)
    with open(vocabulary_file(os.path.join(first, "vocabulary"), "user"), "ab") as stream:
        stream.write(b"forged\n")
    with pytest.raises(DataError, match=r"user\.txt has 3 values, but the schema of .* says 2 for feature 'user'"):
        day("d", list("aa"), vocabulary_from=first, grow=True)


def test_a_capacity_is_room_for_the_values():
    with pytest.raises(SchemaError, match="capacity must be >= num_values, 3, got 2"):
        Feature("a", num_values=3, capacity=2)
    with pytest.raises(SchemaError, match="capacity goes with a vocabulary, or with lookup 'identity'"):
        Feature("a", lookup="hash", num_values=3, capacity=5)
    feature = Feature("a", num_values=3, capacity=5, missing="bucket")
    assert feature.num_ids == 1 + 1 + 5 + 1
    assert Schema.from_json(Schema([feature]).to_json())["a"] == feature


def test_a_view_is_records_of_some_days_under_the_ids_of_another(day, tmp_path):
    from xdeepint_ext import data

    first = day("first", list("aabb"))
    second = day("second", list("ccaa"), vocabulary_from=first, grow=True)
    view = str(tmp_path / "views" / "both")
    manifest = write_view(view, first, {"train": [(second, "train"), (first, "train")], "test": [(second, "valid")]})
    assert (manifest.records("train"), manifest.records("test")) == (8, 1)
    ids = np.concatenate([x["user"].numpy().ravel() for x, _ in data.read(view, "train", 3)])
    assert ids.tolist() == [1, 1, 2, 2, 2, 2, 3, 3]  # c is unseen under the first day's
    assert manifest.tables == Manifest.load(first).tables
    write_view(view, second, {"train": [(first, "train")]})  # replaces it
    assert Manifest.load(view).records("train") == 4
    pathlib.Path(first, "roles.yaml").write_text("features:\n  slot: {width: 3}\n")
    write_view(view, first, {"train": [(second, "train")]})
    assert Schema.load(view)["slot"].width == 3 and Manifest.load(view).schema == Manifest.load(first).schema
    packed = day("packed", list("aabb"), materialize=True)
    with pytest.raises(DataError, match="holds materialised records, whose ids cannot change any more"):
        write_view(view, first, {"train": [(packed, "train")]})
