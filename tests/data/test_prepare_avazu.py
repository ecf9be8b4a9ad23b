"""The Avazu loader on small files of the documented format."""

import pathlib

import numpy as np
import pytest

from tests.data.prepared import all_records, contents, ordered, records, vocabulary
from tests.data.raw_ads import avazu_row, write_avazu
from xdeepint_ext.data import DataError, read
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

ROWS = 1100
# The specification's list (section 1.4): 21 features.
PAPER = (
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    "C14",
    "C15",
    "C16",
    "C17",
    "C18",
    "C19",
    "C20",
    "C21",
)
NUMBERS = {"banner_pos", "device_type", "device_conn_type", *(name for name in PAPER if name.startswith("C"))}


def expected(i: int) -> dict[str, list]:
    row = avazu_row(i)
    record = {name: [int(row[name])] if name in NUMBERS else [row[name].encode()] for name in PAPER}
    return record | {"click": [float(row["click"])]}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_avazu(tmp_path_factory.mktemp("avazu"), ROWS)


def test_records_and_split_of_the_authors_code(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    manifest = prepare("avazu", raw_dir=raw, output_dir=out, split="repo")
    inside = [i % 1000 / 1000 <= 0.80 for i in range(ROWS)]
    assert list(manifest.splits) == ["train", "test"]
    assert records(out, "test") == [expected(i) for i in range(ROWS) if not inside[i]]
    assert ordered(records(out, "train")) == ordered([expected(i) for i in range(ROWS) if inside[i]])
    schema = Schema.load(out)
    assert [feature.name for feature in schema.inputs] == list(PAPER)
    assert schema.tasks == ("click",)
    assert all(feature.kind == "categorical" and feature.required for feature in schema.inputs)


def test_the_papers_split_and_cut_off_are_the_default(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    manifest = prepare("avazu", raw_dir=raw, output_dir=out)
    shares = [manifest.records(split) / ROWS for split in ("train", "valid", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.05)
    assert vocabulary(out, "device_ip") == ["ddd2926e"]
    counts = {value: 0 for value in range(24)}
    for record in records(out, "train"):
        counts[record["C21"][0]] = counts.get(record["C21"][0], 0) + 1
    assert set(vocabulary(out, "C21")) == {str(value) for value, count in counts.items() if count >= 20}
    features, _ = next(iter(read(out, "test", 50)))
    addresses = [record["device_ip"][0] for record in records(out, "test")[:50]]
    # Id 1 is what is outside the vocabulary.
    assert features["device_ip"].numpy()[:, 0].tolist() == [2 if a == b"ddd2926e" else 1 for a in addresses]


def test_a_value_seen_twenty_times_stays(tmp_path: pathlib.Path) -> None:
    raw = write_avazu(tmp_path / "raw", 700)
    text = (raw / "train.csv").read_text().replace("ddd2926e", "aaaa0020", 20).replace("ddd2926e", "aaaa0019", 19)
    (raw / "train.csv").write_text(text)
    for min_count, kept in ((None, ["ddd2926e", "aaaa0020"]), (21, ["ddd2926e"])):
        out = tmp_path / str(min_count)
        prepare("avazu", raw_dir=raw, output_dir=out, valid_fraction=0, test_fraction=0, min_count=min_count)
        assert vocabulary(out, "device_ip") == kept


def test_weekday_and_hour_are_an_option(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    prepare("avazu", raw_dir=raw, output_dir=out, split="repo", time_features=True, min_count=1)
    assert [feature.name for feature in Schema.load(out).inputs] == [*PAPER, "weekday", "hour"]
    # 21 October 2014 was a Tuesday; the generator's clock goes on by one hour a record, for ten days.
    test = [i for i in range(ROWS) if i % 1000 / 1000 > 0.80]
    found = [(record["weekday"][0], record["hour"][0]) for record in records(out, "test")]
    assert found == [((1 + i % 240 // 24) % 7, i % 24) for i in test]


@pytest.mark.parametrize("hour", ["1410212", "14102124", "14133100", "2014-102", ""])
def test_a_time_that_is_none_is_a_bad_row_only_where_it_is_read(tmp_path: pathlib.Path, hour: str) -> None:
    raw = write_avazu(tmp_path / "raw", 60)
    text = (raw / "train.csv").read_text()
    (raw / "train.csv").write_text(text.replace(",14102102,", f",{hour},", 1))
    options = {"raw_dir": raw, "min_count": 1, "valid_fraction": 0, "test_fraction": 0}
    message = f"train.csv, row 4: column 'hour': expected YYMMDDHH, got {hour!r}"
    with pytest.raises(DataError) as caught:
        prepare("avazu", output_dir=tmp_path / "out", time_features=True, **options)
    assert str(caught.value) == message
    manifest = prepare("avazu", output_dir=tmp_path / "out", time_features=True, max_bad_rows=1, **options)
    assert manifest.notes["bad_rows"] == {"count": 1, "first": [message]}
    kept = [expected(i)["device_ip"] for i in range(60) if i != 2]
    assert sorted(record["device_ip"] for record in all_records(tmp_path / "out")) == sorted(kept)
    assert prepare("avazu", output_dir=tmp_path / "all", **options).records("train") == 60


def test_every_name_that_the_file_goes_by_gives_the_same_data(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prepare("avazu", raw_dir=raw, output_dir=tmp_path / "out")
    first = contents(tmp_path / "out")
    for name, zipped in (("train", True), ("train.csv", True), ("train", False)):
        directory = write_avazu(tmp_path / f"{name}-{zipped}", ROWS, name, zipped)
        prepare("avazu", raw_dir=directory, output_dir=tmp_path / "out", overwrite=True)
        assert contents(tmp_path / "out") == first


def test_the_seed_draws_the_split(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    drawn = []
    for number, seed in enumerate((1, 1, 2)):
        prepare("avazu", raw_dir=raw, output_dir=tmp_path / str(number), seed=seed, num_workers=1 + number % 2)
        drawn.append([ordered(records(tmp_path / str(number), split)) for split in ("train", "valid", "test")])
    assert drawn[0] == drawn[1]
    assert all(first != other for first, other in zip(drawn[0], drawn[2], strict=True))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",ddd2926e,", ",", "train.csv, row 2: expected 24 columns, got 23"),
        (
            "10000000000000000000,1,",
            "10000000000000000000,2,",
            "row 2: column 'click': a label must be 0 or 1, got '2'",
        ),
        ("10000000000000000001,0,", "10000000000000000001,,", "row 3: column 'click': the value is missing"),
        (",100084,", ",x,", "train.csv, row 2: column 'C20': expected an integer, got 'x'"),
        ("click,hour", "clicks,hour", "train.csv: no column 'click'; it has ['id', 'clicks', 'hour', "),
        ("click,hour,", "hour,", "train.csv: no column 'click'; it has ['id', 'hour', "),
        ("C15,C16", "C15,C15", "train.csv: column 'C15' is there twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: pathlib.Path, old: str, new: str, message: str) -> None:
    raw = write_avazu(tmp_path / "raw", 60)
    text = (raw / "train.csv").read_text()
    assert old in text
    (raw / "train.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        prepare("avazu", raw_dir=raw, output_dir=tmp_path / "out", min_count=1)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_missing_and_damaged_files(tmp_path: pathlib.Path) -> None:
    write_avazu(tmp_path / "raw", 60, "test.csv")
    with pytest.raises(FileNotFoundError, match=r"expected train.csv or train \(or .gz\); it has \['test.csv'\]"):
        prepare("avazu", raw_dir=tmp_path / "raw", output_dir=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"raw_dir is needed: the directory that holds train.csv or train"):
        prepare("avazu", output_dir=tmp_path / "out")
    zipped = write_avazu(tmp_path / "zipped", 60, "train", zipped=True) / "train.gz"
    zipped.write_bytes(zipped.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train.gz: truncated or damaged, in or after row 1"):
        prepare("avazu", raw_dir=tmp_path / "zipped", output_dir=tmp_path / "out", min_count=1)
    (tmp_path / "raw" / "train.csv").write_text("")
    with pytest.raises(DataError, match=r"train.csv: no column 'click'; it has \[''\]"):
        prepare("avazu", raw_dir=tmp_path / "raw", output_dir=tmp_path / "out")
