"""Damaged, unfit and missing data: errors that name file, record and feature; skipping up to a limit."""

import gc
import gzip
import struct

import pytest
import tensorflow as tf

from tests.data import directories
from tests.data.directories import SCHEMA, example, flat, numbered, numbers, record
from xdeepint_ext.data import DataError, Manifest, read
from xdeepint_ext.data.damage import inspect
from xdeepint_ext.data.parsing import raw_feature_spec
from xdeepint_ext.models.baselines import LR
from xdeepint_ext.schema import Feature, Schema

COUNTS = [6, 5]
TOTAL = sum(COUNTS)


def shard(folder, index=0):
    return folder / Manifest.load(folder).shards("train")[index].file


def offsets(content):
    """Where each record of an uncompressed file begins."""
    found, at = [], 0
    while at < len(content):
        found.append(at)
        at += 12 + struct.unpack_from("<Q", content, at)[0] + 4
    return found


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def bit_in_the_data(folder):
    path = shard(folder)
    flip(path, offsets(path.read_bytes())[2] + 12 + 20)
    return 2, "its checksum does not match: corrupted", {2}


def bit_in_the_length(folder):
    path = shard(folder)
    flip(path, offsets(path.read_bytes())[2] + 1)
    return 2, "no whole record starts here; 3 records behind it are lost with it", {2, 3, 4, 5}


def bit_in_the_checksum(folder):
    path = shard(folder)
    flip(path, offsets(path.read_bytes())[3] - 1)
    return 2, "its checksum does not match: corrupted", {2}


def truncated_in_a_record(folder):
    path = shard(folder)
    content = path.read_bytes()
    path.write_bytes(content[: offsets(content)[4] + 7])
    return 4, "truncated or corrupted", {4, 5}


def truncated_between_records(folder):
    path = shard(folder)
    content = path.read_bytes()
    path.write_bytes(content[: offsets(content)[4]])
    return 4, "truncated or corrupted", {4, 5}


DAMAGES = [bit_in_the_data, bit_in_the_length, bit_in_the_checksum, truncated_in_a_record, truncated_between_records]


def rewritten(folder, at, payload):
    """The directory with another record in place of record `at`, as if it had been written so."""
    rows = [record(i) for i in range(TOTAL)]
    rows[at] = payload
    directories.write(folder, [rows[: COUNTS[0]], rows[COUNTS[0] :]])


MISFITS = {
    "garbage": (b"\xff\x00 no tf.Example \xfe", "", ""),
    "missing": (example({**record(2), "number": None}), "number", "required but could not be found"),
    "type": (example({**record(2), "number": "two"}), "number", "Data types don't match"),
    "list of another type": (example({**record(2), "tags": ["a"]}), "tags", "Data types don't match"),
    "two values": (example({**record(2), "number": [1.0, 2.0]}), "number", "Key: number"),
    "label 2": (example({**record(2), "click": 2.0}), "click", r"labels must be 0 or 1, got 2.0"),
    "label NaN": (example({**record(2), "click": float("nan")}), "click", "labels must be 0 or 1, got .*nan"),
    "label -1": (example({**record(2), "click": -1.0}), "click", "labels must be 0 or 1, got .*-1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_damage_names_file_and_record(damage, shuffle, tmp_path):
    folder = numbered(tmp_path / "data", COUNTS)
    at, reason, _ = damage(folder)
    with pytest.raises(DataError, match=f"{shard(folder)}, record {at}: .*{reason}"):
        list(read(folder, "train", 4, shuffle=shuffle))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_may_be_skipped_and_nothing_else_is(damage, tmp_path):
    folder = numbered(tmp_path / "data", COUNTS)
    at, _, lost = damage(folder)
    dataset = read(folder, "train", 4, max_bad_records=len(lost))
    assert flat(numbers(dataset)) == [i for i in range(TOTAL) if i not in lost]
    (bad,) = dataset.skipped
    assert (bad.file, bad.record, bad.lost) == (str(shard(folder)), at, len(lost) - 1)
    assert bad.reason in str(bad)
    assert dataset.records == TOTAL - len(lost)
    assert dataset.steps_per_epoch == -(-dataset.records // 4)
    if len(lost) > 1:
        with pytest.raises(DataError, match=f"{len(lost)} bad records, but max_bad_records is 1:\n.*record {at}"):
            read(folder, "train", 4, max_bad_records=1)


@pytest.mark.parametrize("name", MISFITS)
def test_misfits_name_file_record_and_feature(name, tmp_path):
    payload, feature, reason = MISFITS[name]
    rewritten(tmp_path / "data", 8, payload)  # in the second file, where no look at the first file finds it
    with pytest.raises(DataError, match=f"{shard(tmp_path / 'data', 1)}, record 2: .*") as error:
        list(read(tmp_path / "data", "train", 4))
    assert feature in str(error.value)
    error.match(reason)
    assert "\\" not in str(error.value)
    assert "{{" not in str(error.value)


@pytest.mark.parametrize("name", ["garbage", "missing", "label 2"])
@pytest.mark.parametrize("cache", [False, True])
def test_misfits_may_be_skipped(name, cache, tmp_path):
    rewritten(tmp_path / "data", 8, MISFITS[name][0])
    dataset = read(tmp_path / "data", "train", 4, max_bad_records=1, cache=cache, epochs=2)
    assert flat(numbers(dataset)) == [i for i in range(TOTAL) if i != 8] * 2
    assert [(bad.record, bad.lost) for bad in dataset.skipped] == [(2, 0)]


def test_several_bad_records_are_all_found(tmp_path):
    rows = [record(i) for i in range(40)]
    bad = {0: b"x", 7: MISFITS["label 2"][0], 8: MISFITS["type"][0], 39: MISFITS["missing"][0]}
    folder = directories.write(tmp_path / "data", [[bad.get(i, row) for i, row in enumerate(rows)]])
    dataset = read(folder, "train", 8, max_bad_records=4)
    assert flat(numbers(dataset)) == [i for i in range(40) if i not in bad]
    assert [found.record for found in dataset.skipped] == sorted(bad)
    with pytest.raises(DataError, match=r"(?s)4 bad records, but max_bad_records is 3:.*record 0.*record 39"):
        read(folder, "train", 8, max_bad_records=3)


def test_skipping_outlives_the_dataset(tmp_path):
    folder = numbered(tmp_path / "data", COUNTS)
    bit_in_the_data(folder)
    iterator = iter(read(folder, "train", 4, max_bad_records=1, epochs=3))
    gc.collect()
    assert len(list(iterator)) == 9


def test_nothing_left(tmp_path):
    folder = directories.write(tmp_path / "data", [[b"x", b"y"]])
    with pytest.raises(DataError, match=r"(?s)no record is left of 2; the first:.*record 0"):
        read(folder, "train", 4, max_bad_records=5)


@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_truncated_gzip(keep, tmp_path):
    folder = numbered(tmp_path / "data", [200, 5], compression="GZIP")
    path = shard(folder)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match=rf"{path}, record \d+: .*gzip stream is damaged"):
        list(read(folder, "train", 50))
    dataset = read(folder, "train", 50, max_bad_records=200)
    found = flat(numbers(dataset))
    (bad,) = dataset.skipped
    assert found == [*range(bad.record), *range(200, 205)]
    assert bad.record + 1 + bad.lost == 200


def test_corrupted_gzip(tmp_path):
    folder = numbered(tmp_path / "data", [200, 5], compression="GZIP")
    path = shard(folder)
    flip(path, len(path.read_bytes()) // 2)
    with pytest.raises(DataError, match=rf"{path}, record \d+: "):
        list(read(folder, "train", 50))


def test_no_gzip_at_all(tmp_path):
    folder = numbered(tmp_path / "data", [5], compression="GZIP")
    path = shard(folder)
    path.write_bytes(gzip.decompress(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path}, record 0: .*gzip"):
        list(read(folder, "train", 50))


def test_damaged_packed_records(tmp_path):
    folder = directories.materialise(numbered(tmp_path / "raw", COUNTS), tmp_path / "packed")
    bit_in_the_data(folder)
    with pytest.raises(DataError, match=f"{shard(folder)}, record 2: its checksum"):
        list(read(folder, "train", 4))
    assert flat(numbers(read(folder, "train", 4, max_bad_records=1))) == [i for i in range(TOTAL) if i != 2]


def test_training_names_the_record_too(tmp_path):
    rewritten(tmp_path / "data", 8, MISFITS["label 2"][0])
    model = LR(SCHEMA)
    model.compile()
    for call in (model.fit, model.evaluate):
        with pytest.raises(DataError, match=f"{shard(tmp_path / 'data', 1)}, record 2: feature 'click': labels"):
            call(read(tmp_path / "data", "train", 4), verbose=0)


def test_training_names_the_record_of_the_validation_part(tmp_path):
    rewritten(tmp_path / "valid", 8, MISFITS["label 2"][0])
    model = LR(SCHEMA)
    model.compile()
    with pytest.raises(DataError, match=f"{shard(tmp_path / 'valid', 1)}, record 2: "):
        model.fit(
            read(numbered(tmp_path / "train", COUNTS), "train", 4),
            validation_data=read(tmp_path / "valid", "train", 4),
            verbose=0,
        )


def test_inspect_gives_the_good_ones(tmp_path):
    folder = numbered(tmp_path / "data", [4])
    bit_in_the_data(folder)
    good, bad = inspect(
        str(shard(folder)), 4, lambda serialized: tf.io.parse_example(serialized, raw_feature_spec(SCHEMA))
    )
    assert good == [example(record(i)) for i in (0, 1, 3)]
    assert [found.record for found in bad] == [2]


def test_weights_must_not_be_negative(tmp_path):
    schema = Schema([SCHEMA["number"], SCHEMA["click"], Feature("importance", "numeric", "weight")])
    rows = [{"number": 1.0, "click": 1.0, "importance": w} for w in (1.0, -0.5)]
    folder = directories.write(tmp_path / "data", [rows], schema=schema, vocabularies={})
    with pytest.raises(DataError, match=r"record 1: feature 'importance': weights must be >= 0, got \[?-0.5"):
        list(read(folder, "train", 4))


def test_weights_must_be_as_many_as_ids(tmp_path):
    schema = SCHEMA.replace({"tags": {"weights": "scores"}})
    rows = [{**record(3), "scores": [0.5] * n} for n in (3, 2)]
    folder = directories.write(tmp_path / "data", [rows], schema=schema)
    with pytest.raises(DataError, match=r"record 1: feature 'tags': column 'scores' must have one weight a value"):
        list(read(folder, "train", 4))


# -- directories, manifests and schemas that do not fit ---------------------------------------------------------------


def test_no_prepared_directory(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path} is not a prepared data directory: no manifest.json"):
        read(tmp_path, "train", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "format 1"),
        ("[]", "format 1"),
        ('{"format": 1}', "is not a manifest: KeyError 'splits'"),
    ],
)
def test_manifests_that_are_none(text, message, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=f"manifest.json.*{message}"):
        read(tmp_path, "train", 4)


@pytest.mark.parametrize(("split", "counts"), [("test", [3]), ("train", [0])])
def test_absent_and_empty_splits(split, counts, tmp_path):
    folder = numbered(tmp_path / "data", counts)
    with pytest.raises(DataError, match=rf"split '{split}' is empty or absent; .* \{{'train': {sum(counts)}\}}"):
        read(folder, split, 4)


def test_absent_and_empty_files(tmp_path):
    folder = numbered(tmp_path / "data", COUNTS)
    path = shard(folder)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=f"{path} is empty; the manifest counts 6 records in it"):
        read(folder, "train", 4)
    path.unlink()
    with pytest.raises(DataError, match=f"{path} is missing; the manifest counts 6 records in it"):
        read(folder, "train", 4)


def test_schema_of_another_manifest(tmp_path):
    folder = numbered(tmp_path / "data", [3])
    SCHEMA.replace({"city": {"oov": "zero"}}).save(folder)
    with pytest.raises(DataError, match=r"schema\.pbtxt is not the one that the manifest was written with"):
        read(folder, "train", 4)


def test_vocabulary_of_another_schema(tmp_path):
    folder = numbered(tmp_path / "data", [3])
    (folder / "vocabulary" / "city.txt").write_text("oslo\n")
    with pytest.raises(DataError, match=r"city\.txt has 1 values, but the schema says 3"):
        read(folder, "train", 4)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (
            Feature("citi", num_values=3),
            r"none of the first records has feature 'citi' of the schema; did you mean 'city'\?",
        ),
        (Feature("zzz", "numeric"), r"'zzz' of the schema\. They have \['city', 'click'"),
        (Feature("tag", "multi", dtype="int", max_length=2, lookup="hash", num_values=3), "did you mean 'tags'"),
        (Feature("city", "numeric"), "feature 'city' is a bytes_list in the records, but float in the schema"),
        (Feature("number", dtype="int", lookup="hash", num_values=3), "is a float_list .* but int in the schema"),
        (Feature("tags", "multi", max_length=2, lookup="hash", num_values=3), "is a int64_list .* but string"),
    ],
)
def test_schemas_that_do_not_fit_the_records(feature, message, tmp_path):
    folder = directories.write(tmp_path / "data", [[record(i) for i in range(4)]])
    (folder / "vocabulary" / "citi.txt").write_text("a\nb\nc\n")
    schema = Schema([feature, *(f for f in (SCHEMA["click"],) if f.name != feature.name)])
    with pytest.raises(DataError, match=message):
        read(folder, "train", 4, schema=schema)


def test_columns_that_may_lack_read_as_missing(tmp_path):
    folder = directories.write(tmp_path / "data", [[record(i) for i in range(4)]])
    schema = Schema([Feature("zzz", lookup="hash", num_values=3, required=False), SCHEMA["click"]])
    ((features, _),) = list(read(folder, "train", 4, schema=schema))
    assert features["zzz"].numpy().tolist() == [[0]] * 4
