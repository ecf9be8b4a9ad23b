"""A small schema of every kind of feature, batches of it, and models as one line each."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.models import (
    AdaEnsemble,
    DynInt,
    GroupRanker,
    RankingModel,
    RankTower,
    TwoTower,
    UserProjection,
    XDeepInt,
)
from xdeepint_ext.models.baselines import (
    COLD,
    DAT,
    DCN,
    DCNV2,
    DNN,
    FM,
    LR,
    PNN,
    AutoInt,
    DeepCrossing,
    DeepFM,
    FiBiNET,
    IntTower,
    WideDeep,
    XDeepFM,
)
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.signatures import input_signature

INPUTS = [
    Feature("user", num_values=6, role=("user", "group")),
    Feature("item", num_values=5, table="video", role=("item", "item_id")),
    Feature("history", "sequence", "user", num_values=5, table="video", max_length=3, combiner="sum"),
    Feature("age", "numeric", "user", scaling="none"),
]
CLICK = Feature("click", "numeric", "label")
BUY = Feature("buy", "numeric", "label", required=False)
ONE_TASK = Schema([*INPUTS, CLICK])
TWO_TASKS = Schema([*INPUTS, CLICK, BUY])
FIELDS, WIDTH = 4, 4

MODELS = {
    "linear": lambda schema: RankingModel(schema, width=WIDTH),
    "xdeepint": lambda schema: XDeepInt(schema, width=WIDTH, num_layers=2, num_subspaces=2),
    "with a deep part": lambda schema: XDeepInt(schema, width=WIDTH, num_layers=1, dnn_units=[5, 3]),
    "without residual": lambda schema: XDeepInt(schema, width=WIDTH, num_layers=2, residual=False),
    "multi-head": lambda schema: XDeepInt(
        schema, width=WIDTH, heads=[{"num_layers": 1}, {"num_layers": 2, "num_subspaces": 2}], head_width=2
    ),
    "fm": lambda schema: FM(schema, width=WIDTH),
    "lr": LR,
    "dynint": lambda schema: DynInt(schema, width=WIDTH, num_layers=2, num_subspaces=2, reduction_ratio=2),
    "adaensemble": lambda schema: AdaEnsemble(schema, width=WIDTH, num_layers=2, experts=("pin", "cross"), k=1),
    "dnn": lambda schema: DNN(schema, width=WIDTH, units=[5, 3]),
    "wide & deep": lambda schema: WideDeep(schema, width=WIDTH, units=[5, 3]),
    "deepfm": lambda schema: DeepFM(schema, width=WIDTH, units=[5, 3]),
    "dcn": lambda schema: DCN(schema, width=WIDTH, num_layers=2, units=[5, 3]),
    "dcn-v2": lambda schema: DCNV2(schema, width=WIDTH, num_layers=2, units=[5, 3], projection_dim=3),
    "deep crossing": lambda schema: DeepCrossing(schema, width=WIDTH, units=[5, 3]),
    "pnn": lambda schema: PNN(schema, width=WIDTH, units=[5, 3]),
    "xdeepfm": lambda schema: XDeepFM(schema, width=WIDTH, units=[5, 3], cin_units=[4, 3], cin_activation="tanh"),
    "autoint": lambda schema: AutoInt(schema, width=WIDTH, num_layers=2, head_dim=3),
    "autoint+": lambda schema: AutoInt(schema, width=WIDTH, num_layers=1, head_dim=2, scaled=True, units=[5, 3]),
    "fibinet": lambda schema: FiBiNET(schema, width=WIDTH, bilinear_kind="field_each", reduction_ratio=2, units=[5, 3]),
    "cold": lambda schema: COLD(schema, width=WIDTH, units=[5, 3]),
    "ranktower": lambda schema: RankTower(schema, width=WIDTH, num_heads=(2, 3), head_dim=3, units=[5]),
    "two-tower": lambda schema: TwoTower(schema, width=WIDTH, units=[5, 3]),
    "inttower": lambda schema: IntTower(
        schema, width=WIDTH, num_heads=(2, 3), head_dim=3, units=[5, 4], contrast_weight=0.1
    ),
    "dat": lambda schema: DAT(schema, width=WIDTH, units=[5, 3], category="item"),
    "groupranker": lambda schema: GroupRanker(
        schema,
        backbone=lambda schema: XDeepInt(schema, width=WIDTH, num_layers=2, num_subspaces=2),
        num_levels=2,
        codebook_size=2,
    ),
    "projected": lambda schema: UserProjection(schema, backbone=MODELS["deepfm"], units=3),
}


DEFAULT_RUN = {"xdeepint", "fm", "adaensemble", "groupranker"}
EVERY_MODEL = [pytest.param(name, marks=() if name in DEFAULT_RUN else pytest.mark.slow) for name in MODELS]
"""Names to parametrise costly tests with: few in the default run, where conformance has a line for each."""


def batch(schema=ONE_TASK, size=8, seed=0):
    """(features, labels, weights); labels of `buy` are missing where those of `click` are 0."""
    rng = np.random.default_rng(seed)
    features = {}
    for name, spec in input_signature(schema).items():
        shape = (size, spec.shape[1])
        if spec.dtype.is_integer:
            ids = rng.integers(0, schema[name].num_ids, shape)
            features[name] = tf.constant(ids, tf.int64)
        else:
            features[name] = tf.constant(rng.normal(size=shape), tf.float32)
    features["group_ids"] = features["user"][:, 0]
    features["item_ids"] = features["item"][:, 0]
    click = rng.integers(0, 2, (size, 1)).astype(np.float32)
    labels = {"click": click, "buy": np.where(click > 0, rng.integers(0, 2, (size, 1)), -1).astype(np.float32)}
    weights = rng.uniform(0.5, 2.0, size).astype(np.float32)
    return features, labels if len(schema.tasks) > 1 else click, weights


def lists(schema=ONE_TASK, size=4, length=5, seed=0):
    """(features of `size` users with `length` items each, grades, the same as rows of a user and an item)."""
    features, _, _ = batch(schema, size * length, seed)
    of_lists, rows = {}, {}
    for name in input_signature(schema):
        value = features[name]
        if "item" in schema[name].roles:
            of_lists[name] = tf.reshape(value, (size, length, -1))
            rows[name] = value
        else:
            of_lists[name] = value[:size]
            rows[name] = tf.repeat(value[:size], length, axis=0)
    grades = np.random.default_rng(seed).integers(0, 4, (size, length)).astype(np.float32)
    return of_lists, grades, rows


def dataset(schema=ONE_TASK, size=24, batch_size=8, weighted=False, seed=0):
    """Batches of (features, labels[, weights])."""
    features, labels, weights = batch(schema, size, seed)
    parts = (features, labels, weights) if weighted else (features, labels)
    return tf.data.Dataset.from_tensor_slices(parts).batch(batch_size)


def randomise(model, seed=0):
    """Gives all weights random values, so that no zero hides anything."""
    rng = np.random.default_rng(seed)
    values = [rng.normal(scale=0.5, size=weight.shape) for weight in model.weights]
    of_variance = ["variance" in weight.name for weight in model.weights]  # batch normalisation's
    model.set_weights([np.exp(x) if positive else x for x, positive in zip(values, of_variance, strict=True)])
    return model
