"""Two-tower models behind the signatures that every model has; `rank` computes the user's tower once."""

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from tests.serving import c_api, cases
from tests.serving.test_pruning import logits, raw_batch, zero_rows
from xdeepint_ext import serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.models import RankTower, TwoTower
from xdeepint_ext.models.baselines import COLD, DAT, IntTower
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.loaded_towers import LoadedTowers
from xdeepint_ext.serving.rows import examples, typed
from xdeepint_ext.serving.tower_endpoints import fingerprint

FEATURES = (
    Feature("user", "categorical", ("user", "group"), dtype="int"),
    Feature("history", "sequence", "user", table="video", max_length=4, min_count=3),
    Feature("age", "numeric", "user", required=False),
    Feature("hour", "categorical", "context", dtype="int", lookup="identity", num_values=24),
    Feature("video", "categorical", ("item", "item_id"), table="video", min_count=3),
    Feature("tags", "multi", "item", max_length=3, weights="tag_weights", combiner="mean"),
)
SHARED = ("user", "history", "age", "hour")
MODELS = [
    (RankTower, {"num_heads": 2, "head_dim": 4, "units": [6]}),
    (DAT, {"units": [6, 4], "category": "video"}),
    (TwoTower, {"units": [6, 4]}),
    (IntTower, {"num_heads": 2, "head_dim": 4, "units": [6], "batch_norm": False}),
    (COLD, {"units": [6], "keep": ["user", "history", "video"]}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "options"), MODELS)
def test_an_exported_model_ranks_the_candidates_of_one_user(cls, options, tmp_path):
    case = cases.case(features=FEATURES)
    model = case.model(cls, **options)
    repeated = {n: tf.repeat(x[5:6], cases.ROWS, axis=0) if n in SHARED else x for n, x in case.features.items()}
    folder = serving.export(model, case.preprocessor, tmp_path, prune=False)
    loaded = tf.saved_model.load(folder)
    raw = {name: tf.constant(x) for name, x in typed(case.rows, raw_signature(case.schema)).items()}
    for signature, inputs, expected in [
        ("predict_raw", raw, model(case.features)),
        ("rank", {name: x[5:6] if name in SHARED else x for name, x in raw.items()}, model(repeated)),
    ]:
        np.testing.assert_allclose(loaded.signatures[signature](**inputs)["logit"], expected, rtol=1e-6, atol=1e-6)
    assert os.path.exists(os.path.join(folder, "towers.json")) == ("score" in loaded.signatures) == (cls is not COLD)
    if cls is not COLD:
        check_loaded_towers(os.path.dirname(folder), model, case)


def check_loaded_towers(base, model, case):
    """Kept representations give the model's scores, and say whether they are inner products."""
    towers = LoadedTowers(base)
    assert towers.fingerprint == fingerprint(model, case.preprocessor)
    assert towers.tasks == ("click",) and towers.item_id == {"column": "video", "dtype": "string"}
    user, items = towers.users(case.rows[:7]), towers.items(examples(case.rows, towers.columns("item")))
    for number in (0, 6):
        logits = towers.score({"click": user["click"][number : number + 1]}, items)["click"]
        np.testing.assert_allclose(logits, logits_of(model, case, number)["click"][:, 0], rtol=1e-6, atol=1e-6)
    scale = towers.product_scale["click"]
    assert (scale is None) == isinstance(model, RankTower | IntTower)
    if scale is not None:
        np.testing.assert_allclose(scale * items["click"] @ user["click"][6], logits, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "options"), MODELS)
def test_a_pruned_model_scores_the_same(cls, options):
    case = cases.case(features=FEATURES)
    model = case.model(cls, **options)
    zero_rows(model)
    raw = raw_batch(case)
    pruned = serving.prune(model, case.preprocessor)
    assert sum(after for _, after in pruned.rows.values()) < sum(before for before, _ in pruned.rows.values())
    found, expected = logits(pruned.model, pruned.preprocessor, raw), logits(model, case.preprocessor, raw)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_rank_computes_the_user_s_tower_once(tmp_path, monkeypatch):
    case = cases.case(features=FEATURES)
    model = case.model(RankTower, num_heads=2, head_dim=4, units=[6])
    rows = []
    layer = model.towers["click"].user_heads
    call = layer.call
    monkeypatch.setattr(layer, "call", lambda x, **options: rows.append(x.shape[0]) or call(x, **options))
    serving.export(model, case.preprocessor, tmp_path, prune=False)
    assert 1 in rows and None in rows


def logits_of(model, case, user):
    """The model's logits of one user beside all items, task by task."""
    repeated = {
        n: tf.repeat(x[user : user + 1], cases.ROWS, axis=0) if n in SHARED else x for n, x in case.features.items()
    }
    found = model(repeated, training=False)
    return found if isinstance(found, dict) else {"click": found}


def halves(raw):
    return {n: x for n, x in raw.items() if n in SHARED}, {n: x for n, x in raw.items() if n not in SHARED}


@pytest.mark.parametrize("prune", [pytest.param(False, marks=pytest.mark.slow), True], ids=["whole", "pruned"])
def test_towers_and_their_score_need_tensorflow_s_library_alone(prune, tmp_path):
    """Kept representations of each side give the model's scores, in a process without Python's TensorFlow."""
    case = cases.case(label=["click", "like"], features=FEATURES)
    model = case.model(RankTower, num_heads=(2, 3), head_dim=4, units=[6])
    if prune:
        zero_rows(model)
    folder = serving.export(model, case.preprocessor, tmp_path, prune=prune)
    user, items = halves(typed(case.rows, raw_signature(case.schema)))
    columns = [{n: s for n, s in raw_signature(case.schema).items() if n in half} for half in (user, items)]
    serialized = [examples(case.rows, half) for half in columns]
    by_raw, item_raw, by_examples, item_examples = c_api.run_signatures(
        [
            (folder, "user_tower", user),
            (folder, "item_tower", items),
            (folder, "user_tower_examples", {"examples": serialized[0]}),
            (folder, "item_tower_examples", {"examples": serialized[1]}),
        ]
    )
    for one, other in ((by_raw, by_examples), (item_raw, item_examples)):
        assert sorted(one) == ["representation/click", "representation/like"]
        for task in one:
            np.testing.assert_array_equal(one[task], other[task])

    def kept(number):
        feed = {f"user/{task}": by_raw[f"representation/{task}"][number : number + 1] for task in ("click", "like")}
        return feed | {f"items/{task}": item_raw[f"representation/{task}"] for task in ("click", "like")}

    users = (3, 5)
    for number, scores in zip(users, c_api.run_signatures([(folder, "score", kept(n)) for n in users]), strict=True):
        for task, expected in logits_of(model, case, number).items():
            np.testing.assert_allclose(scores[f"logit/{task}"], expected, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(scores[f"probability/{task}"], tf.sigmoid(expected), rtol=1e-6, atol=1e-6)


def test_the_fingerprint_is_that_of_weights_and_ids():
    case = cases.case(features=FEATURES)
    model = case.model(TwoTower, units=[4])
    first = fingerprint(model, case.preprocessor)
    assert fingerprint(case.model(TwoTower, units=[4]), case.preprocessor) == first
    other = cases.case(
        features=tuple(f if f.name != "user" else dataclasses.replace(f, min_count=12) for f in FEATURES)
    )
    assert fingerprint(model, other.preprocessor) != first
    assert fingerprint(model, lambda raw: raw) != fingerprint(model, lambda raw: raw)
    weight = model.trainable_weights[-1]
    weight.assign_add(tf.fill(weight.shape, 1e-3))
    assert fingerprint(model, case.preprocessor) != first


def test_a_model_without_towers_says_so(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ValueError, match=r"has no towers: no towers\.json; export a two-tower model"):
        LoadedTowers(tmp_path)


class ByHand(tf.Module):
    """Somebody else's preprocessor of two columns."""

    def __init__(self, partial):
        super().__init__()
        self.partial = partial

    def __call__(self, raw):
        names = [name for name in ("user", "video") if name in raw or not self.partial]
        return {name: tf.reshape(raw[name], (-1, 1)) % 8 for name in names}


@pytest.mark.parametrize("partial", [True, False])
def test_somebody_else_s_preprocessor_has_towers_if_it_can_do_with_one_side(partial, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: warnings.append(message % values))
    schema = Schema(
        [
            Feature("user", role="user", dtype="int", lookup="identity", num_values=9),
            Feature("video", role="item", dtype="int", lookup="identity", num_values=9),
            Feature("click", "numeric", "label"),
        ]
    )
    model = TwoTower(schema, width=4, units=[4])
    signature = {name: tf.TensorSpec((None,), tf.int64) for name in ("user", "video")}
    preprocessor = ByHand(partial)
    folder = serving.export(model, preprocessor, tmp_path, prune=False, raw_signature=signature)
    if not partial:
        assert len(warnings) == 1 and "the preprocessor cannot do with the columns of one side" in warnings[0]
        assert not os.path.exists(os.path.join(folder, "towers.json"))
        return
    assert not warnings
    towers = LoadedTowers(folder)
    rows = [{"user": n, "video": n + 1} for n in range(4)]
    found = towers.score(towers.users(rows[:1]), towers.items(examples(rows, towers.columns("item"))))["click"]
    expected = model({"user": tf.zeros((4, 1), tf.int64), "video": tf.constant([[1], [2], [3], [4]], tf.int64)})
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-6, atol=1e-6)
