"""What `prepare` promises whatever the data: one result, all or nothing, and clear errors."""

import dataclasses
import gzip
import os
import pathlib
import resource

import pytest

from tests.data.prepared import all_records, contents, records
from xdeepint_ext.data import DataError, Manifest, read
from xdeepint_ext.data import prepare as prepare_module
from xdeepint_ext.data import raw as raw_module
from xdeepint_ext.data.manifest import describe_tables
from xdeepint_ext.data.materialize import materialize
from xdeepint_ext.data.prepare import describe, prepare
from xdeepint_ext.schema import Feature, Schema

ROWS = 3000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("raw")
    Schema(
        [
            Feature("word"),
            Feature("tags", "multi", max_length=3, table="word"),
            Feature("x", "numeric"),
            Feature("x_bin", "numeric", source="x", binning="quantile", num_bins=5),
            Feature("click", "numeric", "label"),
        ]
    ).save(directory)
    lines = [f"w{i * i % 53},w{i % 7}|v{i % 11},{i * 37 % 1009 / 7},{i % 2}" for i in range(ROWS)]
    (directory / "log.csv").write_text("word,tags,x,click\n" + "\n".join(lines) + "\n")
    return directory


@pytest.fixture(scope="module")
def prepared(raw: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare("csv", raw_dir=raw, output_dir=out)
    return out


def small_blocks(monkeypatch: pytest.MonkeyPatch, size: int = 4096) -> None:
    monkeypatch.setattr(raw_module.read_blocks, "__defaults__", (size,))


def test_the_manifest_tells_what_is_there(prepared: pathlib.Path) -> None:
    manifest = Manifest.load(prepared)
    schema = Schema.load(prepared)
    assert manifest.schema == schema.fingerprint()
    assert manifest.tables == describe_tables(schema, prepared / "vocabulary")
    assert len(manifest.shards("train")) == 4
    for split, shards in manifest.splits.items():
        assert manifest.records(split) == len(records(prepared, split))
        assert [shard.bytes for shard in shards] == [(prepared / shard.file).stat().st_size for shard in shards]
    named = {shard.file for shards in manifest.splits.values() for shard in shards}
    assert set(contents(prepared)) == named | {"manifest.json", "schema.pbtxt", "vocabulary/word.txt"}
    for split in manifest.splits:
        labels = [record["click"][0] for record in records(prepared, split)]
        assert manifest.notes["label_mean"][split]["click"] == pytest.approx(sum(labels) / len(labels))


def test_workers_do_not_change_a_byte(
    raw: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    found = []
    for workers in (1, 3):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / str(workers), num_workers=workers)
        found.append(contents(tmp_path / str(workers)))
    assert found[0] == found[1]


def test_blocks_change_nothing_but_the_last_digits_of_the_moments(
    raw: pathlib.Path, prepared: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, 1000)
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    one, two = (Schema.load(directory)["x"] for directory in (prepared, tmp_path / "out"))
    assert (one.mean, one.deviation) == (pytest.approx(two.mean, rel=1e-12), pytest.approx(two.deviation, rel=1e-12))
    shown = [contents(directory) for directory in (prepared, tmp_path / "out")]
    assert {name for name in shown[0] if shown[0][name] != shown[1][name]} <= {"manifest.json", "schema.pbtxt"}


def test_gzip_input_and_output(raw: pathlib.Path, prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    zipped = tmp_path / "raw"
    zipped.mkdir()
    (zipped / "schema.pbtxt").write_bytes((raw / "schema.pbtxt").read_bytes())
    (zipped / "log.csv.gz").write_bytes(gzip.compress((raw / "log.csv").read_bytes()))
    manifest = prepare("csv", raw_dir=zipped, output_dir=tmp_path / "out", compression="GZIP")
    assert all(shard.file.endswith(".tfrecord.gz") for shard in manifest.shards("train"))
    plain = contents(prepared)
    for name, data in contents(tmp_path / "out").items():
        if name.endswith(".gz"):
            assert gzip.decompress(data) == plain[name.removesuffix(".gz")]
    assert len(list(read(tmp_path / "out", "valid", 64))) == -(-manifest.records("valid") // 64)


def test_shards_have_a_size(raw: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "one", num_shards=2)
    manifest = prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", num_shards=2, shard_bytes=20_000)
    assert len(manifest.shards("train")) > 4
    assert len(manifest.shards("test")) > 1
    largest = max(shard.bytes for shards in manifest.splits.values() for shard in shards)
    assert 20_000 <= largest < 20_000 + 3 * 4096
    # Validation and test records keep the order of the raw file.
    assert records(tmp_path / "out", "test") == records(tmp_path / "one", "test")
    assert len(all_records(tmp_path / "out")) == ROWS


def test_few_records_make_no_empty_shard(tmp_path: pathlib.Path) -> None:
    Schema([Feature("a"), Feature("y", "numeric", "label")]).save(tmp_path)
    (tmp_path / "train.csv").write_text("a,y\nq,1\n")
    manifest = prepare("csv", raw_dir=tmp_path, output_dir=tmp_path / "out")
    assert [shard.records for shard in manifest.shards("train")] == [1]


def test_an_existing_directory_stays_as_it_is(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="exists and is not empty; overwrite replaces it"):
        prepare("csv", raw_dir=raw, output_dir=out)
    assert contents(out) == {"mine": b"precious"}
    with pytest.raises(DataError):
        prepare("csv", raw_dir=_damaged(raw, tmp_path), output_dir=out, overwrite=True)
    assert contents(out) == {"mine": b"precious"}
    prepare("csv", raw_dir=raw, output_dir=out, overwrite=True)
    assert "mine" not in contents(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged", "out"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file, expected a directory or nothing"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "file")
    (tmp_path / "empty").mkdir()
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "empty")


def _damaged(raw: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "damaged"
    directory.mkdir()
    (directory / "schema.pbtxt").write_bytes((raw / "schema.pbtxt").read_bytes())
    zipped = gzip.compress((raw / "log.csv").read_bytes())
    (directory / "log.csv.gz").write_bytes(zipped[: len(zipped) // 2])
    return directory


def test_a_truncated_gzip_file_names_file_and_row(
    raw: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    with pytest.raises(
        DataError, match=r"log.csv.gz: truncated or damaged, in or after row \d{3,}: Compressed file ended"
    ):
        prepare("csv", raw_dir=_damaged(raw, tmp_path), output_dir=tmp_path / "out", max_bad_rows=10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged"]


def test_an_empty_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "adult.data").write_text("")
    (tmp_path / "adult.test").write_text("")
    with pytest.raises(DataError, match=r"adult.data is empty"):
        prepare("adult", raw_dir=tmp_path, output_dir=tmp_path / "out")


def test_a_record_without_an_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_module, "MAX_RECORD_BYTES", 1000)
    small_blocks(monkeypatch, 100)
    (tmp_path / "train.txt").write_bytes(b"1\t2\n" + bytes(5000))
    with pytest.raises(DataError, match=r"train.txt, row 2: longer than 64 MiB; not a text file, or an unclosed quote"):
        prepare("criteo", raw_dir=tmp_path, output_dir=tmp_path / "out", max_bad_rows=9)


def test_bad_rows_are_skipped_up_to_the_number_allowed(
    raw: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    lines = (raw / "log.csv").read_text().splitlines()
    for number in (1000, 20, 2000):
        lines[number - 1] = "only one"
    (tmp_path / "log.csv").write_text("\n".join(lines))
    (tmp_path / "schema.pbtxt").write_bytes((raw / "schema.pbtxt").read_bytes())
    messages = [f"log.csv, row {number}: expected 4 columns, got 1" for number in (20, 1000, 2000)]
    with pytest.raises(DataError) as caught:
        prepare("csv", raw_dir=tmp_path, output_dir=tmp_path / "out", max_bad_rows=2)
    head = "more than max_bad_rows=2 records cannot be read; the first:"
    assert str(caught.value) == "\n  ".join([head, *messages])
    manifest = prepare("csv", raw_dir=tmp_path, output_dir=tmp_path / "out", max_bad_rows=3)
    assert manifest.notes["bad_rows"] == {"count": 3, "first": messages}
    assert len(all_records(tmp_path / "out")) == ROWS - 3
    assert "3 records could not be read and were skipped" in describe("out", manifest)


def test_a_full_disk_leaves_nothing(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A limit on the size of files makes writing fail as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large .while writing .*out"):
            prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(
    raw: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        assert list(tmp_path.iterdir()) != []
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_module.ShardWriter, "finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _end_the_process(block: raw_module.Block) -> None:
    """A parser that does what the kernel does where memory is short."""
    os._exit(1)


def test_a_killed_worker_is_an_error(
    raw: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prepare_module.make_loader("csv", {}).open(str(raw), 0)
    monkeypatch.setattr(
        type(prepare_module.make_loader("csv", {})),
        "open",
        lambda *_: dataclasses.replace(real, parse=_end_the_process),
    )
    with pytest.raises(ChildProcessError, match="a worker process was killed"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "out", num_workers=2)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(raw: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        prepare("csv", raw_dir=raw, output_dir=tmp_path / "file" / "out")


def test_counts_on_disk_give_the_same_vocabulary(
    raw: pathlib.Path, prepared: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdeepint_ext.data import vocabulary as vocabulary_module

    small_blocks(monkeypatch)
    monkeypatch.setattr(vocabulary_module.ValueCounter.__init__, "__defaults__", (5,))
    prepare("csv", raw_dir=raw, output_dir=tmp_path / "out")
    assert contents(tmp_path / "out")["vocabulary/word.txt"] == contents(prepared)["vocabulary/word.txt"]
    assert Manifest.load(tmp_path / "out").tables == Manifest.load(prepared).tables


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"compression": "ZLIB"}, "compression must be '' or 'GZIP', got 'ZLIB'"),
        ({"num_workers": 0}, "num_workers must be >= 1, got 0"),
        ({"min_count": 0}, "min_count must be >= 1, got 0"),
        ({"max_bad_rows": -1}, "max_bad_rows must be >= 0, got -1"),
        ({"dataset": "movies"}, "dataset must be one of .*, got 'movies'"),
        ({"label_values": "some"}, "label_values must be one of .*, got 'some'"),
    ],
)
def test_arguments_out_of_range(raw: pathlib.Path, tmp_path: pathlib.Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(**{"dataset": "csv", "raw_dir": raw, "output_dir": tmp_path / "out", **arguments})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_materialized_records_give_the_same_batches(
    raw: pathlib.Path, prepared: pathlib.Path, tmp_path: pathlib.Path, compression: str
) -> None:
    out = tmp_path / "out"
    if compression:
        prepare("csv", raw_dir=raw, output_dir=out, materialize=True, compression=compression)
    else:
        materialize(prepared, out)
    before, after = Manifest.load(prepared), Manifest.load(out)
    assert after.packed is not None and after.packed["ids"] == 1 + 3 + 1
    assert (after.tables, after.schema) == (before.tables, before.schema)
    sizes = [[shard.records for shard in manifest.splits["train"]] for manifest in (before, after)]
    assert sizes[0] == sizes[1]
    for split in ("test",) if compression else tuple(before.splits):
        for (one, label), (two, same) in zip(read(prepared, split, 500), read(out, split, 500), strict=True):
            assert {name: value.numpy().tolist() for name, value in one.items()} == {
                name: value.numpy().tolist() for name, value in two.items()
            }
            assert label.numpy().tolist() == same.numpy().tolist()
    with pytest.raises(DataError, match="materialised records already"):
        materialize(out, tmp_path / "again")
    assert not (tmp_path / "again").exists()
