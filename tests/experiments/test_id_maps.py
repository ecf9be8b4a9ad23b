"""Ids of today as ids of yesterday, by value."""

import pytest

from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.experiments.id_maps import FRESH, Meaning, check_features, id_maps
from xdeepint_ext.schema import Feature, Schema


def meaning(folder, name, values, evicted=0, **changes):
    """A directory's meaning: its vocabulary of `word`, and the arguments of its features that differ."""
    directory = folder / name
    directory.mkdir()
    (directory / "word.txt").write_text("".join(f"{value}\n" for value in values))
    features = {
        "word": {"num_values": len(values), "capacity": 5, "missing": "bucket"},
        "slot": {"dtype": "int", "lookup": "identity", "num_values": 3},
        "place": {"lookup": "hash", "num_values": 4},
    }
    schema = Schema(Feature(key, **{**found, **changes.get(key, {})}) for key, found in features.items())
    manifest = Manifest("made", {}, {}, schema.fingerprint(), notes={"growth": {"evicted": {"word": evicted}}})
    return Meaning(name, manifest, schema, str(directory))


def test_values_keep_their_rows_whatever_their_ids(tmp_path):
    old = meaning(tmp_path, "old", "abc")
    new = meaning(tmp_path, "new", "acd", evicted=1, slot={"num_values": 5, "capacity": 7})
    check_features(old, new)
    found = {name: ids.tolist() for name, ids in id_maps(old, new).items()}
    # Padding, unseen, a, c, d, two rows that wait on both days, and the missing value; 2 + 3 + 2 + 1 = 8 ids.
    assert found["word"] == [0, 1, 2, 4, FRESH, 5, 6, 7]
    assert found["slot"] == [0, 1, 2, 3, FRESH, FRESH, FRESH, FRESH]
    assert found["place"] == [0, 1, 2, 3, 4]


def test_another_capacity_moves_the_missing_bucket(tmp_path):
    old = meaning(tmp_path, "old", "ab", word={"capacity": None})
    new = meaning(tmp_path, "new", "abc", word={"capacity": 4})
    assert id_maps(old, new)["word"].tolist() == [0, 1, 2, 3, FRESH, FRESH, 4]


def test_what_is_lost_must_have_been_evicted(tmp_path):
    old = meaning(tmp_path, "old", "abc")
    with pytest.raises(
        DataError, match=r"table 'word' has shrunk: 2 of the 3 values of old .* of which 1 were evicted"
    ):
        id_maps(old, meaning(tmp_path, "one", "ad", evicted=1))
    with pytest.raises(
        DataError, match=r"table 'slot' has shrunk: it had ids below 3 in old, and has ids below 2 in two"
    ):
        id_maps(old, meaning(tmp_path, "two", "abc", slot={"num_values": 2}))


def test_other_features_are_refused(tmp_path):
    old = meaning(tmp_path, "old", "abc")
    with pytest.raises(DataError, match="feature 'place' has num_values=4 in old, and 5 in one"):
        check_features(old, meaning(tmp_path, "one", "abc", place={"num_values": 5}))
    other = Meaning("two", old.manifest, Schema(list(old.schema)[:2]), old.vocabulary_dir)
    with pytest.raises(DataError, match=r"are not those of two: only there: \['place'\]; only here: \[\]"):
        check_features(old, other)
    turned = Meaning("three", old.manifest, Schema(list(old.schema)[::-1]), old.vocabulary_dir)
    with pytest.raises(DataError, match="they stand in another order"):
        check_features(old, turned)
