"""A retrieval model with its catalogue inside: its answers through the C library, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.data.prepared import vocabulary
from tests.data.raw_sequences import events, write_books, write_lightgcn
from tests.serving import c_api
from xdeepint_ext.data import DataError, Manifest, Preprocessor
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.models import MatrixFactorization, PooledHistory, SelfAttentiveHistory
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.recommend import export_recommender

TOP_K = 7


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """Texts as ids, histories and no id of the user."""
    folder = tmp_path_factory.mktemp("books")
    prepare("amazon_books", raw_dir=write_books(folder / "raw", events()), output_dir=folder / "out")
    return folder / "out"


def opened(data_dir):
    schema = Schema.load(data_dir)
    return schema, Preprocessor(schema, data_dir / "vocabulary"), vocabulary(data_dir, "item")


def test_answers_are_the_towers_best(books, tmp_path):
    schema, preprocessor, names = opened(books)
    model = SelfAttentiveHistory(schema, width=8)
    folder = export_recommender(model, preprocessor, tmp_path / "model", top_k=TOP_K, manifest=Manifest.load(books))
    known = [[names[3], names[0], "never seen"], ["", "", ""], [names[1], "", ""]]
    users = {"items": np.array(known)}
    best, vectors, items = c_api.run_signatures(
        [
            (folder, "serving_default", users),
            (folder, "user_tower", users),
            (folder, "item_tower", {"item": np.array([*names, "never seen"])}),
        ]
    )
    inputs = preprocessor.part({"items": tf.constant(known)}, schema.select(["items"]))
    np.testing.assert_allclose(vectors["vector"], model.user_tower(inputs), atol=1e-5)
    ids = tf.range(2, 2 + len(names), dtype=tf.int64)[:, tf.newaxis]
    np.testing.assert_allclose(items["vector"][:-1], model.item_tower({"item": ids}), atol=1e-6)
    scores = model.gamma * vectors["vector"] @ items["vector"][:-1].T
    for row, had in enumerate(known):
        left = [i for i, name in enumerate(names) if name not in had]
        expected = sorted(left, key=lambda i: -scores[row, i])[:TOP_K]
        assert [name.decode() for name in best["items"][row]] == [names[i] for i in expected]
        np.testing.assert_allclose(best["scores"][row], scores[row, expected], atol=1e-4)


def test_users_by_their_ids(tmp_path):
    train = {u: list(range(u, u + 9)) for u in range(20)}
    raw = write_lightgcn(tmp_path / "raw", train, {3: [1]})
    prepare("gowalla", raw_dir=raw, output_dir=tmp_path / "out", valid_fraction=0.0)
    schema, preprocessor, names = opened(tmp_path / "out")
    model = MatrixFactorization(schema, width=4, item_bias=True, normalize="user")
    folder = export_recommender(model, preprocessor, tmp_path / "model", top_k=len(names))
    found = c_api.run_signature(folder, "serving_default", {"user": np.array([3, 99])})
    assert found["items"].dtype == np.int64 and sorted(found["items"][0].tolist()) == sorted(map(int, names))
    assert (np.diff(found["scores"]) <= 0).all()


def test_what_is_refused(books, tmp_path):
    schema, preprocessor, names = opened(books)
    model = PooledHistory(schema, width=4)
    with pytest.raises(ValueError, match=f"top_k must be in 1 .. {len(names)}, the catalogue's size"):
        export_recommender(model, preprocessor, tmp_path / "model", top_k=len(names) + 1)
    other = Preprocessor(schema.replace({"items": {"max_length": 3}}), books / "vocabulary")
    with pytest.raises(ValueError, match=r"different schemas; they differ in \['items'\]"):
        export_recommender(model, other, tmp_path / "model", top_k=3)
    manifest = Manifest.load(books)
    changed = {name: {**table, "fingerprint": "of another day"} for name, table in manifest.tables.items()}
    with pytest.raises(DataError, match="the catalogue has changed"):
        export_recommender(
            model, preprocessor, tmp_path / "model", top_k=3, manifest=dataclasses.replace(manifest, tables=changed)
        )
    assert not (tmp_path / "model").exists()
