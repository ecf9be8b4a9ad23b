"""Sizes by split, the catalogue beside the lists, and what tells one directory of lists from another."""

import dataclasses

import numpy as np
import pytest

from tests.data.test_lists_files import DATA, OPTIONS, rows, written  # noqa: F401 - fixtures
from xdeepint_ext.data import DataError, Manifest, read_catalogue, read_lists
from xdeepint_ext.data.lists import ListSizes, write_lists


def test_the_catalogue_has_every_item_as_lists_have_it(written):  # noqa: F811
    folder, _ = written
    items = read_catalogue(folder)
    assert items["item_ids"].numpy().tolist() == [int(key) for key in DATA.items.keys]
    assert set(items) == {"item_id", "item_colour", "item_ids"}
    places = {key: place for place, key in enumerate(items["item_ids"].numpy().tolist())}
    features, _ = next(iter(read_lists(folder, "test", 1000)))
    for u, i in np.argwhere(features["list_mask"].numpy()):
        place = places[int(features["item_ids"][u, i])]
        for name in ("item_id", "item_colour"):
            np.testing.assert_array_equal(items[name][place], features[name][u, i])


def test_without_a_catalogue_the_error_says_whose_it_is(rows):  # noqa: F811
    with pytest.raises(DataError, match=r"has no catalogue\.tfrecord: write_lists writes it"):
        read_catalogue(rows)


def test_splits_may_have_sizes_of_their_own(rows, tmp_path, written):  # noqa: F811
    folder, same = written
    sizes = {"train": OPTIONS["sizes"], "valid": ListSizes(None, 6, 0), "test": ListSizes(None, 6, 0)}
    manifest = write_lists(rows, DATA, tmp_path / "lists", **{**OPTIONS, "sizes": sizes}, notes={"scorer": "chance"})
    assert manifest.lists["sizes"] == {split: dataclasses.asdict(size) for split, size in sizes.items()}
    assert manifest.notes == {"scorer": "chance"}
    found, other = manifest.lists["statistics"], same.lists["statistics"]
    assert found["train"] == other["train"]
    assert found["test"]["items"]["random"] == 0 and found["test"]["impressions_beyond_size"] == 0
    for name in (shard.file for shard in same.shards("train")):
        assert (tmp_path / "lists" / name).read_bytes() == (folder / name).read_bytes()
    with pytest.raises(
        ValueError, match=r"sizes must be one ListSizes, or one for each of \['train', 'valid', 'test'\]"
    ):
        write_lists(rows, DATA, tmp_path / "more", **{**OPTIONS, "sizes": {"train": ListSizes()}})


def test_lists_drawn_otherwise_have_another_fingerprint(rows, tmp_path, written):  # noqa: F811
    folder, manifest = written
    again = Manifest.load(folder)
    assert again.fingerprint() == manifest.fingerprint() != manifest.table_fingerprint()
    other = write_lists(rows, DATA, tmp_path / "lists", **{**OPTIONS, "seed": 5})
    assert other.table_fingerprint() == manifest.table_fingerprint()
    assert other.fingerprint() != manifest.fingerprint()
    of_rows = Manifest.load(rows)
    assert of_rows.fingerprint() == of_rows.table_fingerprint()
