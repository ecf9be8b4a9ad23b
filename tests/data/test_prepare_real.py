"""The loaders on the real data sets, against the published counts."""

import gzip
import pathlib
from collections.abc import Callable

import pytest

from tests.data.prepared import records
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

SharedData = Callable[[str], pathlib.Path]


def _sizes(manifest) -> list[int]:
    return [manifest.records(split) for split in ("train", "valid", "test")]


def test_adult(shared_data: SharedData, tmp_path: pathlib.Path) -> None:
    manifest = prepare("adult", raw_dir=shared_data("adult_uci"), output_dir=tmp_path / "out")
    assert _sizes(manifest) == [26_048, 6_513, 16_281]
    # UCI's description: 23.93 % of all 48,842 rows are above 50 K.
    means = manifest.notes["label_mean"]
    share = sum(means[s]["income"] * n for s, n in zip(means, _sizes(manifest), strict=True)) / 48_842
    assert share == pytest.approx(0.2393, abs=5e-5)
    assert means["test"]["income"] * 16_281 == pytest.approx(3_846)
    schema = Schema.load(tmp_path / "out")
    assert {f.raw_name for f in schema if not f.required} == {"workclass", "occupation", "native_country"}
    assert len({f.raw_name for f in schema.inputs}) == 14
    assert schema["education"].num_values == 16


@pytest.mark.slow
def test_kuairand(shared_data: SharedData, tmp_path: pathlib.Path) -> None:
    raw = shared_data("kuairand")
    manifest = prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "out", history=True, num_workers=1)
    assert _sizes(manifest) == [185_061, 13_834, 29_434]
    means = manifest.notes["label_mean"]
    clicks = sum(means[s]["is_click"] * n for s, n in zip(means, _sizes(manifest), strict=True))
    assert clicks / 228_329 == pytest.approx(0.442, abs=5e-4)
    assert not {"records_without_user_features", "records_without_video_features"} & set(manifest.notes)
    with gzip.open(raw / "user_history_until_20220424.tsv.gz", "rt") as stream:
        rows = [line.rstrip("\n").split("\t") for line in stream][1:]
    watched = {int(row[0]): [int(video) for video in row[3].split()] for row in rows}
    for record in records(tmp_path / "out", "valid"):
        assert record["history_watched"] == watched.get(record["user_id"][0], [])


def test_movielens(shared_data: SharedData, tmp_path: pathlib.Path) -> None:
    manifest = prepare("movielens", raw_dir=shared_data("movielens_latest_small"), output_dir=tmp_path / "out")
    sizes = _sizes(manifest)
    assert sum(sizes) == 100_836
    assert sizes[2] == pytest.approx(10_084, abs=50)
    means = manifest.notes["label_mean"]
    positives = sum(means[s]["label"] * n for s, n in zip(means, sizes, strict=True))
    assert positives == pytest.approx(48_580)
    assert Schema.load(tmp_path / "out")["genres"].num_values == 19
