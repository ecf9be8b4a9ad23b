"""Every loss trains: in plain Keras on lists, dense and from ELWC, and in a RankingModel with its side inputs."""

import numpy as np
import pytest
import tensorflow as tf

from tests.conformance.harness import takes_lists
from tests.conformance.table import TABLE, Line
from xdeepint_ext import losses
from xdeepint_ext.models import RankingModel
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.tf_ranking import import_tensorflow_ranking

LISTS = [line for line in TABLE if line.kind == "loss" and takes_lists(line)]


def each(lines: list[Line]) -> pytest.MarkDecorator:
    """Parametrises with losses, of which the leader is in the default run."""
    marked = [pytest.param(x, id=x.name, marks=() if x.leads else pytest.mark.slow) for x in lines]
    return pytest.mark.parametrize("line", marked)


SCHEMA = Schema(
    [
        Feature("user", "categorical", ("user", "group"), num_values=5),
        Feature("item", "categorical", ("item", "item_id"), num_values=9),
        Feature("stage", "categorical", "stage", num_values=3),
        Feature("score", "numeric", "teacher"),
        Feature("click", "numeric", "label"),
    ]
)


def lists(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """x (64, 6, 3), of which the first column is what the labels follow; the last items are padding in half of them."""
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 6, 3)).astype(np.float32)
    order = np.argsort(np.argsort(x[..., 0], axis=1), axis=1)
    best = {"BPRLoss", "TripletLoss", "JRCLoss", "CROLoss", "CROLambdaLoss"}
    labels = (order == 5).astype(np.float32) if line.name in best else np.maximum(order - 2, 0).astype(np.float32)
    if "Distill" not in line.name:
        labels[::2, 4:] = -1.0
    return x, labels


def model_of(line: Line) -> tf.keras.Model:
    two = line.example(1)[1].shape.rank == 3
    x = tf.keras.Input((None, 3), name="x")
    start = tf.keras.initializers.Constant(0.01)
    scores = tf.keras.layers.Dense(2 if two else 1, kernel_initializer=start)(x)
    model = tf.keras.Model(x, scores if two else tf.squeeze(scores, -1))
    if two:  # equal logits of both classes would stay equal
        model.layers[1].set_weights([np.array([[0.0, 0.01]] * 3, np.float32), np.zeros(2, np.float32)])
    model.compile(tf.keras.optimizers.Adam(0.03), line.make())
    return model


def learns(model: tf.keras.Model, line: Line, data, epochs: int = 6) -> None:
    history = model.fit(data, epochs=epochs, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    weights = model.layers[1].get_weights()[0]
    direction = weights[:, -1] - (weights[:, 0] if weights.shape[1] == 2 else 0)
    if line.name != "CROLambdaLoss":  # whose weights change as ranks do: its value need not fall
        assert history[-1] < history[0]
    assert direction[0] > abs(direction[1:]).max()


@each(LISTS)
def test_fit_on_dense_lists(line: Line):
    x, labels = lists(line)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, labels.shape).astype(np.float32)
    learns(model_of(line), line, tf.data.Dataset.from_tensor_slices((x, labels, weights)).batch(16))


def elwc(x: np.ndarray, labels: np.ndarray) -> bytes:
    """A list as ExampleListWithContext: context = user, examples = items."""
    from tensorflow_serving.apis import input_pb2

    made = input_pb2.ExampleListWithContext()
    made.context.features.feature["user"].int64_list.value.append(1)
    for row, label in zip(x, labels, strict=True):
        if label >= 0:
            example = made.examples.add()
            example.features.feature["x"].float_list.value.extend(row)
            example.features.feature["label"].float_list.value.append(label)
    return made.SerializeToString()


@each([line for line in LISTS if "Distill" not in line.name])
def test_fit_from_elwc(line: Line):
    tfr = import_tensorflow_ranking()
    x, labels = lists(line)
    serialized = [elwc(*pair) for pair in zip(x, labels, strict=True)]

    def parse(batch):
        parsed = tfr.data.parse_from_example_list(
            batch,
            context_feature_spec={"user": tf.io.FixedLenFeature([1], tf.int64)},
            example_feature_spec={
                "x": tf.io.FixedLenFeature([3], tf.float32, [0.0, 0.0, 0.0]),
                "label": tf.io.FixedLenFeature([1], tf.float32, [-1.0]),
            },
        )
        return parsed["x"], tf.squeeze(parsed["label"], -1)

    data = tf.data.Dataset.from_tensor_slices(serialized).batch(16).map(parse)
    learns(model_of(line), line, data, epochs=4)


def features_and_labels(rows: int = 32):
    random = np.random.default_rng(0)
    x = {
        "user": random.integers(1, 6, (rows, 1)),
        "item": random.integers(1, 10, (rows, 1)),
        "group_ids": random.integers(0, 4, rows),
        "item_ids": random.integers(1, 10, rows),
        "stages": random.integers(0, 3, rows),
        "teacher": random.normal(size=rows).astype(np.float32),
    }
    return x, random.integers(0, 2, (rows, 1)).astype(np.float32)


IN_BATCH = {
    "groups": (
        losses.ListCrossEntropyLoss(grouped=True),
        lambda y, s, x: losses.list_cross_entropy(y, s, group_ids=x["group_ids"]),
    ),
    "batch": (
        losses.PairwiseLogisticLoss(in_batch=True),
        lambda y, s, x: losses.pairwise_logistic(y, s, in_batch=True),
    ),
    "teacher": (
        losses.SoftmaxDistillationLoss(in_batch=True),
        lambda y, s, x: losses.softmax_distillation(x["teacher"], s[:, 0], in_batch=True),
    ),
    "teacher in groups": (
        losses.WeightedLogLossDistillation(grouped=True),
        lambda y, s, x: losses.weighted_log_loss_distillation(x["teacher"], s[:, 0], group_ids=x["group_ids"]),
    ),
    "combined": (
        losses.CombinedLoss({losses.LogLoss(): 0.9, losses.SoftmaxCrossEntropyLoss(grouped=True): 0.1}),
        lambda y, s, x: (
            0.9 * losses.log_loss(y, s) + 0.1 * losses.softmax_cross_entropy(y, s, group_ids=x["group_ids"])
        ),
    ),
}


@pytest.mark.parametrize("name", IN_BATCH)
def test_side_inputs_reach_the_loss_in_a_ranking_model(name: str):
    loss, expected = IN_BATCH[name]
    x, y = features_and_labels()
    model = RankingModel(SCHEMA, width=4)
    model.compile(tf.keras.optimizers.SGD(0.1), loss=loss)
    before = model(x)
    found = model.train_on_batch(x, y, return_dict=True)["loss"]
    np.testing.assert_allclose(found, expected(y, before, x), rtol=1e-5)
    assert np.abs(model(x) - before).max() > 1e-4


@pytest.mark.parametrize("name", [pytest.param("batch", marks=pytest.mark.slow), "combined"])
def test_a_model_file_keeps_the_loss(name: str, tmp_path):
    x, y = features_and_labels()
    model = RankingModel(SCHEMA, width=4)
    model.compile(tf.keras.optimizers.SGD(0.1), loss=IN_BATCH[name][0])
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    a, b = (m.train_on_batch(x, y, return_dict=True)["loss"] for m in (model, loaded))
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_parts_are_divided_by_the_global_batch(two_replicas):
    """Two replicas sum each part's units over the global batch before they divide."""
    x, y = features_and_labels(rows=30)
    y[3:20:3] = -1.0
    loss = losses.CombinedLoss({losses.LogLoss(): 0.7, losses.WeightedLogLossDistillation(in_batch=True): 0.3})
    start, ends = None, []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = RankingModel(SCHEMA, width=4)
            model.compile(tf.keras.optimizers.SGD(0.5), loss=type(loss).from_config(loss.get_config()))
            model.build_from_schema()
        start = model.get_weights() if start is None else start
        model.set_weights(start)
        model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(2), verbose=0)
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
