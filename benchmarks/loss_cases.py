"""What `loss_step` measures: the losses, at which shapes, on what data, and their steps as traced functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext import losses
from xdeepint_ext.utils.tf_ranking import import_tensorflow_ranking

LISTS, LENGTH, BATCH, GROUPS = 1024, 64, 8192, 512
GRADES = (0.6, 0.2, 0.1, 0.06, 0.04)
LEVELS, CODES = 3, 32
DCN_INPUTS, DCN_CROSS_LAYERS, DCN_UNITS = 39 * 10, 3, (500, 500, 500)
"""Lin et al.'s (arXiv 2403.14144) for Criteo."""
SHAPES = {
    "lists": f"{LISTS} lists of {LENGTH // 2} to {LENGTH} items",
    "batch": f"a batch of {BATCH} as one list",
    "groups": f"a batch of {BATCH} in {GROUPS} groups",
}
PEER = "TF-Ranking's "
Loss = Callable[[Any, tf.Tensor], tf.Tensor]
Step = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss.

    Args:
      name: what the table calls it.
      make: options of lists -> the loss, called with (y_true, logits).
      labels: the key of `Data.labels`.
      peer: the name of TF-Ranking's, or None.
      shapes: at which it is measured.
    """

    name: str
    make: Callable[..., Loss]
    labels: str = "graded"
    peer: str | None = None
    shapes: tuple[str, ...] = ("lists", "batch")


def _without_lists(make: Callable[[], Loss]) -> Callable[..., Loss]:
    """Of a loss that has no options of lists."""
    return lambda **options: make()


def _arf() -> Loss:
    layer = losses.ARFLoss(top_k=10, supply_m=20)
    return lambda y_true, logits: layer(logits, y_true)


CASES = (
    Case("LogLoss", _without_lists(losses.LogLoss), "binary", "SigmoidCrossEntropyLoss"),
    Case("SoftmaxCrossEntropyLoss", losses.SoftmaxCrossEntropyLoss, "graded", "SoftmaxLoss", tuple(SHAPES)),
    Case("ListCrossEntropyLoss", losses.ListCrossEntropyLoss, shapes=tuple(SHAPES)),
    Case("JRCLoss", losses.JRCLoss, "binary", shapes=tuple(SHAPES)),
    Case("SoftmaxDistillationLoss", losses.SoftmaxDistillationLoss, "teacher"),
    Case("WeightedLogLossDistillation", losses.WeightedLogLossDistillation, "teacher"),
    Case("CROLoss, exp, alpha 1", lambda **o: losses.CROLoss("exp", **o), "binary"),
    Case("CROLoss, softplus, alpha 1", lambda **o: losses.CROLoss("softplus", **o), "binary"),
    Case("CROLambdaLoss, sigmoid / softplus", losses.CROLambdaLoss, "binary"),
    Case("BPRLoss", losses.BPRLoss, "binary", "PairwiseLogisticLoss"),
    Case("TripletLoss, margin 1", lambda **o: losses.TripletLoss(1.0, **o), "binary", "PairwiseHingeLoss"),
    Case("RankmaxLoss", losses.RankmaxLoss, "binary"),
    Case("AdaptiveMarginRankmaxLoss", losses.AdaptiveMarginRankmaxLoss),
    Case("PairwiseLogisticLoss", losses.PairwiseLogisticLoss, "graded", "PairwiseLogisticLoss", tuple(SHAPES)),
    Case("PairwiseLogisticDistillation", losses.PairwiseLogisticDistillation, "teacher"),
    Case("ApproxNDCGLoss", losses.ApproxNDCGLoss, "graded", "ApproxNDCGLoss"),
    Case("SoftSortLoss", losses.SoftSortLoss),
    Case("NeuralSortLoss", losses.NeuralSortLoss, "graded", "NeuralSortCrossEntropyLoss"),
    Case("ARFLoss", _without_lists(_arf), shapes=("lists",)),
    Case("HybridRankTowerLoss", _without_lists(losses.HybridRankTowerLoss), "stages", shapes=("lists",)),
)


def of_shape(shape: str) -> Iterator[Case]:
    """The cases at a shape."""
    return (case for case in CASES if shape in case.shapes)


class Data:
    """Labels and logits of a shape, drawn with one seed.

    In lists, the items behind a list's end are padding. Positive, where labels are binary, are grades of 3 and 4.
    """

    def __init__(self, shape: str) -> None:
        self.random = np.random.default_rng(0)
        self.options = {"grouped": True} if shape == "groups" else {"in_batch": shape == "batch"}
        self.shape = (LISTS, LENGTH) if shape == "lists" else (BATCH,)
        grades = self.random.choice(len(GRADES), self.shape, p=GRADES).astype(np.float32)
        if shape == "lists":
            grades[np.arange(LENGTH) >= self.random.integers(LENGTH // 2, LENGTH + 1, (LISTS, 1))] = -1
        self.logits = self._normal(self.shape)
        teacher, stages = self._normal(self.shape), self.random.integers(0, 3, self.shape).astype(np.int32)
        self.labels: dict[str, dict[str, np.ndarray]] = {
            "graded": {"label": grades},
            "binary": {"label": np.where(grades < 0, grades, grades >= 3).astype(np.float32)},
            "teacher": {"teacher": teacher, "list_mask": grades >= 0},
            "stages": {"label": grades, "teacher": teacher, "stages": stages},
        }
        if shape == "groups":
            groups = self.random.integers(0, GROUPS, self.shape).astype(np.int32)
            self.labels = {name: {**y, "group_ids": groups} for name, y in self.labels.items()}

    def steps(self, case: Case) -> dict[str, Step]:
        """What is measured of a case: ours, and TF-Ranking's where it has one, to which a batch is a long list."""
        y_true: Any = self.labels[case.labels]
        y_true = y_true["label"] if list(y_true) == ["label"] else y_true
        logits = self._normal((*self.shape, 2)) if case.name == "JRCLoss" else self.logits
        found = {case.name: step(case.make(**self.options), y_true, logits)}
        if case.peer and "grouped" not in self.options:
            lists = (-1, self.shape[-1])
            found[PEER + case.name] = step(_peer(case.peer), y_true.reshape(lists), logits.reshape(lists))
        return found

    def _normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.random.normal(size=shape).astype(np.float32)


def step(loss: Loss, y_true: Any, logits: Any, *others: tf.Variable) -> Step:
    """A traced function of nothing: the loss and its gradient with respect to the logits and other variables."""
    y_true, logits = tf.nest.map_structure(tf.constant, y_true), tf.constant(logits)

    @tf.function
    def run() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(y_true, logits)
        return value, tape.gradient(value, [logits, *others])

    return run.get_concrete_function()


def groupwise_step(rows: int) -> Step:
    """The group-wise loss of so many rows, with the gradient of its sigmas."""
    random = np.random.default_rng(0)
    codes = random.integers(0, CODES, (rows, LEVELS)).astype(np.int32)
    labels = random.integers(0, 2, rows).astype(np.float32)
    layer = losses.GroupwiseListCrossEntropy(LEVELS, codebook_size=CODES)
    layer.build(None)
    logits = random.normal(size=rows).astype(np.float32)
    return step(lambda y, s: layer(s, *y), (labels, codes), logits, layer.log_sigmas)


def dcn_step() -> Step:
    """DCN-V2's layers on `BATCH` rows, forward and backward: a training step without look-ups and optimizer."""
    x = tf.keras.Input((DCN_INPUTS,))
    crossed, deep = x, x
    for _ in range(DCN_CROSS_LAYERS):
        crossed = x * tf.keras.layers.Dense(DCN_INPUTS)(crossed) + crossed
    for units in DCN_UNITS:
        deep = tf.keras.layers.Dense(units, "relu")(deep)
    model = tf.keras.Model(x, tf.keras.layers.Dense(1)(tf.concat([crossed, deep], axis=1)))
    random = np.random.default_rng(0)
    inputs = random.normal(size=(BATCH, DCN_INPUTS)).astype(np.float32)
    labels = random.integers(0, 2, (BATCH, 1)).astype(np.float32)
    loss = losses.LogLoss()
    return step(lambda y, x: loss(y, model(x)), labels, inputs, *model.trainable_variables)


def _peer(name: str) -> Loss:
    """TF-Ranking's loss of that name; NeuralSort's is no Keras class."""
    ranking = import_tensorflow_ranking()
    if hasattr(ranking.keras.losses, name):
        return getattr(ranking.keras.losses, name)()
    from tensorflow_ranking.python import losses_impl

    loss = getattr(losses_impl, name)(name=name)
    reduction = tf.compat.v1.losses.Reduction.SUM_BY_NONZERO_WEIGHTS
    return lambda y_true, logits: loss.compute(y_true, logits, None, reduction)
