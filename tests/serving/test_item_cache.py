"""The item cache: what is in it, how it is brought up to date, and what it refuses."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

import xdeepint_ext
from tests.serving.catalogue import ITEMS
from xdeepint_ext.serving import CacheError, ItemCache, LoadedTowers, write_item_cache
from xdeepint_ext.serving.cache_accuracy import overlap
from xdeepint_ext.serving.cache_items import main
from xdeepint_ext.serving.rows import RowError

SMALL = {"items_per_shard": 16, "batch_size": 7}


@pytest.fixture
def shop(ranktower_shop):
    return ranktower_shop


@pytest.fixture
def vectors(shop):
    """Item id -> its representation."""
    return dict(zip(shop.ids, shop.towers.items(shop.examples())["click"], strict=True))


def counts(report):
    return {name: report[name] for name in ("items", "computed", "copied", "kept")}


def kept(cache):
    """Item id -> its representation, by reading on."""
    found = {}
    for begin, chunk in cache.chunks(5):
        ids = cache.ids(np.arange(begin, begin + len(chunk["click"])))
        found |= dict(zip(ids, chunk["click"], strict=True))
    return found


def records(shop, path, items=None):
    with tf.io.TFRecordWriter(str(path), "GZIP" if str(path).endswith(".gz") else "") as writer:
        for example in shop.examples(items):
            writer.write(example)
    return str(path)


def table(shop, path):
    cells = [[item["video"], "|".join(item["tags"]), "|".join(map(str, item["tag_weights"]))] for item in shop.items]
    path.write_text("\n".join(",".join(row) for row in [["video", "tags", "tag_weights"], *cells]))
    return str(path)


def test_every_kind_of_file_gives_the_item_tower_s_representations(shop, vectors, tmp_path):
    (tmp_path / "list.json").write_text(json.dumps(shop.items))
    files = {
        "lines": [shop.write_items(tmp_path / "lines.json")],
        "list": [str(tmp_path / "list.json")],
        "table": [table(shop, tmp_path / "items.csv")],
        "records": [
            records(shop, tmp_path / "items-0.tfrecord", shop.items[:9]),
            records(shop, tmp_path / "items-1.tfrecord.gz", shop.items[9:]),
        ],
    }
    caches = {}
    for name, paths in files.items():
        report = write_item_cache(shop.towers, paths, tmp_path / name, **SMALL)
        assert counts(report) == {"items": ITEMS, "computed": ITEMS, "copied": 0, "kept": 0}
        caches[name] = ItemCache(tmp_path / name, shop.towers.fingerprint)
        found = kept(caches[name])
        assert sorted(found) == sorted(shop.ids)
        for item, vector in found.items():
            np.testing.assert_allclose(vector, vectors[item], rtol=1e-6, atol=1e-6)
    assert len({json.dumps(cache.manifest.shards) for cache in caches.values()}) == 1  # equal items, equal shards
    cache = caches["lines"]
    assert list(cache.manifest.shards.values()) == [16, 16, 8]
    assert cache.bytes_per_item() == 2 * 5 * 4 * 4 and cache.id_dtype == "string"  # heads, 5 d, float32

    wanted = [shop.ids[33], "nobody's", shop.ids[0], shop.ids[33], shop.ids[0] + " and more"]
    positions = cache.look_up(wanted)
    assert (positions >= 0).tolist() == [True, False, True, True, False]
    assert cache.ids(positions[[0, 2, 3]]) == [wanted[0], wanted[2], wanted[3]]
    found = cache.vectors(positions[[0, 2, 3]])["click"]
    np.testing.assert_array_equal(found, [kept(cache)[wanted[i]] for i in (0, 2, 3)])


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_fewer_bytes_cost_what_the_report_says(shop, vectors, dtype, tmp_path):
    items = shop.write_items(tmp_path / "items.json")
    (tmp_path / "users.json").write_text(json.dumps(shop.users))
    report = write_item_cache(shop.towers, [items], tmp_path / "c", dtype=dtype, users=tmp_path / "users.json", **SMALL)
    cache, towers = ItemCache(tmp_path / "c"), shop.towers
    assert cache.bytes_per_item() == {"float16": 2 * 5 * 4 * 2, "int8": 2 * 5 * 4 + 2 * 2 * 4}[dtype]
    found, users = kept(cache), towers.users(shop.users)["click"]
    rounded = {"click": np.stack([found[item] for item in shop.ids])}
    logits = np.stack([towers.score({"click": users[n : n + 1]}, rounded)["click"] for n in range(len(users))])
    errors = np.abs(logits - shop.logits)
    assert errors.max() > 0
    measured = report["accuracy"]["tasks"]["click"]
    assert (report["accuracy"]["users"], report["accuracy"]["items"]) == (len(shop.users), ITEMS)
    assert measured["logit_error"]["largest"] == pytest.approx(errors.max(), rel=1e-2, abs=1e-5)
    assert measured["logit_error"]["mean"] == pytest.approx(errors.mean(), rel=1e-2, abs=1e-5)
    sigmoids = [1 / (1 + np.exp(-x.astype(np.float64))) for x in (logits, shop.logits)]
    expected = np.abs(sigmoids[0] - sigmoids[1]).max()
    assert measured["probability_error"]["largest"] == pytest.approx(expected, rel=1e-2, abs=1e-6)
    best = [overlap(exact, rough, 10) for exact, rough in zip(shop.logits, logits, strict=True)]
    assert measured["overlap"] == {"10": pytest.approx(np.mean(best))}
    assert 0.9 < measured["rank_correlation"] <= 1.0
    assert cache.manifest.accuracy == report["accuracy"]


def test_only_new_and_changed_items_are_computed_again(shop, vectors, tmp_path, monkeypatch):
    computed = []
    tower = LoadedTowers.items
    monkeypatch.setattr(LoadedTowers, "items", lambda self, x: computed.append(len(x)) or tower(self, x))
    monkeypatch.setattr("xdeepint_ext.serving.cache_items.CHECKED_ITEMS", 1)
    items = shop.write_items(tmp_path / "items.json")
    write_item_cache(shop.towers, [items], tmp_path / "c", dtype="int8", **SMALL)
    reader, before = ItemCache(tmp_path / "c"), kept(ItemCache(tmp_path / "c"))
    computed.clear()
    report = write_item_cache(shop.towers, [items], tmp_path / "c", dtype="int8", **SMALL)
    assert counts(report) == {"items": ITEMS, "computed": 0, "copied": 0, "kept": ITEMS}
    assert computed == [1]  # of the measurement

    new = {"video": "brand new", "tags": ["tag 1"], "tag_weights": [1.0]}
    changed = {**shop.items[20], "tags": ["tag 2", "tag 3"], "tag_weights": [1.0, 0.5]}
    items = shop.write_items(
        tmp_path / "items.json", [*shop.items[:16], new, *shop.items[17:20], changed, *shop.items[21:]]
    )
    computed.clear()
    report = write_item_cache(shop.towers, [items], tmp_path / "c", dtype="int8", **SMALL)
    assert counts(report) == {"items": ITEMS, "computed": 2, "copied": 14, "kept": 24}
    assert sum(computed) == 2 + 1
    after = kept(ItemCache(tmp_path / "c"))
    assert set(before) - set(after) == {shop.ids[16]} and set(after) - set(before) == {"brand new"}
    for item in set(before) & set(after) - {changed["video"]}:
        np.testing.assert_array_equal(after[item], before[item])
    fresh = shop.towers.items(shop.examples([changed, new]))["click"]
    step = np.abs(fresh).max(-1, keepdims=True) / 127
    assert np.all(np.abs(np.stack([after[changed["video"]], after["brand new"]]) - fresh) <= 0.51 * step)
    for item, vector in kept(reader).items():  # who had opened the old cache still has it
        np.testing.assert_array_equal(vector, before[item])

    def shards():
        return {name for name in os.listdir(tmp_path / "c") if name.startswith("shard-")}

    assert shards() == {*reader.manifest.shards, *ItemCache(tmp_path / "c").manifest.shards}
    report = write_item_cache(shop.towers, [items], tmp_path / "c", dtype="float32", **SMALL)
    assert counts(report)["computed"] == ITEMS  # int8 cannot become float32
    write_item_cache(shop.towers, [items], tmp_path / "c", dtype="float32", **SMALL)
    assert shards() == {*ItemCache(tmp_path / "c").manifest.shards}


KILLED = """
import sys, time
from xdeepint_ext.serving import cache_items
write = cache_items.write_shard
def slow(folder, name, arrays):
    if len(list(__import__("pathlib").Path(folder).glob("shard-*"))) == 2:
        (__import__("pathlib").Path(folder) / ".writing-half").mkdir()
        print("two shards", flush=True)
        time.sleep(600)
    write(folder, name, arrays)
cache_items.write_shard = slow
sys.exit(cache_items.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_job_goes_on_behind_its_last_shard(shop, tmp_path):
    items = shop.write_items(tmp_path / "items.json")
    root = pathlib.Path(xdeepint_ext.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.fspath(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    options = [f"--model={shop.folder}", "--items", items, f"--output={tmp_path / 'c'}"]
    options += [f"--{name}={value}" for name, value in SMALL.items()]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout.readline() == b"two shards\n"
        with pytest.raises(CacheError, match="another job is writing"):
            write_item_cache(shop.towers, [items], tmp_path / "c", **SMALL)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with pytest.raises(CacheError, match=r"is no item cache: no manifest\.json"):
        ItemCache(tmp_path / "c")
    old = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "c").glob("shard-*")}
    time.sleep(0.01)
    report = write_item_cache(shop.towers, [items], tmp_path / "c", **SMALL)
    assert counts(report) == {"items": ITEMS, "computed": 8, "copied": 0, "kept": 32}
    assert {name: (tmp_path / "c" / name).stat().st_mtime_ns for name in old} == old
    assert not list((tmp_path / "c").glob(".writing-*"))
    write_item_cache(shop.towers, [items], tmp_path / "whole", **SMALL)
    for name in ItemCache(tmp_path / "c").manifest.shards:
        for file in (tmp_path / "whole" / name).iterdir():
            assert file.read_bytes() == (tmp_path / "c" / name / file.name).read_bytes()


def test_another_model_s_cache_is_refused(shop, tmp_path):
    items = shop.write_items(tmp_path / "items.json")
    write_item_cache(shop.towers, [items], tmp_path / "c", **SMALL)
    manifest = tmp_path / "c" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "fingerprint": "0123456789abcdef"}))
    own = shop.towers.fingerprint
    with pytest.raises(CacheError, match=f"is of model 0123456789abcdef, but this model is {own}"):
        ItemCache(tmp_path / "c", own)
    with pytest.raises(CacheError, match=r"is of model 0123456789abcdef, .*; write to another folder, or overwrite"):
        write_item_cache(shop.towers, [items], tmp_path / "c", **SMALL)
    write_item_cache(shop.towers, [items], tmp_path / "c", **SMALL, overwrite=True)
    assert ItemCache(tmp_path / "c", own).manifest == ItemCache(tmp_path / "c").manifest


def test_a_damaged_cache_is_named(shop, tmp_path):
    items = shop.write_items(tmp_path / "items.json")
    write_item_cache(shop.towers, [items], tmp_path / "c", **SMALL)
    shard = tmp_path / "c" / next(iter(ItemCache(tmp_path / "c").manifest.shards))
    values = shard / "click.values.npy"
    whole = values.read_bytes()
    values.write_bytes(whole[:-9])
    with pytest.raises(CacheError, match=re.escape(f"{values} is damaged")):
        ItemCache(tmp_path / "c")
    np.save(values, np.zeros((3, 2, 20), np.float32))
    with pytest.raises(CacheError, match=r"is damaged: \['click.values'\] have another length than ids, 16"):
        ItemCache(tmp_path / "c")
    np.save(values, np.zeros((16, 3), np.float32))
    with pytest.raises(
        CacheError, match=r"says 16 items of {'click': \[2, 20\]}, but there are 16 of {'click': \[3\]}"
    ):
        ItemCache(tmp_path / "c")
    values.unlink()
    with pytest.raises(CacheError, match=r"is damaged: .*click\.values\.npy"):
        ItemCache(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").write_text('{"format": 7}')
    with pytest.raises(CacheError, match="is no item cache's manifest of format 1"):
        ItemCache(tmp_path / "c")


def broken(shop, number, **changes):
    return [{**item, **changes} if n == number else item for n, item in enumerate(shop.items)]


def test_bad_items_are_named(shop, tmp_path, monkeypatch):
    path = tmp_path / "items.json"
    good = shop.write_items(tmp_path / "good.json")

    def message(items, error=CacheError, **options):
        with pytest.raises(error) as caught:
            write_item_cache(shop.towers, [items], tmp_path / "c", **{**SMALL, **options})
        return str(caught.value)

    for file in (
        shop.write_items(path, broken(shop, 21, video=None)),
        records(shop, tmp_path / "a.tfrecord", broken(shop, 21, video="")),
    ):
        assert message(file) == f"{file}, item 22: no id in column 'video'"
    twice = shop.write_items(path, broken(shop, 35, video=shop.ids[3]))
    assert re.fullmatch(rf"{re.escape(twice)}, item \d+: item id '{shop.ids[3]}' occurs twice; .*", message(twice))
    assert "row 9, column 'tags': expected a list, got 3" in message(
        shop.write_items(path, broken(shop, 8, tags=3)), RowError
    )
    lacking = [item if n != 30 else {"video": item["video"], "tags": []} for n, item in enumerate(shop.items)]
    assert "items.json: row 31: no column 'tag_weights'" in message(shop.write_items(path, lacking), RowError)
    path.write_text('{"video": "v1", \n')
    assert "items.json: row 1 is not JSON" in message(str(path), RowError)
    path.write_text("video,tags,tag_weights\nv1,,\nv2,\n")
    assert "items.json: row 2: expected 3 cells" in message(str(path), RowError)
    path.write_text("video,tags,tag_weights\n")
    assert message(str(path)) == "items: the files hold no item"
    # One weight too few, which only the tower's preprocessing can see.
    short = records(shop, tmp_path / "b.tfrecord", broken(shop, 27, tags=["tag 1", "tag 2"], tag_weights=[1.0]))
    assert f"{short}, item 28: " in message(short) and "tag_weights" in message(short)
    file = pathlib.Path(records(shop, tmp_path / "d.tfrecord"))
    file.write_bytes(file.read_bytes()[:-3])
    assert f"{file}: damaged after item" in message(str(file))
    with monkeypatch.context() as patched:
        patched.setattr(
            shop.towers, "items", lambda examples: {"click": np.full((len(examples), 2, 20), 1e6, np.float32)}
        )
        large = message(good, dtype="float16")
    assert re.search(r"good.json, item \d+, id 'v\d+': a representation holds 1000000.0, too large for float16", large)
    assert "id_column must be one of ['video'], a column of one text" in message(good, id_column="tags")
    assert "no file" in message(str(tmp_path / "nothing.json"), FileNotFoundError)
    assert "dtype must be one of" in message(good, ValueError, dtype="int4")
    assert "batch_size must be >= 1, got 0" in message(good, ValueError, batch_size=0)
    (tmp_path / "c" / "thesis.txt").write_text("mine")
    assert "exists and is no item cache: it holds ['thesis.txt']" in message(good)


def test_positions_and_ids_of_the_wrong_kind_are_named(shop, tmp_path):
    write_item_cache(shop.towers, [shop.write_items(tmp_path / "items.json")], tmp_path / "c", **SMALL)
    cache = ItemCache(tmp_path / "c")
    with pytest.raises(CacheError, match="item id 2 must be text, got 7"):
        cache.look_up(["v1", 7])
    with pytest.raises(CacheError, match="item ids of the cache are of type string, got int64"):
        cache.look_up(np.array([1, 2]))
    with pytest.raises(CacheError, match=r"positions must be in 0 \.\. 39, got -1"):
        cache.vectors(cache.look_up(["nobody's"]))


def test_the_command_says_what_it_did(shop, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("xdeepint_ext.serving.cache_items.as_towers", lambda folder: shop.towers)  # which takes seconds
    items = shop.write_items(tmp_path / "items.json")
    arguments = [f"--model={shop.folder}", "--items", items, f"--output={tmp_path / 'c'}", "--dtype=int8"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("40 items: 40 computed, 0 copied, 0 in shards that were there\n56 bytes an item\n")
    assert "beside the tower in float32, 3 users and 40 items:\n  click: logit error " in printed.out
    assert "of the best 10 kept" in printed.out and "item cache:  40 items" in printed.err
    assert main([*arguments[:-1], "--id_column=tags"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("cache_items: id_column must be one of ['video']")
