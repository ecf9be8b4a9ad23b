"""Indexes of plain two-tower models: exact by TFRS in a SavedModel, approximate by faiss."""

import json
import os
import sys

import numpy as np
import pytest

from tests.serving import c_api
from tests.serving.catalogue import catalogue
from xdeepint_ext.models import TwoTower
from xdeepint_ext.serving import ApproximateIndex, CacheError, build_index, export_index, write_item_cache
from xdeepint_ext.serving.index import main
from xdeepint_ext.serving.prerank import main as prerank
from xdeepint_ext.serving.rows import typed


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return catalogue(TwoTower, tmp_path_factory.mktemp("shop"), units=[4])


@pytest.fixture(scope="module")
def cache(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    write_item_cache(shop.towers, [shop.write_items(folder / "items.json")], folder / "c", items_per_shard=16)
    return os.fspath(folder / "c")


def test_an_exact_index_needs_tensorflow_s_library_alone(shop, cache, tmp_path, capsys):
    assert main([f"--model={shop.folder}", f"--cache={cache}", f"--output={tmp_path}", "--top_k=7"]) == 0
    folder = capsys.readouterr().out.splitlines()[-1]
    assert folder == os.fspath(tmp_path / "1")
    feed = typed(shop.users, shop.towers.columns("user"))
    found = c_api.run_signature(folder, "serving_default", feed)
    for user in range(len(shop.users)):
        items = [value.decode() for value in found["items"][user]]
        shop.check_best(user, shop.ids, 7, items, found["logit"][user])
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-found["logit"].astype(np.float64))), rtol=1e-5)
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as stream:
        facts = json.load(stream)
    fingerprint = shop.towers.fingerprint
    assert facts == {"fingerprint": fingerprint, "task": "click", "items": len(shop.ids), "top_k": 7}


def test_an_approximate_index_finds_most_of_the_best(shop, cache, tmp_path, capsys):
    pytest.importorskip("faiss", reason="the extra [ann] (faiss-cpu) is not installed")
    assert main([f"--model={shop.folder}", f"--cache={cache}", f"--output={tmp_path}", "--kind=approximate"]) == 0
    index = ApproximateIndex(shop.towers, tmp_path)
    for user, ranked in enumerate(index.rank(shop.users, 10)):
        by_id = dict(zip(shop.ids, shop.logits[user], strict=True))
        np.testing.assert_allclose(ranked.logits, [by_id[item] for item in ranked.items], rtol=1e-5, atol=1e-5)
        best, tenth = np.sort(shop.logits[user])[[-1, -10]]
        assert ranked.logits[0] == pytest.approx(best, rel=1e-5)
        assert np.sum(ranked.logits >= tenth - 1e-5) >= 9
    capsys.readouterr()
    assert prerank([f"--model={shop.folder}", f"--index={tmp_path}", "--top_k=2"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["items"] for line in printed] == [ranked.items for ranked in index.rank(shop.users, 2)]
    with pytest.raises(ValueError, match="top_k must be >= 1, got 0"):
        index.rank(shop.users, 0)
    with pytest.raises(FileNotFoundError, match="no index at"):
        ApproximateIndex(shop.towers, cache)
    facts = tmp_path / "1" / "index.json"
    facts.write_text(facts.read_text().replace(index.towers.fingerprint, "0123456789abcdef"))
    with pytest.raises(CacheError, match="is of model 0123456789abcdef, but this model is"):
        ApproximateIndex(shop.towers, tmp_path)


def test_without_faiss_the_message_says_how_to_get_it(shop, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"needs faiss: pip install 'xdeepint-ext\[ann\]'"):
        build_index(shop.towers, cache, tmp_path)
    assert prerank([f"--model={shop.folder}", f"--index={tmp_path}"]) == 1
    assert capsys.readouterr().err.startswith("prerank: an approximate index needs faiss")


def test_what_no_index_can_be_made_of_is_named(shop, ranktower_shop, cache, tmp_path):
    with pytest.raises(ValueError, match="top_k must be >= 1, got 0"):
        export_index(shop.towers, cache, tmp_path, top_k=0)
    with pytest.raises(
        ValueError, match=r"the score of task 'click' of the model at .* is none, .*; use serving\.prerank"
    ):
        export_index(ranktower_shop.folder, cache, tmp_path / "index")
    manifest = os.path.join(cache, "manifest.json")
    with open(manifest, encoding="utf-8") as stream:
        text = stream.read()
    try:
        with open(manifest, "w", encoding="utf-8") as stream:
            stream.write(text.replace(shop.towers.fingerprint, "0123456789abcdef"))
        with pytest.raises(CacheError, match="is of model 0123456789abcdef"):
            export_index(shop.towers, cache, tmp_path / "index")
    finally:
        with open(manifest, "w", encoding="utf-8") as stream:
            stream.write(text)
    assert not os.path.exists(tmp_path / "index")
