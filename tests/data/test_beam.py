"""`prepare` on Apache Beam makes what the local path makes."""

import pathlib
import subprocess
import sys

import pytest

from tests.data.prepared import contents, ordered, records
from tests.data.test_prepare import small_blocks
from xdeepint_ext.data import DataError, Manifest
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Feature, Schema

pytest.importorskip("apache_beam", reason="needs the extra beam")

ROWS = 900
RUNNER = "DirectRunner"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("raw")
    Schema(
        [
            Feature("word", min_count=3),
            Feature("tags", "multi", max_length=3, table="word", min_count=3),
            Feature("x", "numeric"),
            Feature("x_bin", "numeric", source="x", binning="quantile", num_bins=5),
            Feature("click", "numeric", "label"),
        ]
    ).save(directory)
    lines = [f"w{i * i % 53},w{i % 7}|v{i % 311},{i * 37 % 1009 / 7},{i % 2}" for i in range(ROWS)]
    (directory / "log.csv").write_text("word,tags,x,click\n" + "\n".join([*lines, "w1,v1,much,1"]) + "\n")
    return directory


def without_shards(directory: pathlib.Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(directory).items() if "tfrecord" not in name}


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_the_content_is_that_of_the_local_path(raw, tmp_path, monkeypatch, compression):
    small_blocks(monkeypatch)
    options = {"raw_dir": raw, "compression": compression, "max_bad_rows": 1, "num_workers": 1}
    local, beam = tmp_path / "local", tmp_path / "beam"
    expected = prepare("csv", output_dir=local, **options)
    found = prepare("csv", output_dir=beam, runner=RUNNER, **options)
    assert found.notes == expected.notes and found.notes["bad_rows"]["count"] == 1
    assert found.tables == expected.tables and found.schema == expected.schema
    # Vocabularies in their order, bins and moments to the last digit.
    assert without_shards(beam).keys() == without_shards(local).keys()
    for name, data in without_shards(local).items():
        if name != "manifest.json":
            assert without_shards(beam)[name] == data, name
    for split in ("train", "valid", "test"):
        assert found.records(split) == expected.records(split) > 0
        assert ordered(records(beam, split)) == ordered(records(local, split))
        for shard in found.shards(split):
            assert shard.bytes == (beam / shard.file).stat().st_size


def test_small_data_have_the_same_files(raw, tmp_path):
    options = {"raw_dir": raw, "max_bad_rows": 1, "num_workers": 1}
    prepare("csv", output_dir=tmp_path / "local", **options)
    prepare("csv", output_dir=tmp_path / "beam", runner=RUNNER, **options)
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


def test_shards_end_with_their_blocks(raw, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    options = {"raw_dir": raw, "max_bad_rows": 1, "num_workers": 1, "shard_bytes": 1, "num_shards": 2}
    prepare("csv", output_dir=tmp_path / "local", **options)
    found = prepare("csv", output_dir=tmp_path / "beam", runner=RUNNER, **options)
    assert len(found.shards("train")) > 4
    assert [shard.file for shard in found.shards("train")] == sorted(shard.file for shard in found.shards("train"))
    assert Manifest.load(tmp_path / "beam").splits == found.splits
    for split in ("train", "test"):
        assert ordered(records(tmp_path / "beam", split)) == ordered(records(tmp_path / "local", split))


def test_what_is_refused(raw, tmp_path):
    with pytest.raises(DataError, match=r"log.csv, row 902: column 'x'"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", runner=RUNNER)
    with pytest.raises(DataError, match=r"no value occurs min_count=1000 times .*, the most frequent one 1\d\d times"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", runner=RUNNER, max_bad_rows=1, min_count=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_takes_a_runner_and_its_options(raw, tmp_path):
    flags = ["--dataset=csv", f"--raw_dir={raw}", f"--output_dir={tmp_path / 'out'}", "--max_bad_rows=1"]
    flags += [f"--runner={RUNNER}", "--beam_args=--direct_num_workers=2 --direct_running_mode=multi_processing"]
    command = [sys.executable, "-m", "xdeepint_ext.data.prepare", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "records in 4 shards" in done.stdout
