"""Lists that cannot be written or read: what is wrong is named."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.data import directories, logs
from tests.data.test_lists_files import DATA, OPTIONS, USERS
from xdeepint_ext.data import DataError, Manifest, read, read_lists
from xdeepint_ext.data.lists import ListSizes, describe_lists, write_lists
from xdeepint_ext.data.records import encode_example_list, encode_feature
from xdeepint_ext.schema import Feature, Schema


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return logs.write_rows(tmp_path_factory.mktemp("rows"), USERS)


SCHEMA = Schema(
    [
        Feature("user", role=("user", "group"), dtype="int", lookup="identity", num_values=9),
        Feature("item", role=("item", "item_id"), dtype="int", lookup="identity", num_values=9),
        Feature("grade", "numeric", "label"),
        Feature("stage", dtype="int", role="stage"),
        Feature("score", "numeric", "teacher", required=False),
    ]
)


def one_list(items, user=1):
    """A record of (item, grade, stage, score) tuples; None = absent."""
    examples = []
    for values in items:
        columns = zip(("item", "grade", "stage", "score"), ("int", "float", "int", "float"), values, strict=True)
        examples.append(b"".join(encode_feature(name, dtype, [x]) for name, dtype, x in columns if x is not None))
    return encode_example_list(encode_feature("user", "int", [user]), examples)


def folder_of(folder, records, schema=SCHEMA):
    """A directory of lists with these records."""
    directories.write(folder, [records], schema=schema, vocabularies={})
    manifest = dataclasses.replace(Manifest.load(folder), lists={})
    manifest.save(folder)
    return folder


FINE = one_list([(1, 1.0, 0, 0.5), (2, 0.0, 2, None)])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (one_list([(1, 1.0, 0, None), (2, 0.0, 1, 0.5)]), "impressions without a teacher's score: 1"),
        (one_list([(1, 1.0, 3, 0.5)]), r"stages must be 0 \.\. 2, got 3"),
        (one_list([(1, -1.0, 0, 0.5)]), r"feature 'grade': labels must be finite and >= 0, got -1"),
        (one_list([(1, float("nan"), 0, 0.5)]), "feature 'grade': labels must be finite and >= 0, got"),
        (one_list([(1, None, 0, 0.5)]), "grade"),
        (one_list([(1, 1.0, None, 0.5)]), "stage"),
        (one_list([(item, 1.0, 0, 0.5) for item in range(4)]), "a list has more items than list_size 3: 4"),
        (
            directories.example({"user": 1, "item": 2, "grade": 1.0}),
            "a record is no ExampleListWithContext with a context",
        ),
        (b"\xff\xff\xff", ""),
    ],
    ids=[
        "no teacher",
        "stage 3",
        "grade -1",
        "grade NaN",
        "no grade",
        "no stage",
        "too long",
        "no list",
        "no message",
    ],
)
def test_a_bad_list_is_named_and_can_be_skipped(tmp_path, record, message):
    folder = folder_of(tmp_path / "lists", [FINE, record, FINE])
    with pytest.raises(DataError, match=rf"train-00000-of-00001.tfrecord, record 1: .*{message}"):
        list(read_lists(folder, "train", 2, list_size=3))
    dataset = read_lists(folder, "train", 2, list_size=3, max_bad_records=1)
    assert sum(len(labels) for _, labels in dataset) == 2
    assert len(dataset.skipped) == 1


def test_lists_of_one_item_without_positives_or_without_any_item(tmp_path):
    records = [one_list([(5, 0.0, 0, 0.5)]), one_list([]), FINE]
    features, labels = next(iter(read_lists(folder_of(tmp_path / "lists", records), "train", 3)))
    assert labels.numpy().tolist() == [[0.0, -1.0], [-1.0, -1.0], [1.0, 0.0]]
    assert features["list_mask"].numpy().tolist() == [[True, False], [False, False], [True, True]]
    assert features["item"][:, :, 0].numpy().tolist() == [[6, 0], [0, 0], [2, 3]]


def test_without_stages_there_are_no_stages(tmp_path):
    schema = SCHEMA.select(["user", "item", "grade"])
    record = one_list([(1, 1.0, None, None), (2, 0.0, None, None)])
    folder = folder_of(tmp_path / "lists", [record], schema)
    features, _ = next(iter(read_lists(folder, "train", 1)))
    assert set(features) == {"user", "item", "group_ids", "item_ids", "list_mask"}
    with pytest.raises(ValueError, match=r"asks for a part of the lists, but no feature of the schema has role stage"):
        read_lists(folder, "train", 1, stages=("impression",))


def test_a_feature_of_neither_part_is_refused(tmp_path):
    other = Feature("other", lookup="hash", num_values=3, required=False)
    folder = folder_of(tmp_path / "lists", [FINE], Schema([*SCHEMA, other]))
    with pytest.raises(DataError, match="feature 'other' of lists must have the role user, context or item"):
        read_lists(folder, "train", 1)
    with pytest.raises(DataError, match="lists need a feature of role label"):
        read_lists(folder, "train", 1, schema=SCHEMA.select(["user", "item"]))


def test_the_two_kinds_of_directories_are_not_taken_for_each_other(tmp_path, rows):
    folder = folder_of(tmp_path / "lists", [FINE])
    with pytest.raises(DataError, match="holds lists, not single examples: read_lists reads them"):
        read(folder, "train", 1)
    with pytest.raises(DataError, match="holds single examples, not lists: read reads them"):
        read_lists(rows, "train", 1)
    with pytest.raises(ValueError, match="holds single examples, not lists"):
        describe_lists(Manifest.load(rows))


def test_arguments_of_read_lists(tmp_path):
    folder = folder_of(tmp_path / "lists", [FINE])
    for options, message in (
        ({"stages": ("impressions",)}, r"stages must be some of .*, got \['impressions'\]"),
        ({"list_size": 0}, "list_size must be > 0, got 0"),
        ({"cache": True}, "cache needs a list_size"),
    ):
        with pytest.raises(ValueError, match=message):
            read_lists(folder, "train", 1, **options)
    with pytest.raises(ValueError, match="batch_size must be > 0, got 0"):
        read_lists(folder, "train", 0)
    Schema([*SCHEMA][:4]).save(folder)
    with pytest.raises(DataError, match=r"schema.pbtxt is not the one that the manifest was written with"):
        read_lists(folder, "train", 1)


def test_arguments_of_write_lists(rows, tmp_path):
    for options, message in (
        ({"splits": ("dev",)}, r"splits must be some of .*, got \['dev'\]"),
        ({"compression": "ZIP"}, "compression must be '' or 'GZIP', got 'ZIP'"),
        ({"train_until": 20240301}, "train_until 20240301 is after valid_until"),
        ({"order": ("clicks",)}, "order names event 'clicks'; .*did you mean 'click'"),
        ({"min_items": 100}, "no list for split 'train': {'lists': 0, .*'lists_too_short': "),
    ):
        with pytest.raises(ValueError, match=message):
            write_lists(rows, DATA, tmp_path / "lists", **{**OPTIONS, **options})
        assert not list(tmp_path.iterdir())


def test_tables_that_do_not_fit_the_prepared_directory(rows, tmp_path):
    columns = {name: tokens for name, tokens in DATA.items.columns.items() if name != "item_colour"}
    lacking = dataclasses.replace(DATA, items=dataclasses.replace(DATA.items, columns=columns))
    with pytest.raises(DataError, match=r"the items lack the columns \['item_colour'\]; they have \['item_id'\]"):
        write_lists(rows, lacking, tmp_path / "lists", **OPTIONS)
    texts = {**DATA.users.columns, "user_id": [b"x%d" % i for i in range(len(DATA.users))]}
    wrong = dataclasses.replace(DATA, users=dataclasses.replace(DATA.users, columns=texts))
    with pytest.raises(DataError, match=r"users 1...: column 'user_id': expected an integer, got 'x\d'"):
        write_lists(rows, wrong, tmp_path / "lists", **OPTIONS)
    before = dataclasses.replace(DATA.histories[1], before=[b"x"] * USERS)
    with pytest.raises(DataError, match=r"history 'bought' of user 10..: expected an integer, got 'x'"):
        write_lists(rows, dataclasses.replace(DATA, histories=(before,)), tmp_path / "lists", **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_gzip_and_a_first_day(rows, tmp_path):
    """Days before the first one are history: fewer lists, and the others' histories stay whole."""
    options = {**OPTIONS, "sizes": ListSizes(3, 0, 5), "scorer": None}
    write_lists(rows, DATA, tmp_path / "all", **options)
    manifest = write_lists(rows, DATA, tmp_path / "some", **options, first_day=logs.DAYS[1], compression="GZIP")
    assert {shard.file[-3:] for shards in manifest.splits.values() for shard in shards} == {".gz"}
    assert 0 < manifest.records("train") < Manifest.load(tmp_path / "all").records("train")
    everything = {str(x) for x in _watched(tmp_path / "all", "train")}
    assert {str(x) for x in _watched(tmp_path / "some", "train")} <= everything
    np.testing.assert_array_equal(_watched(tmp_path / "some", "test"), _watched(tmp_path / "all", "test"))


def _watched(folder, split):
    features, _ = next(iter(read_lists(folder, split, 1000)))
    return tf.concat([features["user_id"], features["watched"]], axis=1).numpy()
