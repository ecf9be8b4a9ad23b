"""The Criteo loader on small files of the documented format."""

import gzip
import io
import math
import pathlib
import tarfile

import numpy as np
import pytest

from tests.data.prepared import all_records, ordered, records, vocabulary
from xdeepint_ext.data import DataError, read
from xdeepint_ext.data.loaders.criteo import CATEGORIES, INTEGERS, WINNERS_BOUNDARIES
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

ROWS = 1100


def text(rows: int = ROWS) -> str:
    lines = []
    for i in range(rows):
        integers = ["" if (i + j) % 5 == 0 else str((i * (j + 1)) % 900 - 2) for j in range(13)]
        categories = ["" if (i + j) % 7 == 0 else f"{i % (7 + j) if i % 5 else i % 300:08x}" for j in range(26)]
        lines.append("\t".join([str(int(i % 4 == 0)), *integers, *categories]))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("criteo")
    (directory / "train.txt").write_text(text())
    return directory


def test_records_and_split_of_the_authors_code(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    prepare("criteo", raw_dir=raw, output_dir=out, split="repo", min_count=1)
    expected = []
    for line in text().splitlines():
        label, *values = line.split("\t")
        record = {name: [int(v)] for name, v in zip(INTEGERS, values[:13], strict=True) if v}
        record |= {name: [v.encode()] for name, v in zip(CATEGORIES, values[13:], strict=True) if v}
        expected.append(record | {"label": [float(label)]})
    inside = [i % 1000 / 1000 <= 0.80 for i in range(ROWS)]
    assert records(out, "test") == [record for record, train in zip(expected, inside, strict=True) if not train]
    train = [record for record, train in zip(expected, inside, strict=True) if train]
    assert ordered(records(out, "train")) == ordered(train)
    assert records(out, "valid") == []
    schema = Schema.load(out)
    assert [f.name for f in schema.inputs] == [*INTEGERS, *CATEGORIES]
    assert not any(f.required for f in schema.inputs)


def test_the_three_binnings(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Ids against the formulas; a missing integer is id 0, bins begin at id 1."""
    formulas = {
        "log_square": lambda x: math.floor(math.log(x * x + 1)),
        # Integers up to 2 are their own values (-2 .. 2 -> 1 .. 5 here), a larger one floor(ln(x)^2), from 1.
        "winners": lambda x: math.floor(math.log(x) ** 2) + 5 if x > 2 else x + 3,
    }
    for binning, formula in formulas.items():
        out = tmp_path / binning
        prepare("criteo", raw_dir=raw, output_dir=out, min_count=1, binning=binning, num_bins=8)
        ids = np.concatenate([features["I3"].numpy()[:, 0] for features, _ in read(out, "valid", 256)])
        values = [record.get("I3") for record in records(out, "valid")]
        assert ids.tolist() == [0 if value is None else 1 + formula(value[0]) for value in values]
    prepare("criteo", raw_dir=raw, output_dir=tmp_path / "quantile", min_count=1, binning="quantile", num_bins=8)
    train = np.array([record["I3"][0] for record in records(tmp_path / "quantile", "train") if "I3" in record])
    boundaries = Schema.load(tmp_path / "quantile")["I3"].boundaries
    shares = np.bincount(np.searchsorted(boundaries, train, side="right")) / len(train)
    np.testing.assert_allclose(shares, 1 / 8, atol=0.01)


def test_the_winners_boundaries_are_their_formula() -> None:
    for x in [3, 4, 5, 7, 8, 54, 55, 1000, 10**6, 2**31 - 1]:
        bins = np.searchsorted(WINNERS_BOUNDARIES, x, side="right")
        assert bins == math.floor(math.log(x) ** 2) + 5


def test_drop_i13_and_missing_integers_as_zero(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    prepare("criteo", raw_dir=raw, output_dir=out, drop_i13=True, missing_integers="zero")
    schema = Schema.load(out)
    assert len(schema.inputs) == 38
    assert "I13" not in schema
    assert schema["I1"].required
    assert all("I13" not in record and "I12" in record for record in all_records(out))
    assert sum(record["I1"] == [0] for record in all_records(out)) >= ROWS // 5


def test_the_authors_cut_off_is_the_default(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    manifest = prepare("criteo", raw_dir=raw, output_dir=out)
    shares = [manifest.records(split) / ROWS for split in ("train", "valid", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.05)
    counts: dict[str, int] = {}
    for record in records(out, "train"):
        for value in record.get("C1", []):
            counts[value.decode()] = counts.get(value.decode(), 0) + 1
    kept = sorted((value for value in counts if counts[value] > 20), key=lambda value: (-counts[value], value))
    assert 0 < len(kept) < len(counts)
    assert vocabulary(out, "C1") == kept
    assert Schema.load(out)["C1"].num_values == len(kept)


def test_gzip_and_archive_give_the_same_records(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "gz").mkdir()
    (tmp_path / "gz" / "train.txt.gz").write_bytes(gzip.compress(text().encode()))
    (tmp_path / "tar").mkdir()
    with tarfile.open(tmp_path / "tar" / "dac.tar.gz", "w:gz") as archive:
        for name, content in (("readme.txt", "hello"), ("./train.txt", text())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    found = []
    for directory in (raw, tmp_path / "gz", tmp_path / "tar"):
        prepare("criteo", raw_dir=directory, output_dir=tmp_path / "out", overwrite=True)
        found.append([records(tmp_path / "out", split) for split in ("train", "valid", "test")])
    assert found[0] == found[1] == found[2]


def test_an_archive_without_the_member(tmp_path: pathlib.Path) -> None:
    with tarfile.open(tmp_path / "dac.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("other.txt"))
    with pytest.raises(DataError, match=r"no member train.txt in the archive"):
        prepare("criteo", raw_dir=tmp_path, output_dir=tmp_path / "out")


def test_a_damaged_archive(tmp_path: pathlib.Path) -> None:
    with tarfile.open(tmp_path / "dac.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("train.txt")
        info.size = len(text())
        archive.addfile(info, io.BytesIO(text().encode()))
    data = (tmp_path / "dac.tar.gz").read_bytes()
    for damaged, message in (
        (data[: len(data) // 2], "dac.tar.gz:train.txt: truncated or damaged, in or after row "),
        (b"no archive", "dac.tar.gz: truncated or damaged"),
    ):
        (tmp_path / "dac.tar.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            prepare("criteo", raw_dir=tmp_path, output_dir=tmp_path / "out")


def test_no_value_reaches_the_cut_off(tmp_path: pathlib.Path) -> None:
    (tmp_path / "train.txt").write_text(text(50))
    message = r"feature 'C1': no value occurs min_count=21 times in the training split, the most frequent one \d times"
    with pytest.raises(DataError, match=message):
        prepare("criteo", raw_dir=tmp_path, output_dir=tmp_path / "out")
