"""A loss that learns a scalar: compiled, trained, saved and replicated as part of the model."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models import examples
from tests.models.examples import ONE_TASK, TWO_TASKS
from xdeepint_ext.losses import ARFLoss
from xdeepint_ext.models import RankingModel, TwoTower
from xdeepint_ext.models.baselines import LR


def make(optimizer=None):
    model = TwoTower(ONE_TASK, width=4, units=[5, 3])
    model.compile(optimizer or tf.keras.optimizers.SGD(0.1), ARFLoss(top_k=1, supply_m=2, temperature=3.0))
    return model


def batches(size=4):
    features, grades, _ = examples.lists(size=size)
    return tf.data.Dataset.from_tensors((features, grades))


def scalar(model):
    [layer] = model.loss_layers
    return float(layer.log_weight)


def test_one_step_moves_the_scalar_as_its_gradient_says():
    model, [(features, grades)] = make(), batches()
    layer = ARFLoss(top_k=1, supply_m=2, temperature=3.0)
    with tf.GradientTape() as tape:
        value = layer(model(features, training=True), grades)
    slope = tape.gradient(value, layer.log_weight)
    found = model.evaluate(batches(), verbose=0)
    np.testing.assert_allclose(found, value, rtol=1e-6)
    model.fit(batches(), verbose=0)
    np.testing.assert_allclose(scalar(model), -0.1 * slope, rtol=1e-5)
    assert scalar(model) != 0.0


def test_it_is_a_weight_of_the_model_as_long_as_the_loss_is_its():
    model = make()
    assert sum(weight.name.endswith("/log_weight:0") for weight in model.trainable_weights) == 1
    number = len(model.trainable_weights)
    model.compile(tf.keras.optimizers.SGD(0.1))
    assert len(model.trainable_weights) == number - 1


def test_it_is_saved_with_the_model(tmp_path):
    model = make(tf.keras.optimizers.Adam(0.01))
    model.fit(batches(), epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    assert scalar(again) == scalar(model) != 0.0
    for one in (model, again):
        one.fit(batches(), verbose=0)
    np.testing.assert_allclose(scalar(again), scalar(model), rtol=1e-6)


def test_the_saved_model_has_the_model_s_scores(tmp_path):
    model = make()
    model.fit(batches(), verbose=0)
    tf.saved_model.save(model, str(tmp_path / "saved"))
    rows = {name: value for name, value in examples.batch()[0].items() if name in model.input_signature()}
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded(rows, training=False), model(rows), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_two_replicas_are_one_device(two_replicas):
    features, grades, _ = examples.lists(size=8)
    grades[5] = 0.0  # does not count: the replicas differ in how many lists do
    data = tf.data.Dataset.from_tensor_slices((features, grades)).batch(8)
    alone = make()
    start = alone.get_weights()
    with two_replicas.scope():
        both = make()
    both.set_weights(start)
    for model in (alone, both):
        model.fit(data, verbose=0)
    for one, other in zip(alone.get_weights(), both.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_it_has_the_optimizer_of_the_rest():
    model = LR(ONE_TASK)
    model.compile(loss=ARFLoss(top_k=1, supply_m=2))
    model.fit(batches(), verbose=0)
    assert scalar(model) != 0.0


def test_several_tasks_need_one_each():
    with pytest.raises(ValueError, match="learns scalars of its own: several tasks need one each"):
        RankingModel(TWO_TASKS).compile(loss=ARFLoss(top_k=1, supply_m=2))
    model = RankingModel(TWO_TASKS)
    model.compile(loss={task: ARFLoss(top_k=1, supply_m=2) for task in model.tasks})
    assert len(model.loss_layers) == 2
