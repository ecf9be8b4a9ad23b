"""The iPinYou loader on small files of the documented format."""

import pathlib
import shutil

import numpy as np
import pytest

from tests.data.prepared import all_records, contents, ordered, records, vocabulary
from tests.data.raw_ads import ipinyou_row, write_ipinyou
from xdeepint_ext.data import DataError, read
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

ROWS, TEST_ROWS = 756, 150
# The specification's list (section 1.4): 16 features.
PAPER = (
    "weekday",
    "hour",
    "IP",
    "region",
    "city",
    "adexchange",
    "domain",
    "slotid",
    "slotwidth",
    "slotheight",
    "slotvisibility",
    "slotformat",
    "creative",
    "advertiser",
    "useragent",
    "slotprice",
)


def expected(i: int, test: bool = False, null: bool = True) -> dict[str, list]:
    row = ipinyou_row(i, test)
    record = {name: [row[name].encode()] for name in PAPER if null or row[name] != "null"}
    record |= {name: [int(row[name])] for name in ("weekday", "hour", "slotprice")}
    return record | {"click": [float(row["click"])]}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_ipinyou(tmp_path_factory.mktemp("ipinyou"), ROWS, TEST_ROWS)


def test_the_published_split_is_kept(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    manifest = prepare("ipinyou", raw_dir=raw, output_dir=out)
    assert records(out, "test") == [expected(i, test=True) for i in range(TEST_ROWS)]
    both = records(out, "train") + records(out, "valid")
    assert ordered(both) == ordered([expected(i) for i in range(ROWS)])
    assert manifest.records("valid") / ROWS == pytest.approx(0.1, abs=0.04)
    schema = Schema.load(out)
    assert [feature.name for feature in schema.inputs] == list(PAPER)
    assert schema.tasks == ("click",)
    assert all(feature.is_ids and feature.required for feature in schema.inputs)


def test_no_validation_part_and_the_cut_off_of_the_authors_code(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    manifest = prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "code", valid_fraction=0, min_count=101)
    assert {split: manifest.records(split) for split in manifest.splits} == {"train": ROWS, "test": TEST_ROWS}
    # 756 / 20 = 38 records have this address: few for the code's cut-off of 100, enough for the paper's of 20.
    assert "120.69.224.*" not in vocabulary(tmp_path / "code", "IP")
    prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "paper")
    assert "120.69.224.*" in vocabulary(tmp_path / "paper", "IP")


def test_random_split_of_both_files(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """What the paper prints: 70/10/20 of all."""
    out = tmp_path / "out"
    manifest = prepare("ipinyou", raw_dir=raw, output_dir=out, split="random")
    shares = [manifest.records(split) / (ROWS + TEST_ROWS) for split in ("train", "valid", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.05)
    everything = [*(expected(i) for i in range(ROWS)), *(expected(i, test=True) for i in range(TEST_ROWS))]
    assert ordered(all_records(out)) == ordered(everything)


def test_floor_prices_in_the_bins_of_the_benchmark(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    prepare("ipinyou", raw_dir=raw, output_dir=out)
    ids = {}
    for features, _ in read(out, "test", TEST_ROWS):
        for record, found in zip(records(out, "test"), features["slotprice"].numpy()[:, 0], strict=True):
            ids[record["slotprice"][0]] = int(found)
    # Zhang et al.: none, 1 .. 10, 11 .. 50, 51 .. 100, above; id 0 is a missing value.
    assert ids == {0: 1, 1: 2, 10: 2, 11: 3, 50: 3, 51: 4, 100: 4, 101: 5, 300: 5}
    prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "values", slotprice="value")
    assert set(vocabulary(tmp_path / "values", "slotprice")) == {str(price) for price in ids}


def test_null_is_a_value_or_missing(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "value")
    assert "null" in vocabulary(tmp_path / "value", "domain")
    out = tmp_path / "missing"
    prepare("ipinyou", raw_dir=raw, output_dir=out, null="missing")
    assert "null" not in vocabulary(out, "domain")
    assert records(out, "test") == [expected(i, test=True, null=False) for i in range(TEST_ROWS)]
    assert [f.name for f in Schema.load(out).inputs if not f.required] == ["domain"]
    features, _ = next(iter(read(out, "test", TEST_ROWS)))
    assert np.flatnonzero(features["domain"].numpy()[:, 0] == 0).tolist() == list(range(0, TEST_ROWS, 5))


def test_campaigns_are_folders(tmp_path: pathlib.Path) -> None:
    raw = tmp_path / "raw"
    write_ipinyou(raw / "all", 300, 60)
    write_ipinyou(raw / "1458", 200, 40, zipped=True)
    sizes = []
    for options in ({}, {"campaign": "all"}, {"campaign": "1458"}):
        manifest = prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "out", overwrite=True, **options)
        sizes.append(sum(manifest.records(split) for split in manifest.splits))
    assert sizes == [360, 360, 240]
    message = r"expected 2259/train.log.txt \(or .gz\); it has \['1458', 'all'\]"
    with pytest.raises(FileNotFoundError, match=message):
        prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "out2", campaign="2259")
    shutil.rmtree(raw / "all")
    message = r"expected train.log.txt or all/train.log.txt \(or .gz\); it has \['1458'\]"
    with pytest.raises(FileNotFoundError, match=message):
        prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "out2")
    (raw / "1458" / "test.log.txt.gz").unlink()
    message = r"1458': expected test.log.txt \(or .gz\); it has \['train.log.txt.gz'\]"
    with pytest.raises(FileNotFoundError, match=message):
        prepare("ipinyou", raw_dir=raw / "1458", output_dir=tmp_path / "out2")


def test_gzip_gives_the_same_data_and_the_seed_draws_it(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    zipped = write_ipinyou(tmp_path / "zipped", ROWS, TEST_ROWS, zipped=True)
    for number, (directory, seed) in enumerate(((raw, 1), (zipped, 1), (raw, 2))):
        prepare("ipinyou", raw_dir=directory, output_dir=tmp_path / str(number), seed=seed)
    assert contents(tmp_path / "0") == contents(tmp_path / "1")
    assert ordered(records(tmp_path / "0", "valid")) != ordered(records(tmp_path / "2", "valid"))
    assert records(tmp_path / "0", "test") == records(tmp_path / "2", "test")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("train", "\twindows_ie\t", "\t", "train.log.txt, row 2: expected 27 columns, got 26"),
        ("test", "\twindows_ie\t", "\t", "test.log.txt, row 2: expected 29 columns, got 28"),
        ("train", "\n0\t", "\n-\t", "train.log.txt, row 3: column 'click': expected a number, got '-'"),
        ("test", "\t300\t", "\tx\t", "test.log.txt, row 10: column 'slotprice': expected an integer, got 'x'"),
        ("train", "\tIP\t", "\tip\t", "train.log.txt: no column 'IP'; it has ['click', 'weekday', "),
        ("test", "\tcity\t", "\tregion\t", "test.log.txt: column 'region' is there twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: pathlib.Path, file: str, old: str, new: str, message: str) -> None:
    raw = write_ipinyou(tmp_path / "raw", 60, 20)
    path = raw / f"{file}.log.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "out", min_count=1)
    assert str(caught.value).startswith(message)
    if ", row " in message:
        manifest = prepare("ipinyou", raw_dir=raw, output_dir=tmp_path / "out", min_count=1, max_bad_rows=1)
        assert manifest.notes["bad_rows"] == {"count": 1, "first": [message]}
        assert len(all_records(tmp_path / "out")) == 79
