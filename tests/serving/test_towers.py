"""Two-tower models behind the signatures that every model has; `rank` computes the user's tower once."""

import numpy as np
import pytest
import tensorflow as tf

from tests.serving import cases
from tests.serving.test_pruning import logits, raw_batch, zero_rows
from xdeepint_ext import serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.models import RankTower, TwoTower
from xdeepint_ext.models.baselines import COLD, DAT, IntTower
from xdeepint_ext.schema import Feature
from xdeepint_ext.serving.rows import typed

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
    pytest.param(TwoTower, {"units": [6, 4]}, marks=pytest.mark.slow),
    pytest.param(IntTower, {"num_heads": 2, "head_dim": 4, "units": [6], "batch_norm": False}, marks=pytest.mark.slow),
    pytest.param(COLD, {"units": [6], "keep": ["user", "history", "video"]}, marks=pytest.mark.slow),
]


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
