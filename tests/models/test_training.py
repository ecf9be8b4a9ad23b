"""fit: optimizers, precisions, XLA and replicas all lead to the same model."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models import examples
from tests.models.examples import EVERY_MODEL, MODELS, ONE_TASK, TWO_TASKS
from xdeepint_ext.losses import LogLoss
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.optimizers import GroupFtrl, LazyAdagrad, LazyAdam, OptimizerGroups, paper_optimizers

FTRL = {"learning_rate": 0.1, "l1_regularization_strength": 1e-4}


def fitted(model, data, optimizer=None, epochs=2, **options):
    """The model's weights and history after training from its present weights."""
    model.compile(optimizer, **options)
    history = model.fit(data, epochs=epochs, verbose=0, shuffle=False).history
    return model.get_weights(), history


def close(found, expected, tolerance):
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.float64(x), np.float64(y), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "optimizer",
    [
        None,
        pytest.param("adam", marks=pytest.mark.slow),
        pytest.param(tf.keras.optimizers.SGD(0.5), marks=pytest.mark.slow),
        {"embedding": LazyAdagrad(0.5), "interaction": tf.keras.optimizers.Ftrl(0.5), "default": "adam"},
        OptimizerGroups({"embedding": LazyAdam(0.05), "default": tf.keras.optimizers.Adam(0.05)}),
        paper_optimizers(24),
    ],
    ids=["default", "name", "one", "groups", "given as groups", "paper"],
)
def test_every_kind_of_optimizer_learns(optimizer):
    model = MODELS["with a deep part"](ONE_TASK)
    _, history = fitted(model, examples.dataset(batch_size=24), optimizer, epochs=40)
    assert history["loss"][-1] < history["loss"][0] - 1e-3


def test_each_group_has_its_own_optimizer():
    model = MODELS["with a deep part"](ONE_TASK)
    model.compile(
        {"embedding": tf.keras.optimizers.SGD(0.0), "interaction": tf.keras.optimizers.SGD(0.1), "default": "sgd"}
    )
    model.optimizer.optimizers["default"].learning_rate = 0.0
    before = {weight.name: weight.numpy() for weight in model.weights}
    model.fit(examples.dataset(), verbose=0)
    moved = {weight.name.split("/")[1] for weight in model.weights if (weight.numpy() != before[weight.name]).any()}
    assert moved == {"pin", "head_click"}


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_every_model_learns(name):
    model = MODELS[name](TWO_TASKS)
    _, history = fitted(
        model, examples.dataset(TWO_TASKS, batch_size=24, weighted=True), tf.keras.optimizers.Adam(0.05), 20
    )
    assert history["loss"][-1] < history["loss"][0]


def test_weights_of_0_are_examples_that_are_not_there():
    features, labels, _ = examples.batch(size=8)
    weights = np.array([1.0, 0.0] * 4)
    start = examples.randomise(MODELS["xdeepint"](ONE_TASK)).get_weights()
    found = []
    for changed in (labels, np.where(weights[:, np.newaxis] > 0, labels, 1 - labels)):
        model = MODELS["xdeepint"](ONE_TASK)
        model.set_weights(start)
        data = tf.data.Dataset.from_tensors((features, changed, weights))
        found.append(fitted(model, data, tf.keras.optimizers.SGD(0.5))[0])
    close(found[0], found[1], 1e-7)


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ("mixed_float16", "with a deep part"),
        pytest.param("mixed_bfloat16", "multi-head", marks=pytest.mark.slow),
        pytest.param("mixed_float16", "fm", marks=pytest.mark.slow),
    ],
)
def test_mixed_precision_trains_float32_weights(policy, name):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = MODELS[name](TWO_TASKS)
        weights, history = fitted(
            model,
            examples.dataset(TWO_TASKS, batch_size=24),
            {"embedding": LazyAdagrad(0.1), "default": tf.keras.optimizers.Adam(0.05)},
            epochs=20,
        )
        logits = model(examples.batch(TWO_TASKS)[0])
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert {weight.dtype for weight in weights} == {np.dtype("float32")}
    assert {x.dtype for x in logits.values()} == {tf.float32}
    assert all(np.isfinite(weight).all() for weight in weights)
    assert history["loss"][-1] < history["loss"][0]
    assert isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer) == (policy == "mixed_float16")


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("float64", marks=pytest.mark.slow)])
def test_other_precisions_come_back_from_a_file(policy, tmp_path):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = MODELS["with a deep part"](ONE_TASK)
        fitted(model, examples.dataset())
        model.save(tmp_path / "model.keras")
        again = tf.keras.models.load_model(tmp_path / "model.keras")
        features, _, _ = examples.batch()
        np.testing.assert_array_equal(again(features), model(features))
        assert model(features).dtype == (tf.float64 if policy == "float64" else tf.float32)
        for m in (model, again):
            m.fit(examples.dataset(), verbose=0, shuffle=False)
        close(again.get_weights(), model.get_weights(), 0)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_gradients_of_tables_are_sparse(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = MODELS["xdeepint"](ONE_TASK)
        features, labels, _ = examples.batch()
        with tf.GradientTape() as tape:
            loss = LogLoss()(labels, model(features))
        assert isinstance(tape.gradient(loss, model.embedding.table), tf.IndexedSlices)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_mixed_precision_is_near_full_precision():
    features, _, _ = examples.batch()
    expected = examples.randomise(MODELS["xdeepint"](ONE_TASK))(features)
    for policy, digits in (("mixed_float16", 2**-9), ("mixed_bfloat16", 2**-6)):
        tf.keras.mixed_precision.set_global_policy(policy)
        try:
            found = examples.randomise(MODELS["xdeepint"](ONE_TASK))(features)
        finally:
            tf.keras.mixed_precision.set_global_policy("float32")
        np.testing.assert_allclose(found, expected, rtol=4 * digits, atol=4 * digits)


@pytest.mark.parametrize("name", [pytest.param("with a deep part", marks=pytest.mark.slow), "fm"])
def test_compiled_trunk_trains_the_same(name):
    weights, histories = [], []
    for jit_compile in (False, True):
        model = examples.randomise(MODELS[name](TWO_TASKS))
        optimizer = {"embedding": GroupFtrl(0.1, lambda1=1e-4), "default": tf.keras.optimizers.Ftrl(**FTRL)}
        found = fitted(model, examples.dataset(TWO_TASKS, size=20), optimizer, jit_compile=jit_compile)
        weights.append(found[0])
        histories.append(found[1])
    close(weights[1], weights[0], 1e-5)
    close(list(histories[1].values()), list(histories[0].values()), 1e-5)


@pytest.mark.parametrize(
    ("schema", "batch_size", "groups"),
    [
        pytest.param(ONE_TASK, 8, False, marks=pytest.mark.slow),
        (TWO_TASKS, 7, True),
    ],  # of 20 examples: the last batch has 4, or 6; 7 are divided into 4 and 3
    ids=["even, one optimizer", "odd, groups"],
)
def test_two_replicas_train_as_one(schema, batch_size, groups, two_replicas):
    data = examples.dataset(schema, size=20, batch_size=batch_size, weighted=True)
    start = examples.randomise(MODELS["with a deep part"](schema)).get_weights()
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = MODELS["with a deep part"](schema)
            model.set_weights(start)
            by_group = {"embedding": GroupFtrl(0.1, lambda1=1e-4), "default": tf.keras.optimizers.Ftrl(**FTRL)}
            results.append(fitted(model, data, by_group if groups else tf.keras.optimizers.SGD(0.1)))
    close(results[1][0], results[0][0], 1e-6)
    close(list(results[1][1].values()), list(results[0][1].values()), 1e-5)


@pytest.mark.slow
def test_two_replicas_with_other_losses_and_metrics(two_replicas):
    data = examples.dataset(TWO_TASKS, size=15, batch_size=5)
    start = examples.randomise(MODELS["linear"](TWO_TASKS)).get_weights()
    loss = {"click": LogLoss(reduction="sum"), "buy": tf.keras.losses.BinaryCrossentropy(from_logits=True)}
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = MODELS["linear"](TWO_TASKS)
            model.set_weights(start)
            metrics = [tf.keras.metrics.AUC(from_logits=True)]
            results.append(fitted(model, data, tf.keras.optimizers.SGD(0.1), loss=loss, metrics=metrics))
    close(results[1][0], results[0][0], 1e-6)
    close(list(results[1][1].values()), list(results[0][1].values()), 1e-5)


def test_added_losses_count_once_on_two_replicas(two_replicas):
    data = examples.dataset(size=16)
    start = examples.randomise(MODELS["xdeepint"](ONE_TASK)).get_weights()
    found = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = XDeepInt(ONE_TASK, width=4, num_layers=2, num_subspaces=2, kernel_regularizer="l2")
            model.set_weights(start)
            found.append(fitted(model, data, tf.keras.optimizers.SGD(0.1))[0])
    close(found[1], found[0], 1e-6)


def test_steps_per_execution_changes_nothing():
    start = examples.randomise(MODELS["xdeepint"](ONE_TASK)).get_weights()
    found = []
    for steps in (1, 3):
        model = MODELS["xdeepint"](ONE_TASK)
        model.set_weights(start)
        found.append(fitted(model, examples.dataset(), tf.keras.optimizers.SGD(0.1), steps_per_execution=steps)[0])
    close(found[1], found[0], 1e-7)


def test_fit_is_reproducible():
    found = []
    for _ in range(2):
        tf.keras.utils.set_random_seed(5)
        model = XDeepInt(ONE_TASK, width=4, num_layers=2, num_subspaces=2, dropout=0.3, dnn_units=[4], dnn_dropout=0.3)
        found.append(fitted(model, examples.dataset())[0])
    close(found[1], found[0], 0)


def test_rows_outside_the_batch_stay():
    model = examples.randomise(MODELS["xdeepint"](ONE_TASK))
    before = model.embedding.table.numpy()
    features, labels, _ = examples.batch(size=1)
    fitted(model, tf.data.Dataset.from_tensors((features, labels)), epochs=1)
    changed = (model.embedding.table.numpy() != before).any(axis=1)
    tables = ONE_TASK.tables
    seen = {tables["user"].offset + int(features["user"][0, 0])} if features["user"][0, 0] else set()
    for name in ("item", "history"):
        seen |= {tables["video"].offset + int(i) for i in features[name][0] if i > 0}
    assert set(np.flatnonzero(changed)) == seen
