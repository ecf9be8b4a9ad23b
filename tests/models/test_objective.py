"""What a RankingModel optimises and reports: tasks, missing labels, weights, side inputs, metrics."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.models import examples
from tests.models.examples import MODELS, ONE_TASK, TWO_TASKS
from xdeepint_ext.losses import LogLoss, RankingLoss
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.schema import Feature, Schema


class PerGroup(RankingLoss):
    """Log loss in which an example weighs 1 over the size of its group in the batch."""

    side_inputs = ("group_ids",)

    def units(self, labels, logits, side):
        groups = tf.reshape(side["group_ids"], [-1])
        sizes = tf.reduce_sum(tf.cast(groups[:, tf.newaxis] == groups, logits.dtype), axis=1, keepdims=True)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.abs(labels), logits=logits)
        return losses / sizes, labels >= 0


class DistinctGroups(tf.keras.metrics.Metric):
    """How many distinct (group, item) pairs with a weight above 0 a batch has, summed over batches."""

    side_inputs = ("group_ids", "item_ids")

    def __init__(self, name="distinct", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None, *, group_ids, item_ids):
        kept = tf.reshape(sample_weight, [-1]) > 0
        pairs = tf.boolean_mask(100 * group_ids + item_ids, kept)
        self.total.assign_add(tf.cast(tf.size(tf.unique(pairs)[0]), tf.float32))

    def result(self):
        return self.total


def log_loss(labels, logits):
    return np.log1p(np.exp(logits)) - labels * logits


def evaluated(schema, compile_options, weighted=False, size=10, name="linear"):
    """(report of `evaluate` on one batch, logits by task, labels by task, features, weights)."""
    model = examples.randomise(MODELS[name](schema))
    model.compile(**compile_options)
    features, labels, weights = examples.batch(schema, size)
    report = model.evaluate(examples.dataset(schema, size, size, weighted=weighted), return_dict=True, verbose=0)
    logits = model(features)
    logits, labels = ({"click": x} if not isinstance(x, dict) else x for x in (logits, labels))
    arrays = [{task: np.float64(x)[:, 0] for task, x in found.items()} for found in (logits, labels)]
    return report, *arrays, features, weights if weighted else np.ones(size)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_task(weighted):
    report, logits, labels, _, weights = evaluated(ONE_TASK, {}, weighted)
    assert set(report) == {"loss"}
    expected = np.mean(weights * log_loss(labels["click"], logits["click"]))
    np.testing.assert_allclose(report["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss_weights", [None, {"buy": 0.25}])
def test_tasks_are_masked_where_their_label_is_missing(weighted, loss_weights):
    report, logits, labels, _, weights = evaluated(TWO_TASKS, {"loss_weights": loss_weights}, weighted)
    means = {}
    for task in ("click", "buy"):
        there = labels[task] >= 0
        means[task] = np.sum((weights * log_loss(labels[task], logits[task]))[there]) / there.sum()
        np.testing.assert_allclose(report[f"{task}_loss"], means[task], rtol=1e-5)
    factor = (loss_weights or {}).get("buy", 1.0)
    np.testing.assert_allclose(report["loss"], means["click"] + factor * means["buy"], rtol=1e-5)
    assert 0 < (labels["buy"] >= 0).sum() < len(labels["buy"])


def test_a_task_that_is_missing_everywhere_is_0():
    model = MODELS["linear"](TWO_TASKS)
    model.compile(optimizer=tf.keras.optimizers.SGD(0.1))
    model.build_from_schema()
    features, labels, _ = examples.batch(TWO_TASKS)
    labels["buy"] = -np.ones_like(labels["buy"])
    before = model.heads["buy"].get_weights()
    history = model.fit(features, labels, verbose=0).history
    assert history["buy_loss"] == [0.0]
    assert history["loss"] == history["click_loss"]
    for weight, old in zip(model.heads["buy"].get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_task_of_the_weights_own():
    """`sample_weight` may be a dict by task."""
    features, labels, weights = examples.batch(TWO_TASKS)
    model = examples.randomise(MODELS["linear"](TWO_TASKS))
    model.compile()
    by_task = {"click": weights, "buy": np.zeros_like(weights)}
    data = tf.data.Dataset.from_tensors((features, labels, by_task))
    report = model.evaluate(data, return_dict=True, verbose=0)
    logits = np.float64(model(features)["click"])[:, 0]
    np.testing.assert_allclose(
        report["click_loss"], np.mean(weights * log_loss(labels["click"][:, 0], logits)), rtol=1e-5
    )
    assert report["buy_loss"] == 0.0


@pytest.mark.parametrize("schema", [ONE_TASK, TWO_TASKS], ids=["one task", "two tasks"])
def test_side_inputs_reach_losses_and_metrics_that_ask(schema):
    options = {"loss": PerGroup(), "metrics": [DistinctGroups(), tf.keras.metrics.AUC(from_logits=True, name="auc")]}
    report, logits, labels, features, _ = evaluated(schema, options)
    groups, items = features["group_ids"].numpy(), features["item_ids"].numpy()
    sizes = (groups[:, np.newaxis] == groups).sum(axis=1)
    for task in schema.tasks:
        prefix = f"{task}_" if len(schema.tasks) > 1 else ""
        there = labels[task] >= 0
        expected = (log_loss(labels[task], logits[task]) / sizes)[there].mean()
        np.testing.assert_allclose(report[f"{prefix}loss"], expected, rtol=1e-5)
        assert report[f"{prefix}distinct"] == len(set(zip(groups[there], items[there], strict=True)))
        assert 0 <= report[f"{prefix}auc"] <= 1


@pytest.mark.parametrize("asking", [{"loss": PerGroup()}, {"metrics": [DistinctGroups()]}])
def test_side_inputs_that_are_missing_are_named(asking):
    schema = Schema([Feature("user", num_values=6), examples.CLICK])
    model = MODELS["linear"](schema)
    model.compile(**asking)
    with pytest.raises(
        ValueError, match=r"asks for the side inputs \['group_ids'.*role group, item_id, stage or teacher"
    ):
        model.evaluate({"user": np.array([[1], [2]])}, np.array([[1.0], [0.0]]), verbose=0)


def test_losses_and_metrics_by_task():
    options = {
        "loss": {"click": LogLoss(), "buy": tf.keras.losses.MeanSquaredError()},
        "metrics": {"buy": [tf.keras.metrics.MeanAbsoluteError(name="error")]},
    }
    report, logits, labels, _, _ = evaluated(TWO_TASKS, options)
    there = labels["buy"] >= 0
    np.testing.assert_allclose(report["click_loss"], log_loss(labels["click"], logits["click"]).mean(), rtol=1e-5)
    error = np.abs(labels["buy"] - logits["buy"])
    np.testing.assert_allclose(report["buy_error"], error[there].mean(), rtol=1e-5)
    assert set(report) == {"loss", "click_loss", "buy_loss", "buy_error"}


def test_keras_losses_work_with_weights_and_missing_labels():
    options = {"loss": tf.keras.losses.BinaryCrossentropy(from_logits=True)}
    report, logits, labels, _, weights = evaluated(TWO_TASKS, options, weighted=True)
    there = labels["buy"] >= 0
    total = np.sum((weights * log_loss(np.abs(labels["buy"]), logits["buy"]))[there])
    np.testing.assert_allclose(report["buy_loss"], total / there.sum(), rtol=1e-5)


def squared_error(y_true, y_pred):
    """A loss as a plain function."""
    return tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)


@pytest.mark.parametrize("weighted", [False, True])
def test_plain_functions_are_losses(weighted):
    report, logits, labels, _, weights = evaluated(ONE_TASK, {"loss": squared_error}, weighted)
    np.testing.assert_allclose(report["loss"], np.mean(weights * (labels["click"] - logits["click"]) ** 2), rtol=1e-5)


@pytest.mark.parametrize("loss", [LogLoss, tf.keras.losses.BinaryCrossentropy])
def test_sums_are_minimised_and_means_are_shown(loss):
    options = {} if loss is LogLoss else {"from_logits": True}
    model = examples.randomise(MODELS["linear"](ONE_TASK))
    features, labels, _ = examples.batch()
    found = {}
    for reduction in ("sum", "sum_over_batch_size"):
        model.compile(loss=loss(reduction=reduction, **options))
        value = model.compute_loss(features, labels, model(features), None)
        found[reduction] = (float(value), float(model.metrics[0].result()))
    mean = log_loss(labels[:, 0], np.float64(model(features))[:, 0]).mean()
    np.testing.assert_allclose(found["sum"], (8 * mean, mean), rtol=1e-5)
    np.testing.assert_allclose(found["sum_over_batch_size"], (mean, mean), rtol=1e-5)


def test_losses_of_lists_must_be_ranking_losses():
    model = MODELS["linear"](ONE_TASK)
    model.compile(loss=lambda y_true, y_pred: tf.reduce_sum(y_pred))
    features, labels, _ = examples.batch()
    with pytest.raises(
        ValueError, match=r"must give one value a label, got \(\) for \(8, 1\): lists need a RankingLoss"
    ):
        model.compute_loss(features, labels, model(features), None)


def test_means_are_over_all_batches():
    model = examples.randomise(MODELS["linear"](TWO_TASKS))
    model.compile(metrics=[DistinctGroups()])
    reports = [
        model.evaluate(examples.dataset(TWO_TASKS, 20, size), return_dict=True, verbose=0) for size in (20, 7, 3)
    ]
    for report in reports[1:]:
        np.testing.assert_allclose(report["click_loss"], reports[0]["click_loss"], rtol=1e-5)
        np.testing.assert_allclose(report["buy_loss"], reports[0]["buy_loss"], rtol=1e-5)


def test_added_losses_count():
    model = XDeepInt(ONE_TASK, width=4, num_layers=1, num_subspaces=1, kernel_regularizer=tf.keras.regularizers.L2(0.5))
    examples.randomise(model)
    model.compile()
    features, labels, _ = examples.batch()
    value = model.compute_loss(features, labels, model(features), None)
    logits = np.float64(model(features))[:, 0]
    penalty = 0.5 * np.square(model.pin.kernels[0].numpy()).sum()
    np.testing.assert_allclose(value, log_loss(labels[:, 0], logits).mean() + penalty, rtol=1e-5)


def test_half_a_chance_costs_log_2():
    model = MODELS["lr"](ONE_TASK)
    model.compile()
    np.testing.assert_allclose(model.evaluate(examples.dataset(), verbose=0), math.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": {"click": LogLoss()}}, r"loss lacks the tasks \['buy'\]; got \['click'\]"),
        ({"loss": {"click": LogLoss(), "bye": LogLoss()}}, r"loss names \['bye'\], which are no tasks"),
        ({"loss_weights": {"bye": 1.0}}, r"loss_weights names \['bye'\], which are no tasks; the tasks are \['click'"),
        ({"metrics": {"bye": []}}, r"metrics names \['bye'\], which are no tasks"),
        ({"metrics": [abs]}, "metrics must be tf.keras.metrics.Metric objects or their names, got"),
        ({"loss": LogLoss(reduction="none")}, "loss log_loss must be reduced to a mean or sum, got reduction 'none'"),
        ({"loss": "binary_crossentropy"}, "loss must be an object or function on logits, .* got 'binary_crossentropy'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MODELS["linear"](TWO_TASKS).compile(**options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((8, 1)), r"labels must be a dict of the tasks \['click', 'buy'\]"),
        ({"click": np.ones((8, 1))}, r"labels lack task 'buy'; got \['click'\]"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    model = MODELS["linear"](TWO_TASKS)
    model.compile()
    with pytest.raises(ValueError, match=message):
        model.evaluate(examples.batch(TWO_TASKS)[0], labels, verbose=0)
