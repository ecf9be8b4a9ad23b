"""Ranking with kept items: the same items and scores as the model itself, in bounded memory."""

import json
import os
import pathlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import xdeepint_ext
from tests.serving.catalogue import ITEMS
from tests.serving.test_query import BLOCKED
from xdeepint_ext.serving import CacheError, LoadedTowers, Preranker, write_item_cache
from xdeepint_ext.serving.cache_shard import shard_name, write_shard
from xdeepint_ext.serving.item_cache import CacheManifest, ItemCache
from xdeepint_ext.serving.prerank import _Best, main


@pytest.fixture
def shop(ranktower_shop):
    return ranktower_shop


@pytest.fixture(scope="module")
def cache(ranktower_shop, tmp_path_factory):
    shop, folder = ranktower_shop, tmp_path_factory.mktemp("cache")
    write_item_cache(shop.towers, [shop.write_items(folder / "items.json")], folder / "c")
    return os.fspath(folder / "c")


@pytest.mark.parametrize("items_at_once", [3, 16384])
def test_the_best_of_all_items_are_the_model_s(shop, cache, items_at_once):
    preranker = Preranker(shop.towers, cache, items_at_once=items_at_once)
    for top_k in (5, ITEMS + 1):
        for user, ranked in enumerate(preranker.rank(shop.users, top_k)):
            shop.check_best(user, shop.ids, top_k, ranked.items, ranked.logits)
            np.testing.assert_allclose(ranked.probabilities, 1 / (1 + np.exp(-np.float64(ranked.logits))), rtol=1e-6)


def test_candidates_are_each_user_s_own(shop, cache):
    candidates = [shop.ids[:9], shop.ids[30:33], []]
    ranked = Preranker(shop.towers, cache, items_at_once=4).rank(shop.users, 4, candidates)
    for user, ids in enumerate(candidates):
        shop.check_best(user, ids, 4, ranked[user].items, ranked[user].logits)


def test_a_candidate_named_twice_is_ranked_once(shop, cache):
    ids = [shop.ids[n] for n in (4, 2, 4, 7, 2)]
    (ranked,) = Preranker(shop.towers, cache).rank(shop.users[:1], 4, [ids])
    shop.check_best(0, [shop.ids[n] for n in (4, 2, 7)], 4, ranked.items, ranked.logits)


def test_candidates_that_the_cache_lacks_are_an_error_or_counted(shop, cache):
    candidates = [[shop.ids[0], "gone", shop.ids[1], "lost"], [shop.ids[2]], ["gone"]]
    with pytest.raises(CacheError, match=r"row 1: 2 of 4 candidates are not in the item cache .* first is 'gone'"):
        Preranker(shop.towers, cache).rank(shop.users, 4, candidates)
    preranker = Preranker(shop.towers, cache, unknown_items="skip")
    ranked = preranker.rank(shop.users, 4, candidates)
    assert [found.not_in_cache for found in ranked] == [2, 0, 1] and preranker.not_in_cache == 3
    shop.check_best(0, shop.ids[:2], 4, ranked[0].items, ranked[0].logits)
    assert ranked[2].items == []


def test_bad_input_is_named(shop, cache, monkeypatch):
    preranker = Preranker(shop.towers, cache)
    with monkeypatch.context() as patched:
        scores = iter([np.zeros(ITEMS), np.r_[np.zeros(ITEMS - 1), np.nan]])
        patched.setattr(preranker.towers, "score", lambda user, items: {"click": next(scores)})
        with pytest.raises(ValueError, match="row 2: the model's score of an item is nan"):
            preranker.rank(shop.users, 3)
    with pytest.raises(ValueError, match="row 1: no column 'age'"):
        preranker.rank([{"user": 1}], 3)
    with pytest.raises(ValueError, match="top_k must be >= 1, got 0"):
        preranker.rank(shop.users, 0)
    with pytest.raises(ValueError, match="a list for each of the 3 rows, got 1"):
        preranker.rank(shop.users, 3, [[]])
    with pytest.raises(ValueError, match=r"unknown_items must be one of \('error', 'skip'\), got 'zero'"):
        Preranker(shop.towers, cache, unknown_items="zero")
    with pytest.raises(ValueError, match="items_at_once must be >= 1, got 0"):
        Preranker(shop.towers, cache, items_at_once=0)
    with pytest.raises(ValueError, match=r"task must be one of \['click'\], got 'like'"):
        Preranker(shop.towers, cache, task="like")


def test_a_model_of_several_tasks_wants_one_named():
    towers = object.__new__(LoadedTowers)
    towers.tasks = ("click", "like")
    assert towers.task("like") == "like"
    with pytest.raises(ValueError, match=r"task: the model has several, \['click', 'like'\]; name one"):
        towers.task(None)


def test_of_equal_scores_the_earlier_is_better():
    random = np.random.default_rng(3)
    logits = random.integers(0, 6, 97).astype(np.float32)
    for top_k in (1, 8, 200):
        for size in (1, 10, 97):
            found = _Best(top_k)
            for begin in range(0, 97, size):
                found.add(begin, logits[begin : begin + size])
            expected = sorted(range(97), key=lambda n: (-logits[n], n))[:top_k]
            assert found.places.tolist() == expected
            np.testing.assert_array_equal(found.logits, logits[expected])


class Plain(LoadedTowers):
    """Towers without a model: a score is an inner product of what is kept."""

    def __init__(self, width):
        self.tasks, self.fingerprint, self.width = ("click",), "none", width

    def users(self, rows, **options):
        return {"click": np.ones((len(rows), self.width), np.float32)}

    def score(self, user, items):
        return {"click": np.asarray(items["click"]) @ user["click"][0]}


@pytest.mark.parametrize("dtype", [np.int64, "S8"], ids=["numbers", "text"])
def test_memory_is_that_of_a_chunk(dtype, tmp_path):
    width, shard, shards, chunk, top_k = 256, 4096, 6, 128, 20
    names, random = {}, np.random.default_rng(4)
    values = random.normal(size=(shards * shard, width)).astype(np.float32)
    for number in range(shards):
        rows = np.arange(number * shard, (number + 1) * shard)
        ids = rows if dtype is np.int64 else np.array([f"{row:08d}" for row in rows], dtype)
        arrays = {"ids": ids, "fingerprints": rows.astype(np.uint64)}
        name = shard_name("none", "float32", *arrays.values())
        write_shard(tmp_path, name, {**arrays, "click.values": values[rows]})
        names[name] = shard
    CacheManifest("none", "float32", {"click": [width]}, names).save(tmp_path)
    preranker = Preranker(Plain(width), tmp_path, items_at_once=chunk)
    tracemalloc.start()
    try:
        (ranked,) = preranker.rank([{}], top_k)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    expected = np.argsort(-values.sum(1), kind="stable")[:top_k].tolist()
    assert ranked.items == (expected if dtype is np.int64 else [f"{row:08d}" for row in expected])
    one_chunk = chunk * width * 4
    assert peak < 8 * one_chunk < values.nbytes / 20
    cache = ItemCache(tmp_path)
    wanted = np.array([7, shards * shard, 5000]) if dtype is np.int64 else [b"00000007", b"99999999", "00005000"]
    assert cache.look_up(wanted).tolist() == [7, -1, 5000]
    assert cache.id_dtype == ("int" if dtype is np.int64 else "string")


def lines(printed):
    return [json.loads(line) for line in printed.splitlines()]


def test_the_commands_need_tensorflow_alone(shop, tmp_path):
    """Cache and ranking, in a process that cannot import Keras or the training code."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        "from xdeepint_ext.serving import cache_items, prerank\n"
        "model, items, cache = sys.argv[1:]\n"
        "options = ['--items', items, f'--output={cache}', '--dtype=float16']\n"
        "assert cache_items.main([f'--model={model}', *options]) == 0\n"
        "sys.exit(prerank.main([f'--model={model}', f'--cache={cache}', '--top_k=3']))"
    )
    root = pathlib.Path(xdeepint_ext.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.fspath(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    arguments = [os.path.dirname(shop.folder), shop.write_items(tmp_path / "items.json"), os.fspath(tmp_path / "c")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = lines(done.stdout[done.stdout.index("{") :])
    assert len(found) == len(shop.users)  # those of sample_rows.json
    for user, line in enumerate(found):
        logits = [shop.logits[user, shop.ids.index(item)] for item in line["items"]]
        np.testing.assert_allclose(line["logit"], logits, rtol=0.02, atol=0.02)
        np.testing.assert_allclose(line["probability"], 1 / (1 + np.exp(-np.float64(line["logit"]))), rtol=1e-5)
        assert len(line["items"]) == 3 and line["logit"] == sorted(line["logit"], reverse=True)


def test_the_command_takes_candidates_from_a_column(shop, cache, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("xdeepint_ext.serving.prerank.LoadedTowers", lambda folder: shop.towers)  # which takes seconds
    users = [
        {**user, "shown": [shop.ids[n], "gone", shop.ids[n + 1]], "note": "x"} for n, user in enumerate(shop.users)
    ]
    (tmp_path / "users.json").write_text(json.dumps(users))
    arguments = [f"--model={shop.folder}", f"--cache={cache}", f"--input={tmp_path / 'users.json'}"]
    assert main([*arguments, "--candidates=shown", "--unknown_items=skip"]) == 0
    printed = capsys.readouterr()
    for user, line in enumerate(lines(printed.out)):
        shop.check_best(user, shop.ids[user : user + 2], 2, line["items"], line["logit"])
        assert line["not_in_cache"] == 1
    assert "columns that the model does not take: ['note']" in printed.err
    assert "3 candidates were not in the cache and were left out" in printed.err
    for wrong, message in (
        (["--candidates=shown"], "prerank: row 1: 1 of 3 candidates are not in the item cache"),
        (["--candidates=seen"], "prerank: row 1: no column 'seen'"),
        (["--top_k=0"], "prerank: top_k must be >= 1, got 0"),
    ):
        assert main([*arguments, *wrong]) == 1
        printed = capsys.readouterr()
        assert printed.out == "" and message in printed.err.splitlines()[-1]
