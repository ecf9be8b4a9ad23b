"""Exports with something else in the `Preprocessor`'s place."""

import numpy as np
import pytest
import tensorflow as tf

from tests.serving import c_api
from xdeepint_ext import serving
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.schema import Feature, Schema

SCHEMA = Schema(
    [
        Feature("user", "categorical", "user", num_values=20),
        Feature("tags", "multi", "item", num_values=20, max_length=2, dtype="int", lookup="identity"),
        Feature("cross", "categorical", "item", num_values=50),
        Feature("picture", "vector", "item", dimension=2),
    ]
)
SIGNATURE = {
    "user": tf.TensorSpec((None,), tf.string),
    "tags": tf.TensorSpec((None, None), tf.int64),
    "picture": tf.TensorSpec((None, 2), tf.float32),
}
RAW = {
    "user": np.array([b"ann", b"bob", b"zoe"], object),
    "tags": np.array([[3, 4, 5], [1, tf.int64.min, tf.int64.min], [2, 3, tf.int64.min]]),
    "picture": np.array([[1, 2], [3, 4], [5, 6]], np.float32),
}
SHARED = ("user",)


class Crossing(tf.Module):
    """Has a look-up table, and makes a feature of a user's and an item's column together."""

    def __init__(self):
        super().__init__()
        names = tf.lookup.KeyValueTensorInitializer(["ann", "bob"], tf.constant([1, 2], tf.int64))
        self.table = tf.lookup.StaticHashTable(names, 3)

    def __call__(self, raw):
        user = self.table.lookup(raw["user"])
        tags = tf.maximum(raw["tags"], 0)
        return {
            "user": tf.cast(user, tf.int32),
            "tags": tf.pad(tags, [[0, 0], [0, 2]])[:, :2],
            "cross": user + 4 * tf.reduce_max(tags, axis=1),
            "picture": raw["picture"],
        }


class CrossingLayer(tf.keras.layers.Layer):
    """The same as a Keras layer that was never called, as a tf.Transform layer is."""

    def __init__(self):
        super().__init__()
        self.crossing = Crossing()

    def call(self, raw):
        return self.crossing(raw)


def serialized(raw):
    found = []
    for user, tags, picture in zip(*raw.values(), strict=True):
        example = tf.train.Example()
        example.features.feature["user"].bytes_list.value.append(user)
        example.features.feature["tags"].int64_list.value.extend(tags[tags >= 0])
        example.features.feature["picture"].float_list.value.extend(picture)
        found.append(example.SerializeToString())
    return np.array(found, object)


def made_model():
    model = XDeepInt(SCHEMA, width=4, num_layers=1)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(scale=0.5, size=weight.shape))
    return model


@pytest.mark.parametrize("cls", [Crossing, CrossingLayer])
def test_it_is_served_with_the_models_scores(cls, tmp_path):
    model, preprocessor = made_model(), cls()
    folder = serving.export(model, preprocessor, tmp_path, raw_signature=SIGNATURE)
    rank = {name: value[:1] if name in SHARED else value for name, value in RAW.items()}
    answers = c_api.run_signatures(
        [
            (folder, "predict_raw", RAW),
            (folder, "serving_default", {"examples": serialized(RAW)}),
            (folder, "rank", rank),
            (folder, "preprocess", RAW),
        ]
    )
    for answer, raw in zip(answers, [RAW, RAW, {**RAW, "user": np.repeat(RAW["user"][:1], 3)}], strict=False):
        features = Crossing()({name: tf.constant(value) for name, value in raw.items()})
        features["user"] = tf.cast(features["user"], tf.int64)
        np.testing.assert_allclose(answer["logit"], model(features).numpy(), rtol=0, atol=1e-6)
    assert {name: value.dtype.name for name, value in answers[3].items()} == {
        "user": "int64",
        "tags": "int64",
        "cross": "int64",
        "picture": "float32",
    }


def test_what_it_must_give(tmp_path):
    model = made_model()
    with pytest.raises(ValueError, match=r"does not give \['cross'\].* it gives \['picture', 'tags', 'user'\]"):
        serving.export(
            model, lambda raw: {**raw, "user": tf.ones_like(raw["user"], tf.int64)}, tmp_path, raw_signature=SIGNATURE
        )
    with pytest.raises(ValueError, match="gives float32 for 'cross'; the model takes int64"):
        serving.export(
            model, lambda raw: {**Crossing()(raw), "cross": raw["picture"][:, 0]}, tmp_path, raw_signature=SIGNATURE
        )


def test_its_raw_signature_is_needed_and_checked(tmp_path):
    with pytest.raises(ValueError, match=r"raw_signature must be given if and only if .* got a Crossing and None"):
        serving.export(made_model(), Crossing(), tmp_path)
    for spec in (tf.TensorSpec((None,), tf.float64), tf.TensorSpec((), tf.string)):
        with pytest.raises(ValueError, match=r"raw_signature\['user'\]: expected string, int64 or float32 of shape"):
            serving.export(made_model(), Crossing(), tmp_path, raw_signature={**SIGNATURE, "user": spec})


def with_python(raw):
    shape = tf.shape(raw["user"])
    cross = tf.py_function(lambda x: x, [raw["tags"][:, 0]], tf.int64)
    return {**raw, "user": tf.ones(shape, tf.int64), "tags": tf.ones((shape[0], 2), tf.int64), "cross": cross}


def with_xla(raw):
    compiled = tf.function(lambda x: x * 2.0, jit_compile=True)
    shape = tf.shape(raw["user"])
    ids = {
        "user": tf.ones(shape, tf.int64),
        "tags": tf.ones((shape[0], 2), tf.int64),
        "cross": tf.ones(shape, tf.int64),
    }
    return {**ids, "picture": compiled(raw["picture"])}


@pytest.mark.parametrize(
    "preprocessor, message", [(with_python, "EagerPyFunc .* calls Python"), (with_xla, "compiled by XLA")]
)
def test_what_serving_could_not_run_is_refused(preprocessor, message, tmp_path):
    model = made_model()

    def shaped(raw):
        features = preprocessor(raw)
        return {n: tf.reshape(features[n], (-1, *spec.shape[1:])) for n, spec in model.input_signature().items()}

    with pytest.raises(ValueError, match=message):
        serving.export(model, shaped, tmp_path / "base", raw_signature=SIGNATURE)
    assert list(tmp_path.iterdir()) == []
