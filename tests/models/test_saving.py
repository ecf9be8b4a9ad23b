"""What is saved comes back: configuration, weights, every optimizer's slots; training goes on as if never stopped."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models import examples
from tests.models.examples import EVERY_MODEL, MODELS, ONE_TASK, TWO_TASKS, WIDTH
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.optimizers import GroupFtrl, LazyAdagrad, LazyAdam, paper_optimizers

OPTIMIZERS = {
    "default": lambda: None,
    "one": lambda: tf.keras.optimizers.Adam(0.01),
    "groups": lambda: {"embedding": LazyAdagrad(0.1), "interaction": tf.keras.optimizers.Ftrl(0.1), "default": "adam"},
    "paper": lambda: paper_optimizers(8),
    "schedule": lambda: {
        "embedding": GroupFtrl(0.1, lambda1=1e-4),
        "default": LazyAdam(tf.keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)),
    },
}


def model_of(schema, optimizer):
    model = MODELS["with a deep part"](schema)
    model.compile(OPTIMIZERS[optimizer](), metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")])
    return model


def fit(model, schema, epochs=2):
    return model.fit(examples.dataset(schema), epochs=epochs, verbose=0, shuffle=False)


def slots(model):
    return [variable.numpy() for variable in model.optimizer.variables]


def equal(found, expected):
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, y)


SLOW = {"default", "one", "schedule"}


@pytest.mark.parametrize("optimizer", [pytest.param(o, marks=[pytest.mark.slow] * (o in SLOW)) for o in OPTIMIZERS])
def test_training_goes_on_as_if_never_stopped(optimizer, tmp_path):
    schema = TWO_TASKS if optimizer in ("default", "paper") else ONE_TASK
    model = model_of(schema, optimizer)
    fit(model, schema)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    equal(again.get_weights(), model.get_weights())
    equal(slots(again), slots(model))
    assert any(slot.any() for slot in slots(again))
    histories = [fit(m, schema).history for m in (model, again)]
    assert histories[0] == histories[1]
    equal(again.get_weights(), model.get_weights())
    equal(slots(again), slots(model))


@pytest.mark.parametrize("optimizer", [pytest.param("one", marks=pytest.mark.slow), "groups"])
def test_checkpoints_hold_every_slot(optimizer, tmp_path):
    model = model_of(ONE_TASK, optimizer)
    fit(model, ONE_TASK)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    again = model_of(ONE_TASK, optimizer)
    again.build_from_schema()
    again.optimizer.build(again.trainable_variables)
    tf.train.Checkpoint(model=again).read(path).assert_consumed()
    fit(model, ONE_TASK)
    fit(again, ONE_TASK)
    equal(again.get_weights(), model.get_weights())
    equal(slots(again), slots(model))


def test_compile_options_come_back(tmp_path):
    model = MODELS["linear"](TWO_TASKS)
    metrics = {"buy": [tf.keras.metrics.AUC(from_logits=True, num_thresholds=7, name="auc")]}
    model.compile(metrics=metrics, loss_weights={"buy": 0.5}, jit_compile=True, steps_per_execution=2)
    fit(model, TWO_TASKS, epochs=1)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    assert again.jit_trunk
    assert again.objective.weights == {"click": 1.0, "buy": 0.5}
    assert [m.name for m in again.metrics] == [m.name for m in model.metrics]
    assert again.objective.task_metrics["buy"][0].num_thresholds == 7
    reports = [m.evaluate(examples.dataset(TWO_TASKS), return_dict=True, verbose=0) for m in (model, again)]
    assert reports[0] == reports[1]


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_models_come_back_without_being_compiled(name, tmp_path):
    model = examples.randomise(MODELS[name](TWO_TASKS))
    features, _, _ = examples.batch(TWO_TASKS)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    assert again.get_config() == model.get_config()
    tf.nest.map_structure(np.testing.assert_array_equal, again(features), model(features))


@pytest.mark.parametrize("name", ["weights", "weights.h5", "model.weights.h5"])
def test_weights_alone(name, tmp_path):
    model = examples.randomise(MODELS["with a deep part"](ONE_TASK))
    model.save_weights(tmp_path / name)
    again = MODELS["with a deep part"](ONE_TASK)
    again.load_weights(tmp_path / name)
    equal(again.get_weights(), model.get_weights())


def test_every_argument_is_in_the_configuration():
    options = {
        "width": 6,
        "num_layers": 2,
        "num_subspaces": 3,
        "activation": "tanh",
        "dropout": [0.1, 0.2],
        "residual": False,
        "dnn_units": [3],
        "dnn_dropout": 0.5,
        "kernel_initializer": tf.keras.initializers.RandomNormal(stddev=0.5, seed=3),
        "kernel_regularizer": tf.keras.regularizers.L2(0.1),
        "embedding_initializer": tf.keras.initializers.Constant(0.25),
        "name": "mine",
    }
    model = XDeepInt(ONE_TASK, **options)
    again = XDeepInt.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert again.name == "mine"
    assert (again.pin.dropout, again.pin.residual, again.deep.dropout) == ([0.1, 0.2], False, 0.5)
    assert again.pin.kernel_initializer.stddev == 0.5
    assert again.pin.kernel_regularizer.l2 == np.float32(0.1)
    again.build_from_schema()
    assert set(np.unique(again.embedding.table)) == {0.25}


def test_heads_with_objects_in_them_come_back(tmp_path):
    heads = [
        {"num_layers": 1, "kernel_initializer": tf.keras.initializers.Ones()},
        {"num_layers": 2, "activation": tf.nn.relu},
    ]
    model = XDeepInt(ONE_TASK, width=WIDTH, heads=heads)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    features, _, _ = examples.batch()
    np.testing.assert_array_equal(again(features), model(features))
    assert again.get_config() == model.get_config()


def test_a_file_of_another_schema_is_refused(tmp_path):
    MODELS["linear"](ONE_TASK).save_weights(tmp_path / "model.weights.h5")
    other = MODELS["linear"](ONE_TASK.replace({"user": {"num_values": 60}}))
    with pytest.raises(ValueError, match="shape"):
        other.load_weights(tmp_path / "model.weights.h5")
