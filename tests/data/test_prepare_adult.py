"""The Adult loader on small files of the documented format."""

import gzip
import pathlib

import numpy as np
import pytest

from tests.data.prepared import all_records, ordered, records, vocabulary
from xdeepint_ext import data
from xdeepint_ext.data import DataError
from xdeepint_ext.data.loaders.adult import COLUMNS, NUMERIC, numeric_schema
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

WORK = ("Private", "State-gov", "?")


def row(i: int, dot: str = "") -> str:
    label = (">50K" if i % 4 == 0 else "<=50K") + dot
    return (
        f"{20 + i % 5}, {WORK[i % 3]}, {1000 + i // 2}, HS-grad, {9 + i % 2}, Divorced, Sales, Husband, White, Male, "
        f"{0 if i % 3 else 5000}, 0, 40, Peru, {label}"
    )


def write(directory: pathlib.Path, rows: int = 40, zipped: bool = False) -> pathlib.Path:
    directory.mkdir(exist_ok=True)
    train = "\n".join(row(i) for i in range(rows)) + "\n\n"
    test = "|1x3 Cross validator\n" + "\n".join(row(i, ".") for i in range(10)) + "\n\n"
    for name, text in (("adult.data", train), ("adult.test", test)):
        if zipped:
            (directory / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize("zipped", [False, True])
def test_records_hold_the_raw_values(tmp_path: pathlib.Path, zipped: bool) -> None:
    out = tmp_path / "out"
    prepare("adult", raw_dir=write(tmp_path / "raw", zipped=zipped), output_dir=out, valid_fraction=0.26)
    assert [len(records(out, split)) for split in ("train", "valid", "test")] == [40 - 11, 11, 10]  # ceil(0.26 * 40)
    expected = []
    for i in [*range(40), *range(10)]:
        values = row(i).split(", ")
        found = dict(zip(COLUMNS, ([v.encode()] for v in values), strict=True))
        found |= {name: [int(values[COLUMNS.index(name)])] for name in NUMERIC}
        found["income"] = [float(i % 4 == 0)]
        if i % 3 == 2:
            del found["workclass"]
        expected.append(found)
    assert ordered(all_records(out)) == ordered(expected)
    assert [record["fnlwgt"][0] for record in records(out, "test")] == [1000 + i // 2 for i in range(10)]


def test_statistics_come_from_the_training_split_only(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    prepare("adult", raw_dir=write(tmp_path / "raw"), output_dir=out, numeric="scaled", min_count=1)
    train = records(out, "train")
    schema = Schema.load(out)
    for name in NUMERIC:
        values = np.array([record[name][0] for record in train], float)
        assert schema[name].mean == pytest.approx(values.mean())
        assert schema[name].deviation == pytest.approx(values.std() or 1.0)
    assert not schema["workclass"].required
    assert schema["race"].required
    counts = {value: sum(record.get("workclass") == [value.encode()] for record in train) for value in WORK[:2]}
    assert vocabulary(out, "workclass") == sorted(counts, key=lambda value: (-counts[value], value))
    seen = {str(record["fnlwgt"][0]) for record in train}
    assert set(vocabulary(out, "fnlwgt_value")) == seen


@pytest.mark.parametrize(
    ("numeric", "endings"),
    [("values", ["_value"]), ("quantile", ["_bin"]), ("both", ["_value", "_bin"]), ("scaled", [""])],
)
def test_numeric_forms_need_no_second_preparation(tmp_path: pathlib.Path, numeric: str, endings: list[str]) -> None:
    raw = write(tmp_path / "raw")
    options = {"raw_dir": raw, "num_bins": 4, "min_count": 1}
    prepare("adult", output_dir=tmp_path / "one", numeric=numeric, **options)
    prepare("adult", output_dir=tmp_path / "two", numeric="quantile" if numeric != "quantile" else "both", **options)
    schema = Schema.load(tmp_path / "one")
    assert data.Manifest.load(tmp_path / "one").schema == schema.fingerprint()
    assert [f.name for f in schema.inputs if f.raw_name == "age"] == ["age" + ending for ending in endings]
    assert numeric_schema(tmp_path / "two", numeric) == schema


def test_another_numeric_form_reads_the_same_records(tmp_path: pathlib.Path) -> None:
    prepare("adult", raw_dir=write(tmp_path / "raw"), output_dir=tmp_path / "out", min_count=1, numeric="both")
    schema = numeric_schema(tmp_path / "out", "scaled")
    features, _ = next(iter(data.read(tmp_path / "out", "test", 10, schema=schema)))
    ages = np.array([20 + i % 5 for i in range(10)])
    np.testing.assert_allclose(features["age"][:, 0], (ages - schema["age"].mean) / schema["age"].deviation, rtol=1e-5)


def test_a_form_that_is_not_asked_for_may_have_no_vocabulary(tmp_path: pathlib.Path) -> None:
    raw = write(tmp_path / "raw")
    prepare("adult", raw_dir=raw, output_dir=tmp_path / "out", numeric="quantile", min_count=5)
    with pytest.raises(KeyError, match="fnlwgt_value"):
        numeric_schema(tmp_path / "out", "values")
    with pytest.raises(DataError, match="'fnlwgt_value': no value occurs min_count=5 times"):
        prepare("adult", raw_dir=raw, output_dir=tmp_path / "out2", numeric="values", min_count=5)


def test_the_seed_draws_the_validation_records(tmp_path: pathlib.Path) -> None:
    raw = write(tmp_path / "raw")
    drawn = []
    for i, seed in enumerate((1, 1, 2)):
        prepare("adult", raw_dir=raw, output_dir=tmp_path / str(i), seed=seed)
        drawn.append(sorted(record["fnlwgt"][0] for record in records(tmp_path / str(i), "valid")))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("23, Private, 1001", "x, Private, 1001", "adult.data, row 4: column 'age': expected an integer, got 'x'"),
        ("1001, HS-grad, 10", "1001, HS-grad", "adult.data, row 4: expected 15 columns, got 14"),
        ("Peru, >50K\n", "Peru, >60K\n", "adult.data, row 1: column 'income': expected a number, got '>60K'"),
        ("Peru, >50K\n", "Peru, 0.5\n", "adult.data, row 1: column 'income': a label must be 0 or 1, got '0.5'"),
        ("Peru, >50K\n", "Peru, nan\n", "adult.data, row 1: column 'income': a label must be 0 or 1, got 'nan'"),
        ("Peru, >50K\n", "Peru, ?\n", "adult.data, row 1: column 'income': expected a number, got '?'"),
        ("Peru, >50K\n", "Peru, \n", "adult.data, row 1: column 'income': the value is missing"),
    ],
)
def test_bad_rows_name_file_row_and_column(tmp_path: pathlib.Path, old: str, new: str, message: str) -> None:
    raw = write(tmp_path / "raw")
    text = (raw / "adult.data").read_text()
    assert old in text
    (raw / "adult.data").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        prepare("adult", raw_dir=raw, output_dir=tmp_path / "out")
    assert str(caught.value) == message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]
    manifest = prepare("adult", raw_dir=raw, output_dir=tmp_path / "out", max_bad_rows=1)
    assert manifest.notes["bad_rows"] == {"count": 1, "first": [message]}
    assert len(all_records(tmp_path / "out")) == 49


def test_missing_files_and_options(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected adult.data \(or .gz\); it has \[\]"):
        prepare("adult", raw_dir=tmp_path, output_dir=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="raw_dir is needed"):
        prepare("adult", output_dir=tmp_path / "out")
    raw = write(tmp_path / "raw")
    for arguments, message in (
        ({"numeric": "log"}, "numeric must be one of .*, got 'log'"),
        ({"valid_fraction": 1.5}, "valid_fraction must be in"),
        ({"history": True}, "'history' is no option of dataset 'adult'; it has"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare("adult", raw_dir=raw, output_dir=tmp_path / "out", **arguments)
    with pytest.raises(ValueError, match="numeric must be one of"):
        numeric_schema(tmp_path, "log")
