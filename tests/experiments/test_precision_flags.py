"""`--mixed_precision` and `--jit_compile` on the experiments: a few steps, finite metrics, float32 weights."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.experiments.test_croloss import config as users_config
from tests.experiments.test_croloss import data_dir  # noqa: F401 - a fixture
from tests.experiments.test_mseqa import TINY
from tests.experiments.test_ranktower import SMALL, folder, make_config  # noqa: F401 - fixtures
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.mseqa_config import MseqaConfig
from xdeepint_ext.experiments.mseqa_running import execute_mseqa
from xdeepint_ext.experiments.running import execute

pytestmark = pytest.mark.slow

LISTS = [name for name in SMALL if name != "lr"]
USERS = ["mf", "pooled", "sasrec"]
CLICKS = [name for name in MODELS if name not in (*LISTS, *USERS)]
OPTIONS = {"groupce": {"backbone": "dnn"}, "adaensemble": {"width": 4, "num_layers": 1}, "fm": {"width": 4}, "lr": {}}

variants = pytest.mark.parametrize(
    "variant",
    [{"mixed_precision": "mixed_bfloat16"}, {"mixed_precision": "mixed_float16", "jit_compile": True}],
    ids=["bfloat16", "float16 and XLA"],
)


def check(found, metric):
    assert math.isfinite(found.metrics[metric])
    assert all(weight.dtype in (tf.float32, tf.int64, tf.int32, tf.bool) for weight in found.model.weights)
    assert all(np.isfinite(weight.numpy()).all() for weight in found.model.trainable_weights)
    assert tf.keras.mixed_precision.global_policy().name == "float32"


@variants
@pytest.mark.parametrize("model", CLICKS)
def test_clicks(config_of, model, variant):
    options = {"model_options": OPTIONS.get(model, {}), "max_steps": 3, "evaluate": ("test",)}
    check(execute(config_of(model=model, **options, **variant)), "test.logloss")


@variants
@pytest.mark.parametrize("model", LISTS)
def test_lists(make_config, model, variant):  # noqa: F811
    check(execute(make_config(model, max_steps=3, evaluate=("test",), **variant)), "test.candidates.ndcg_at_10")


# Their training step has no trunk that XLA could compile; test_croloss.py has the refusal.
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("model", USERS)
def test_users(data_dir, model, precision):  # noqa: F811
    options = {"objective": "croloss", "first_target": 1} if model != "mf" else {}
    shared = {"max_steps": 3, "evaluate": ("test",), "mixed_precision": precision}
    found = execute(users_config(data_dir, model, model_options=options, **shared))
    check(found, "test.recall_at_20")


@variants
def test_texts(variant):
    pytest.importorskip("tokenizers", reason="needs the extra qa")
    check(execute_mseqa(MseqaConfig(**{**TINY, "epochs": 1, **variant})), "test.exact_f1")
