"""The one table of everything public: how to make it, what to call it with, and which properties it is excused from.

A new public class is a new line here. `exempt` names a property (what its test calls `lines` with) and says why.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext import layers, losses, metrics, models, optimizers
from xdeepint_ext.models import baselines
from xdeepint_ext.schema import Feature, Schema

SCHEMA = Schema(
    [
        Feature("user", "categorical", ("user", "group"), num_values=7),
        Feature("seen", "sequence", "user", table="item", max_length=3, num_values=5),
        Feature("tags", "multi", "item", max_length=2, num_values=4, weights="tag_scores", combiner="sqrtn"),
        Feature("item", "categorical", ("item", "item_id"), table="item", num_values=5),
        Feature("age", "numeric", "user", mean=0.0, deviation=1.0),
        Feature("price", "numeric", "item", binning="boundaries", boundaries=(1.0, 2.0)),
        Feature("image", "vector", "item", dimension=3),
        Feature("click", "numeric", "label"),
    ]
)
RETRIEVAL = Schema(
    [
        Feature("user", role="user", num_values=7),
        Feature("seen", "sequence", "user", table="item", max_length=3, num_values=5),
        Feature("item", "multi", "item", table="item", max_length=1, num_values=5, source="targets"),
    ]
)
IDS = SCHEMA.select(["user", "item", "price", "click"])


def features(schema: Schema, batch: int) -> dict[str, tf.Tensor]:
    """Inputs of a model of the schema, some ids of which are padding."""
    random = np.random.default_rng(batch)
    inputs: dict[str, tf.Tensor] = {}
    for feature in schema.inputs:
        shape = (batch, feature.length)
        if feature.is_ids:
            inputs[feature.name] = tf.constant(random.integers(0, feature.num_ids, shape))
        else:
            inputs[feature.name] = tf.constant(random.normal(size=shape), tf.float32)
        if feature.weights_name:
            inputs[feature.weights_name] = tf.constant(random.uniform(0.5, 2.0, shape), tf.float32)
    return inputs


def field_matrix(batch: int) -> tf.Tensor:
    """(batch, 3, 4) floats."""
    return tf.constant(np.random.default_rng(batch).normal(size=(batch, 3, 4)), tf.float32)


def vectors(batch: int) -> tf.Tensor:
    """(batch, 5) floats."""
    return tf.constant(np.random.default_rng(batch).normal(size=(batch, 5)), tf.float32)


def labels_and_logits(batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Binary labels and logits, (batch, 1)."""
    random = np.random.default_rng(batch)
    labels = random.integers(0, 2, (batch, 1))
    return tf.constant(labels, tf.float32), tf.constant(random.normal(size=(batch, 1)), tf.float32)


def graded_lists(batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Grades with a highest one in each list, and logits, (batch, 5)."""
    random = np.random.default_rng(batch)
    labels = random.integers(0, 3, (batch, 5))
    labels[:, 1] = 3
    return tf.constant(labels, tf.float32), tf.constant(random.normal(size=(batch, 5)), tf.float32)


def one_positive_each(batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels with one positive a list, and logits, (batch, 5)."""
    random = np.random.default_rng(batch)
    labels = np.eye(5)[random.integers(0, 5, batch)]
    return tf.constant(labels, tf.float32), tf.constant(random.normal(size=(batch, 5)), tf.float32)


def two_logits(batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Labels (batch, 5) and logits (batch, 5, 2)."""
    labels, logits = one_positive_each(batch)
    return labels, tf.stack([-logits, tf.cos(logits)], axis=-1)


def teacher_scores(batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A teacher's logits and a student's, (batch, 5)."""
    labels, logits = graded_lists(batch)
    return labels - 1.5 + tf.sin(logits), logits


def token_ids(batch: int) -> tf.Tensor:
    """(batch, 9) token ids: `<s> question </s></s> context </s>`, padded."""
    ids = np.random.default_rng(batch).integers(5, 20, (batch, 9))
    ids[:, [0, 8]], ids[:, [3, 4, 7]] = (0, 1), 2
    return tf.constant(ids, tf.int32)


@dataclasses.dataclass(frozen=True)
class Line:
    """One public name.

    Args:
      name: of the class or function.
      kind: `layer`, `loss`, `loss_layer` (returns a scalar), `metric`, `optimizer`, `model` or `function`.
      make: makes it.
      example: batch size -> what it is called with.
      leads: whether it stands for its family in the default run of the costly properties.
      returns: of a layer that returns a dict: the key of what a model of it returns.
      exempt: property -> why the line is excused; "*" = from all.
    """

    name: str
    kind: str
    make: Callable[[], Any]
    example: Callable[[int], Any] | None = None
    leads: bool = False
    returns: str | None = None
    exempt: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _model(
    name: str,
    cls: type,
    schema: Schema = SCHEMA,
    leads: bool = False,
    exempt: Mapping[str, str] | None = None,
    **options: Any,
) -> Line:
    return Line(
        name, "model", lambda: cls(schema, **options), lambda batch: features(schema, batch), leads, exempt=exempt or {}
    )


def _loss(name: str, make: Callable[[], Any], example: Callable[[int], Any] = graded_lists, **exempt: str) -> Line:
    return Line(name, "loss", make, example, exempt=exempt)


def _grouped(batch: int) -> tuple[tf.Tensor, ...]:
    """Logits, labels and codes of two levels, (batch,) and (batch, 2)."""
    labels, logits = labels_and_logits(4 * batch)
    codes = np.random.default_rng(batch).integers(0, 2, (4 * batch, 2))
    return logits[:, 0], labels[:, 0], tf.constant(codes)


def _with_groups(batch: int) -> tuple[tf.Tensor, ...]:
    """Labels and logits, (batch, 1), and ids of three groups."""
    return *labels_and_logits(batch), tf.range(batch) % 3


def pair(batch: int) -> list[tf.Tensor]:
    """x_l and x_0, (batch, 3, 4) floats."""
    return [field_matrix(batch), tf.cos(2.0 * field_matrix(batch))]


def heads(batch: int) -> list[tf.Tensor]:
    """Heads of users and of items, (batch, 2, 4) floats each."""
    values = np.random.default_rng(batch).normal(size=(2, batch, 2, 4))
    return [tf.constant(x, tf.float32) for x in values]


def heads_of_lists(batch: int) -> list[tf.Tensor]:
    """Heads of users, (batch, 2, 4), and of three items each, (batch, 3, 5, 4)."""
    random = np.random.default_rng(batch)
    return [tf.constant(random.normal(size=shape), tf.float32) for shape in ((batch, 2, 4), (batch, 3, 5, 4))]


def histories(batch: int) -> list[tf.Tensor]:
    """Histories (batch, 4, 3) and their lengths."""
    random = np.random.default_rng(batch)
    return [tf.constant(random.normal(size=(batch, 4, 3)), tf.float32), tf.constant(random.integers(0, 5, batch))]


def _expert(name: str, cls: type) -> Line:
    return Line(name, "layer", cls, pair)


def _dynamic(name: str, cls: type, **options: Any) -> Line:
    why = "its generators see the input without a gradient; tests/layers/test_dynamic_pin.py has the rest of it"
    make = functools.partial(cls, num_layers=2, num_subspaces=2, reduction_ratio=2, orthogonal_rate=0.1, **options)
    return Line(name, "layer", make, field_matrix, exempt={"gradient": why})


def _twin(function: str, name: str) -> Line:
    return _function(function, f"the functional form of {name}; tests/losses/test_functional.py holds them equal")


def _function(name: str, why: str) -> Line:
    return Line(name, "function", lambda: None, exempt={"*": why})


def _encoder() -> layers.RobertaEncoder:
    return layers.RobertaEncoder.of_size("tiny", vocab_size=20, max_positions=12, dropout=0.0)


def _span_model(name: str, cls: type) -> Line:
    def example(batch: int) -> dict[str, tf.Tensor]:
        return {"token_ids": token_ids(batch)}

    why = {"mirrored": "it learns from gold taggings and spans; tests/models/test_span_models.py has two replicas"}
    return Line(name, "model", lambda: cls(_encoder(), dropout=0.0), example, exempt=why)


TABLE = [
    Line("PIN", "layer", lambda: layers.PIN(2, num_subspaces=2), field_matrix, leads=True),
    Line("FieldLinearHead", "layer", layers.FieldLinearHead, field_matrix),
    Line("SumHead", "layer", layers.SumHead, field_matrix),
    Line("MLP", "layer", lambda: layers.MLP([5, 3], activation="tanh"), field_matrix),
    Line(
        "MultiHeadPIN",
        "layer",
        lambda: layers.MultiHeadPIN([{"num_layers": 1}, {"num_layers": 2, "num_subspaces": 2}], head_width=2),
        field_matrix,
    ),
    _dynamic("DynamicActivationPIN", layers.DynamicActivationPIN),
    _dynamic("DynamicGeneratedPIN", layers.DynamicGeneratedPIN, rank=3),
    _dynamic("DynamicWeightedPIN", layers.DynamicWeightedPIN, rank=2),
    Line("CIN", "layer", lambda: layers.CIN([4, 3], split_half=True, activation="tanh"), field_matrix),
    *(
        _expert(name, getattr(layers, name))
        for name in [
            "GatedDenseExpert",
            "CrossExpert",
            "PINExpert",
            "ConvExpert",
            "SelfAttentionExpert",
            "CINExpert",
            "InteractionMachineExpert",
        ]
    ),
    Line("TopKGate", "layer", lambda: layers.TopKGate(3, k=[(1, 3), (2, 2)], jitter=0.0), vectors),
    Line(
        "SparseMoE",
        "layer",
        lambda: layers.SparseMoE([layers.CrossExpert(), layers.PINExpert(2)], layers.TopKGate(2, k=1)),
        pair,
        leads=True,
        exempt={"gradient": "its gate sees x_0 without a gradient; tests/layers/test_moe.py has the rest of it"},
    ),
    Line(
        "EarlyExit",
        "layer",
        lambda: layers.EarlyExit(
            [layers.CrossExpert(), layers.PINExpert()],
            [layers.FieldLinearHead(), layers.FieldLinearHead()],
            layers.TopKGate(2, k=1),
        ),
        field_matrix,
        exempt={"gradient": "its gate sees x_0 without a gradient; tests/layers/test_early_exit.py has the rest of it"},
    ),
    Line("SENET", "layer", lambda: layers.SENET(2, activation="softplus"), field_matrix),
    Line("BilinearInteraction", "layer", lambda: layers.BilinearInteraction("field_interaction"), field_matrix),
    Line("LightSE", "layer", layers.LightSE, field_matrix),
    Line("MultiHeadGate", "layer", lambda: layers.MultiHeadGate(2, 3, units=(5,), activation="tanh"), field_matrix),
    Line(
        "GatedCrossAttention",
        "layer",
        lambda: layers.GatedCrossAttention(4),
        heads_of_lists,
        exempt={"gradient": "its two inputs differ in shape; tests/layers/test_towers.py has its gradient"},
    ),
    Line("CausalSelfAttention", "layer", lambda: layers.CausalSelfAttention(2), field_matrix),
    Line(
        "RecencyPooling",
        "layer",
        layers.RecencyPooling,
        histories,
        exempt={"gradient": "lengths are its second input; tests/layers/test_histories.py has its gradient"},
    ),
    Line("Temperature", "layer", lambda: layers.Temperature(0.5), vectors),
    Line("MaxSim", "layer", lambda: layers.MaxSim(temperature=0.5), heads),
    Line("InteractingLayer", "layer", lambda: layers.InteractingLayer(2, head_dim=3), field_matrix),
    Line(
        "InnerProduct",
        "layer",
        lambda: layers.InnerProduct(self_products=True),
        field_matrix,
        exempt={"mixed_precision": "it has no weights to train; tests/layers/test_products.py has its half precision"},
    ),
    Line("OuterProduct", "layer", lambda: layers.OuterProduct("matrix"), field_matrix),
    Line("ResidualUnits", "layer", lambda: layers.ResidualUnits([3, 2], activation="tanh"), field_matrix),
    Line(
        "ResidualVectorQuantizer",
        "layer",
        lambda: layers.ResidualVectorQuantizer(2, 3, init="random_normal"),
        vectors,
        leads=True,
        returns="quantized",
        exempt={
            "gradient": "it goes straight through; tests/layers/test_rvq.py",
            "mixed_precision": "it has no weights to train; tests/layers/test_rvq_environments.py",
        },
    ),
    Line("VectorCross", "layer", lambda: layers.VectorCross(2), vectors),
    Line(
        "FeatureEmbedding",
        "layer",
        lambda: layers.FeatureEmbedding(SCHEMA, width=4),
        lambda batch: features(SCHEMA, batch),
        exempt={"gradient": "its inputs are ids; its gradient to the tables is tested against loops in tests/layers"},
    ),
    Line("LogLoss", "loss", losses.LogLoss, labels_and_logits, leads=True),
    _loss("PairwiseLogisticLoss", losses.PairwiseLogisticLoss),
    _loss("BPRLoss", losses.BPRLoss, one_positive_each),
    _loss("TripletLoss", lambda: losses.TripletLoss(margin=0.7), one_positive_each),
    Line("SoftmaxCrossEntropyLoss", "loss", losses.SoftmaxCrossEntropyLoss, graded_lists, leads=True),
    _loss("ListCrossEntropyLoss", losses.ListCrossEntropyLoss),
    _loss("JRCLoss", lambda: losses.JRCLoss(alpha=0.4, in_batch=False), two_logits),
    _loss("ApproxNDCGLoss", losses.ApproxNDCGLoss),
    _loss("NeuralSortLoss", losses.NeuralSortLoss),
    _loss("SoftSortLoss", losses.SoftSortLoss),
    _loss("RankmaxLoss", losses.RankmaxLoss),
    _loss("AdaptiveMarginRankmaxLoss", losses.AdaptiveMarginRankmaxLoss),
    _loss("CROLoss", lambda: losses.CROLoss("exp", weighting=1.2, num_items=1000), one_positive_each),
    _loss(
        "CROLambdaLoss",
        lambda: losses.CROLambdaLoss(weighting=losses.TargetN(20), num_items=1000),
        one_positive_each,
        gradient="its weights carry no gradient by design; tests/losses/test_cro.py has what the gradient should be",
    ),
    _loss("SoftmaxDistillationLoss", losses.SoftmaxDistillationLoss, teacher_scores),
    _loss("WeightedLogLossDistillation", losses.WeightedLogLossDistillation, teacher_scores),
    _loss("PairwiseLogisticDistillation", losses.PairwiseLogisticDistillation, teacher_scores),
    _loss(
        "CombinedLoss",
        lambda: losses.CombinedLoss({losses.SoftSortLoss(): 0.5, losses.PairwiseLogisticLoss(): 2.0}),
    ),
    _loss(
        "HybridRankTowerLoss",
        lambda: losses.HybridRankTowerLoss(
            {losses.RankmaxLoss(): ("all", 0.5, "hard"), losses.SoftSortLoss(power=2): ("all", 2.0, "hard")}
        ),
    ),
    Line("ARFLoss", "loss_layer", lambda: losses.ARFLoss(top_k=1, supply_m=2), lambda n: graded_lists(n)[::-1]),
    Line(
        "GroupwiseListCrossEntropy",
        "loss_layer",
        lambda: losses.GroupwiseListCrossEntropy(2, codebook_size=2),
        _grouped,
        leads=True,
    ),
    Line(
        "GAUC",
        "metric",
        lambda: metrics.GAUC(capacity=100),
        _with_groups,
        leads=True,
        exempt={
            "finite_on_bad_lists": "NaN without a group of both classes, as metrics.gauc; tests/metrics/test_gauc.py"
        },
    ),
    Line("RecallAtK", "metric", lambda: metrics.RecallAtK(2, average="pooled"), graded_lists),
    Line("HitRateAtK", "metric", lambda: metrics.HitRateAtK(2), graded_lists),
    Line("NDCGAtK", "metric", lambda: metrics.NDCGAtK(2, gain="linear"), graded_lists, leads=True),
    Line("LogLossMetric", "metric", metrics.LogLossMetric, labels_and_logits),
    Line(
        "NormalizedCrossEntropy",
        "metric",
        metrics.NormalizedCrossEntropy,
        labels_and_logits,
        exempt={
            "finite_on_bad_lists": "NaN where labels are all equal, as the function; tests/metrics/test_streaming.py"
        },
    ),
    Line("ExpectedCalibrationError", "metric", lambda: metrics.ExpectedCalibrationError(bins=5), labels_and_logits),
    Line("GroupFtrl", "optimizer", lambda: optimizers.GroupFtrl(0.1, 1.0, 0.01, 0.01), leads=True),
    Line("LazyAdam", "optimizer", lambda: optimizers.LazyAdam(0.01)),
    Line("LazyAdagrad", "optimizer", lambda: optimizers.LazyAdagrad(0.1)),
    Line(
        "OptimizerGroups",
        "optimizer",
        lambda: optimizers.OptimizerGroups(
            {"embedding": optimizers.LazyAdagrad(0.1), "default": tf.keras.optimizers.Adam(0.01)}
        ),
    ),
    _model("RankingModel", models.RankingModel, width=4),
    _model("XDeepInt", models.XDeepInt, leads=True, width=4, num_layers=2, num_subspaces=2, dnn_units=(3,)),
    _model(
        "DynInt", models.DynInt, mode="generated", width=4, num_layers=2, num_subspaces=2, rank=3, orthogonal_rate=0.1
    ),
    _model(
        "AdaEnsemble",
        models.AdaEnsemble,
        IDS,
        width=4,
        num_layers=2,
        experts=("pin", "cross"),
        k=1,
        exit_k=2,
        jitter=0.0,
    ),
    _model(
        "MatrixFactorization", models.MatrixFactorization, RETRIEVAL.select(["user", "item"]), width=4, item_bias=True
    ),
    _model("PooledHistory", models.PooledHistory, RETRIEVAL, width=4, pooling="recency"),
    _model(
        "SelfAttentiveHistory", models.SelfAttentiveHistory, RETRIEVAL.select(["seen", "item"]), width=4, dropout=0.0
    ),
    _model("LR", baselines.LR),
    _model("FM", baselines.FM, IDS, width=4),
    _model("DNN", baselines.DNN, width=4, units=(5, 3)),
    _model("WideDeep", baselines.WideDeep, width=4, units=(5,)),
    _model("DeepFM", baselines.DeepFM, width=4, units=(5,)),
    _model("DCN", baselines.DCN, width=4, units=(5,), num_layers=2),
    _model("DCNV2", baselines.DCNV2, width=4, units=(5,), num_layers=2),
    _model("DeepCrossing", baselines.DeepCrossing, width=4, units=(5, 3)),
    _model("PNN", baselines.PNN, width=4, units=(5,)),
    _model("XDeepFM", baselines.XDeepFM, width=4, units=(5,), cin_units=(4, 3), split_half=True),
    _model("AutoInt", baselines.AutoInt, width=4, units=(5,), num_layers=2, head_dim=3),
    _model("FiBiNET", baselines.FiBiNET, width=4, units=(5,)),
    _model("RankTower", models.RankTower, width=4, num_heads=(2, 3), head_dim=4, units=(5,)),
    _model("TwoTower", models.TwoTower, width=4, units=(5, 3)),
    _model(
        "IntTower",
        baselines.IntTower,
        width=4,
        num_heads=2,
        head_dim=3,
        units=(5,),
        batch_norm=False,  # its statistics are a replica's; tests/models/test_tower_losses.py has the rest of it
    ),
    _model("DAT", baselines.DAT, width=4, units=(5, 3), category="price"),
    _model("COLD", baselines.COLD, width=4, units=(5,)),
    _model(
        "GroupRanker",
        models.GroupRanker,
        backbone=lambda schema: baselines.DNN(schema, width=4, units=(5,)),
        num_levels=2,
        codebook_size=2,
        gather_groups=True,
    ),
    _model(
        "UserProjection",
        models.UserProjection,
        backbone=lambda schema: baselines.FM(schema, width=4),
        units=3,
    ),
    _model(
        "TwoLogitRanker",
        models.TwoLogitRanker,
        backbone=lambda schema: baselines.DNN(schema, width=4, units=(5,)),
        exempt={"mirrored": "the contexts of its usual loss, JRC, are a replica's"},
    ),
    Line("RobertaEncoder", "layer", _encoder, token_ids, exempt={"gradient": "its input are ids"}),
    Line("TokenHead", "layer", lambda: layers.TokenHead(3, hidden_units=4, dropout=0.0), field_matrix),
    _span_model("MultiSpanTagger", models.MultiSpanTagger),
    _span_model("MultiHeadSpanQA", models.MultiHeadSpanQA),
    _span_model("SingleSpanQA", baselines.SingleSpanQA),
    _twin("log_loss", "LogLoss"),
    *(
        _twin(name, "the class of that name")
        for name in [
            "pairwise_logistic",
            "bpr",
            "triplet",
            "softmax_cross_entropy",
            "list_cross_entropy",
            "jrc",
            "approx_ndcg",
            "neural_sort",
            "soft_sort",
            "rankmax",
            "adaptive_margin_rankmax",
            "cro",
            "cro_lambda",
            "softmax_distillation",
            "weighted_log_loss_distillation",
            "pairwise_logistic_distillation",
            "combined",
            "hybrid_rank_tower",
        ]
    ),
    _function("score_all_pairs", "a loop around a function of one's own; tests/layers/test_towers.py"),
    _function("TargetN", "a weighting of CROLoss, whose line has it; tests/losses/test_cro.py"),
    _function("group_ftrl_for_mean_loss", "arithmetic on constants; tests/optimizers/test_loss_scale_law.py"),
    _function("ftrl_for_mean_loss", "arithmetic on constants; tests/optimizers/test_loss_scale_law.py"),
    _function("paper_optimizers", "makes optimizers that have lines of their own"),
]


PROPERTIES: set[str] = set()
"""The properties that have a test."""


def lines(test: str, *kinds: str, costly: bool = False) -> pytest.MarkDecorator:
    """Parametrises a property's test with the lines of the kinds: excused skipped, costly slow but for leaders."""
    PROPERTIES.add(test)
    found = []
    for line in TABLE:
        if line.kind not in kinds:
            continue
        marks = []
        why = line.exempt.get(test) or line.exempt.get("*")
        if why:
            marks.append(pytest.mark.skip(reason=f"{line.name} is excused from {test}: {why}"))
        if costly and not line.leads:
            marks.append(pytest.mark.slow)
        found.append(pytest.param(line, id=line.name, marks=marks))
    return pytest.mark.parametrize("line", found)
