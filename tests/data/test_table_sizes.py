"""Vocabularies with a cap, and hashing in their place."""

import pathlib

import pytest

from tests.data.prepared import vocabulary
from xdeepint_ext.data import Manifest
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.data.table_sizes import parse_buckets
from xdeepint_ext.schema import Feature, Schema


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("raw")
    schema = [
        Feature("user", dtype="int"),
        Feature("seen", "multi", table="item", max_length=3),
        Feature("item"),
        Feature("click", "numeric", "label"),
    ]
    Schema(schema).save(directory)
    lines = [f"{i % 40},a{i % 9}|a{i % 5},a{i % 9},{i % 2}" for i in range(300)]
    (directory / "train.csv").write_text("user,seen,item,click\n" + "\n".join(lines) + "\n")
    return directory


def test_a_capped_vocabulary_holds_the_most_frequent_values(raw, tmp_path):
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "all")
    manifest = prepare("csv", raw_dir=raw, output_dir=tmp_path / "capped", max_values=6)
    whole = {table: vocabulary(tmp_path / "all", table) for table in ("user", "item")}
    for table, values in whole.items():
        assert vocabulary(tmp_path / "capped", table) == values[:6]
    assert Schema.load(tmp_path / "capped")["user"].num_values == 6
    left_out = {table: len(values) - 6 for table, values in whole.items()}
    assert (
        Manifest.load(tmp_path / "capped").notes["values_beyond_max_values"]
        == manifest.notes["values_beyond_max_values"]
    )
    assert manifest.notes["values_beyond_max_values"] == left_out
    assert "values_beyond_max_values" not in Manifest.load(tmp_path / "all").notes


def test_hashed_tables_need_no_vocabulary(raw, tmp_path):
    manifest = prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", hash_buckets="item:17")
    schema = Schema.load(tmp_path / "out")
    assert [schema[name].lookup for name in ("user", "seen", "item")] == ["vocabulary", "hash", "hash"]
    assert manifest.tables["item"]["rows"] == schema.tables["item"].rows == 18
    assert [path.name for path in (tmp_path / "out" / "vocabulary").iterdir()] == ["user.txt"]


@pytest.mark.parametrize("text", ["item", "item:", "item:0", ":5", "item:5,", "item:-3", "item:x"])
def test_buckets_are_table_and_number(text):
    with pytest.raises(ValueError, match="hash_buckets must be table:buckets"):
        parse_buckets(text)


def test_what_is_refused(raw, tmp_path):
    with pytest.raises(ValueError, match=r"'word' is no table with a vocabulary; there are \['item', 'user'\]"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", hash_buckets="word:5")
    with pytest.raises(ValueError, match="max_values must be >= 1, got 0"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", max_values=0)
    with pytest.raises(ValueError, match="beam_args are for a runner of Beam's"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", beam_args="--project=p")
