"""RankingModel: weights when they are needed, names, subclasses, field matrices of one's own."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tests.models import examples
from tests.models.examples import EVERY_MODEL, FIELDS, MODELS, ONE_TASK, TWO_TASKS, WIDTH
from xdeepint_ext.layers import PIN
from xdeepint_ext.losses import LogLoss
from xdeepint_ext.models import RankingModel, XDeepInt
from xdeepint_ext.models.baselines import FM, LR
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.signatures import input_signature
from xdeepint_ext.utils.variables import optimizer_group


@pytest.mark.parametrize("name", ["with a deep part", "fm"])
@pytest.mark.parametrize("need", ["weights", "trainable_weights", "summary", "save_weights", "count_params", "call"])
def test_weights_are_there_on_the_first_need(name, need, tmp_path):
    model = MODELS[name](ONE_TASK)
    assert not model.built
    if need == "summary":
        model.summary(print_fn=lambda line: None)
    elif need == "save_weights":
        model.save_weights(tmp_path / "weights")
    elif need == "count_params":
        assert model.count_params() > 0
    elif need == "call":
        model(examples.batch()[0])
    else:
        assert getattr(model, need)
    assert model.built


@pytest.mark.parametrize("schema", [ONE_TASK, TWO_TASKS], ids=["one task", "two tasks"])
def test_inputs_and_outputs_have_the_schemas_names(schema, tmp_path):
    model = MODELS["xdeepint"](schema)
    tf.saved_model.save(model, str(tmp_path))
    _, inputs = tf.saved_model.load(str(tmp_path)).signatures["serving_default"].structured_input_signature
    assert {name: (spec.shape, spec.dtype) for name, spec in inputs.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in input_signature(schema).items()
    }
    found = model(examples.batch(schema, size=3)[0])
    if schema is ONE_TASK:
        assert found.shape == (3, 1)
    else:
        assert {task: logits.shape for task, logits in found.items()} == {"click": (3, 1), "buy": (3, 1)}


def test_a_schema_without_labels_is_one_task():
    model = RankingModel(Schema(examples.INPUTS), width=WIDTH)
    assert model.tasks == ("label",)
    assert model(examples.batch()[0]).shape == (8, 1)


def test_weights_are_in_the_groups_of_their_layers():
    groups = {}
    for weight in MODELS["with a deep part"](ONE_TASK).weights:
        layer = re.sub(r"_\d+$", "", weight.name.split("/")[1])  # Keras numbers what has no name
        groups.setdefault(optimizer_group(weight), set()).add(layer)
    assert groups == {
        "embedding": {"feature_embedding"},
        "interaction": {"pin", "head_click"},
        "default": {"deep", "deep_head_click"},
    }


def test_side_inputs_and_other_keys_are_ignored():
    features, _, _ = examples.batch()
    model = MODELS["xdeepint"](ONE_TASK)
    expected = model(features)
    plain = {name: features[name] for name in input_signature(ONE_TASK)}
    np.testing.assert_array_equal(model(plain), expected)
    np.testing.assert_array_equal(model({**plain, "more": tf.constant(["x"] * 8)}), expected)
    np.testing.assert_array_equal(model.predict(features, verbose=0), model.predict(plain, verbose=0))


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_small_batches(name):
    model = MODELS[name](ONE_TASK)
    for size in (0, 1):
        assert model(examples.batch(size=size)[0]).shape == (size, 1)


def test_missing_features_are_named():
    features, _, _ = examples.batch()
    features["usr"] = features.pop("user")
    with pytest.raises(ValueError, match=r"features lack \['user'\]; got .*'usr'"):
        MODELS["xdeepint"](ONE_TASK)(features)


@register
class Scaled(XDeepInt):
    """Adds a layer of its own after `super().__init__()`, and changes all three parts."""

    def __init__(self, schema, *, factor=2.0, **kwargs):
        super().__init__(schema, **kwargs)
        self.factor = factor
        self.more = tf.keras.layers.Dense(self.width, name="more")

    def interaction(self, x, training=None):
        return self.more(super().interaction(x, training=training))

    def head(self, x, training=None):
        return tf.nest.map_structure(lambda logits: self.factor * logits, super().head(x, training=training))

    def train_step(self, data):
        return {**super().train_step(data), "steps": self.optimizer.iterations}

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@pytest.mark.parametrize("schema", [ONE_TASK, TWO_TASKS], ids=["one task", "two tasks"])
def test_subclasses_override_parts(schema, tmp_path):
    model = Scaled(schema, factor=3.0, width=WIDTH, num_layers=1)
    assert any("more" in weight.name for weight in model.weights)
    features, _, _ = examples.batch(schema)
    x = model.embedding(features)
    expected = 3.0 * model.heads["click"](model.more(model.pin(x)))
    found = model(features)
    np.testing.assert_allclose(found["click"] if isinstance(found, dict) else found, expected, rtol=1e-6)
    model.compile()
    history = model.fit(examples.dataset(schema), epochs=2, verbose=0).history
    assert history["steps"] == [3, 6]
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    assert (type(again), again.factor) == (Scaled, 3.0)
    tf.nest.map_structure(np.testing.assert_array_equal, again(features), model(features))


class Counting(RankingModel):
    """Counts the examples it was called with, in a metric of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.examples = tf.keras.metrics.Sum(name="examples")

    def interaction(self, x, training=None):
        self.examples.update_state(tf.shape(x)[0])
        return x


def test_metrics_of_a_subclass_are_shown_and_reset():
    model = Counting(ONE_TASK, width=WIDTH)
    model.compile(metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")])
    history = model.fit(examples.dataset(size=24), epochs=2, verbose=0).history
    assert history["examples"] == [24.0, 24.0]
    assert set(history) == {"loss", "auc", "examples"}


def test_custom_loops_need_no_call_before():
    model = MODELS["xdeepint"](ONE_TASK)
    features, labels, _ = examples.batch()
    optimizer = tf.keras.optimizers.SGD(0.1)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = LogLoss()(labels, model(features, training=True))
        optimizer.minimize(loss, model.trainable_variables, tape)
        return loss

    assert float(step()) > float(step())


@pytest.mark.parametrize("options", [{}, {"dnn_units": [3]}, {"heads": [{"num_layers": 1}], "head_width": 2}])
def test_field_matrices_made_elsewhere(options, tmp_path):
    model = XDeepInt.from_embeddings(num_fields=FIELDS, width=WIDTH, num_layers=2, **options)
    assert model.weights
    x = tf.random.normal((8, FIELDS, WIDTH))
    assert model(x).shape == (8, 1)
    model.compile()
    labels = tf.cast(tf.random.uniform((8, 1)) > 0.5, tf.float32)
    losses = model.fit(x, labels, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x), model(x))
    assert again.num_fields == FIELDS


def test_field_matrix_is_the_interaction_of_a_schemas_model():
    model = MODELS["xdeepint"](ONE_TASK)
    features, _, _ = examples.batch()
    plain = XDeepInt.from_embeddings(FIELDS, WIDTH, num_layers=2, num_subspaces=2)
    plain.set_weights([weight for weight in model.get_weights()[len(model.embedding.weights) :]])
    np.testing.assert_allclose(plain(model.embedding(features)), model(features), rtol=1e-6)


@pytest.mark.parametrize("model", [FM, LR])
def test_models_of_tables_need_a_schema(model):
    with pytest.raises(ValueError, match=f"{model.__name__} has tables of its own: it needs a schema"):
        model.from_embeddings(num_fields=3, width=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: XDeepInt(ONE_TASK, width=10), "num_subspaces must divide the embedding width 10, got 4"),
        (lambda: XDeepInt(ONE_TASK, num_layers=-1), "num_layers must be >= 0, got -1"),
        (lambda: XDeepInt(ONE_TASK, heads=[]), "heads must not be empty"),
        (lambda: XDeepInt(ONE_TASK, num_fields=3), "give schema or num_fields, one of the two"),
        (lambda: RankingModel(None), "give schema or num_fields, one of the two; got None, None"),
        (lambda: RankingModel(Schema([Feature("click", "numeric", "label")])), "has no model input"),
        (lambda: RankingModel(Schema([Feature("user")])), "number of values is unknown"),
        (lambda: RankingModel(ONE_TASK, width=0), "width must be > 0, got 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dropout_acts_in_training_only():
    model = XDeepInt(ONE_TASK, width=WIDTH, num_layers=2, dropout=0.5, dnn_units=[8], dnn_dropout=0.5)
    features, _, _ = examples.batch()
    np.testing.assert_array_equal(model(features), model(features, training=False))
    assert np.abs(model(features, training=True) - model(features, training=True)).max() > 1e-4


def test_pin_options_reach_the_layer():
    model = XDeepInt(ONE_TASK, width=WIDTH, num_layers=2, num_subspaces=2, activation="tanh", kernel_regularizer="l2")
    config = model.pin.get_config()
    assert isinstance(model.pin, PIN)
    assert (config["activation"], config["num_subspaces"]) == ("tanh", 2)
    model(examples.batch()[0])
    assert len(model.losses) == 2
