"""Metrics inside `RankingModel`: fit, several tasks, missing labels, replicas; and what replicas make of a state."""

import numpy as np
import pytest
import tensorflow as tf

from tests.metrics import reference
from tests.models import examples
from xdeepint_ext.losses import SoftmaxCrossEntropyLoss
from xdeepint_ext.metrics import GAUC, ExpectedCalibrationError, LogLossMetric, NDCGAtK, NormalizedCrossEntropy
from xdeepint_ext.metrics.gauc_state import AllRows
from xdeepint_ext.models import RankingModel
from xdeepint_ext.schema import Feature, Schema

SIZE = 64
BINNED = {"mode": "binned", "num_groups": 8, "bins": 4000}


def all_metrics():
    return [
        GAUC(capacity=SIZE),
        GAUC(**BINNED, weight="positives", name="binned"),
        LogLossMetric(),
        NormalizedCrossEntropy(),
        ExpectedCalibrationError(bins=5),
    ]


def expected(labels, logits, groups, weights):
    there = labels >= 0
    labels, logits, groups, weights = (np.float64(x)[there] for x in (labels, logits, groups, weights))
    losses = np.logaddexp(0, logits) - labels * logits
    loss, mean = np.average(losses, weights=weights), np.average(labels, weights=weights)
    probabilities = reference.sigmoid(logits)
    return {
        "gauc": reference.gauc(labels, logits, groups, "rows", weights),
        "binned": reference.gauc(labels, logits, groups, "positives", weights),
        "log_loss": loss,
        "normalized_cross_entropy": loss / -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)),
        "expected_calibration_error": reference.calibration_error(labels, probabilities, weights, 5),
    }


def check(model, schema, report):
    features, labels, weights = examples.batch(schema, SIZE)
    logits = model(features)
    for task in schema.tasks:
        several = len(schema.tasks) > 1
        y, z = (labels[task], logits[task]) if several else (labels, logits)
        found = expected(y[:, 0], z.numpy()[:, 0], features["group_ids"].numpy(), weights)
        for name, value in found.items():
            key = f"{task}_{name}" if several else name
            np.testing.assert_allclose(report[key], value, rtol=1e-4, err_msg=key)


@pytest.mark.parametrize("schema", [examples.ONE_TASK, examples.TWO_TASKS], ids=["one task", "two tasks"])
def test_evaluate_gives_each_task_the_metrics_of_its_own_labels(schema):
    model = examples.randomise(RankingModel(schema, width=4))
    model.compile(metrics=all_metrics())
    data = examples.dataset(schema, SIZE, 13, weighted=True)
    for _ in range(2):  # more rows than capacity, unless the state is reset in between
        check(model, schema, model.evaluate(data, return_dict=True, verbose=0))


@pytest.mark.slow
def test_fit_and_evaluate_on_two_replicas(two_replicas):
    """What fit reports of the validation data is what evaluate finds, and both are the loops' value on all rows."""
    with two_replicas.scope():
        model = RankingModel(examples.ONE_TASK, width=4)
        model.compile(tf.keras.optimizers.SGD(0.1), metrics=all_metrics()[:2])
    data = examples.dataset(examples.ONE_TASK, SIZE, 16, weighted=True)
    history = model.fit(data, epochs=2, validation_data=data, verbose=0).history
    features, labels, weights = examples.batch(examples.ONE_TASK, SIZE)
    logits = model(features).numpy()[:, 0]
    found = expected(labels[:, 0], logits, features["group_ids"].numpy(), weights)
    for name in ("gauc", "binned"):
        np.testing.assert_allclose(history[f"val_{name}"][-1], found[name], rtol=1e-4)
        assert 0 < history[name][-1] < 1


def test_rows_of_one_group_on_two_replicas_meet(two_replicas):
    """A positive on one replica and a negative on the other are a pair; each replica's block holds half."""
    with two_replicas.scope():
        metrics = [GAUC(capacity=6, dtype="float64"), GAUC(mode="binned", num_groups=1, dtype="float64")]

    def per_replica(values):
        return two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[context.replica_id_in_sync_group])
        )

    @tf.function
    def update(*args):
        two_replicas.run(lambda *args: [metric.update_state(*args) for metric in metrics] and None, args)

    args = [per_replica(x) for x in ([[1.0], [0.0]], [[0.5], [0.5]], [[0], [0]])]
    for _ in range(3):
        update(*args)
    assert [float(metric.result()) for metric in metrics] == [0.5, 0.5]
    with pytest.raises(tf.errors.InvalidArgumentError, match="more rows than capacity=6, 3 on each of 2 replicas"):
        update(*args)


def test_updates_outside_of_any_replica_count_once(two_replicas):
    labels, scores, ids = [1, 0, 0], [0.5, 0.5, 0.1], [3, 3, 3]
    with two_replicas.scope():
        metric = GAUC(capacity=12)
        metric.update_state(labels, scores, group_ids=ids)
    metric.update_state(labels, scores, group_ids=ids)
    assert float(metric.result()) == 0.75
    metric.reset_state()
    assert np.isnan(float(metric.result()))


def test_a_metric_made_outside_of_the_scope_says_so(two_replicas):
    metric = GAUC(capacity=10)
    with pytest.raises(
        ValueError, match=r"made for 1 replica and is updated by replica 1; make it under strategy\.scope"
    ):
        two_replicas.run(lambda: metric.update_state([1.0], [0.0], group_ids=[0]))


def test_workers_that_share_variables_are_refused(monkeypatch):
    class Shared(tf.distribute.experimental.ParameterServerStrategy):
        num_replicas_in_sync = 1

        def __init__(self):
            pass

    monkeypatch.setattr(tf.distribute, "get_strategy", Shared)
    with pytest.raises(ValueError, match=r"mode='exact' cannot be updated by several workers at once.*mode='binned'"):
        AllRows(LogLossMetric(), 10)


def test_a_schema_without_a_group_says_so():
    model = RankingModel(examples.Schema([examples.Feature("user", num_values=6), examples.CLICK]), width=4)
    model.compile(metrics=[GAUC()])
    with pytest.raises(ValueError, match=r"gauc asks for the side inputs \['group_ids'\], which the features lack"):
        model.evaluate({"user": np.array([[1], [2]])}, np.array([[1.0], [0.0]]), verbose=0)


def test_a_costly_result_waits_for_the_end_of_the_epoch(monkeypatch):
    schema = examples.ONE_TASK
    model = examples.randomise(RankingModel(schema, width=4))
    model.compile(metrics=[GAUC(capacity=SIZE)])
    data = examples.dataset(schema, SIZE, 13, weighted=True)
    steps = []
    watch = tf.keras.callbacks.LambdaCallback(on_batch_end=lambda step, logs: steps.append(logs["gauc"]))
    history = model.fit(data, verbose=0, callbacks=[watch], validation_data=data).history
    assert len(steps) == 5
    assert np.isnan(steps).all()
    assert np.isfinite(history["gauc"]).all()
    assert np.isfinite(history["val_gauc"]).all()


def test_weights_of_rows_with_list_labels():
    """Labels (B, L) with weights (B,): a row's weight is that of its items."""
    schema = Schema([Feature("x", "numeric", "user"), Feature("label", "numeric", "label")])

    class Lists(RankingModel):
        def head(self, x, training=None):
            return tf.reduce_sum(x, 2) * tf.constant([[1.0, 0.5, -1.0]])

    model = Lists(schema, width=2)
    model.compile(loss=SoftmaxCrossEntropyLoss(), metrics=[NDCGAtK(2)])
    labels, weights = np.array([[1.0, 0, 0], [0, 0, 1.0]], np.float32), np.array([3.0, 1.0], np.float32)
    report = model.evaluate(
        {"x": np.array([[1.0], [2.0]], np.float32)}, labels, sample_weight=weights, verbose=0, return_dict=True
    )
    logits = model({"x": np.array([[1.0], [2.0]], np.float32)})
    by_row = NDCGAtK(2)
    by_row.update_state(labels, logits, weights)
    np.testing.assert_allclose(report["ndcg_at_2"], by_row.result(), rtol=1e-6)
    np.testing.assert_allclose(report["loss"], SoftmaxCrossEntropyLoss()(labels, logits, weights), rtol=1e-5)
