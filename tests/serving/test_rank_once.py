"""`rank` looks the user's and the context's ids up once, whatever the number of candidates."""

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from tests.serving import cases
from xdeepint_ext import serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.models.baselines import FM
from xdeepint_ext.schema import Feature
from xdeepint_ext.serving.rows import typed
from xdeepint_ext.serving.tables import embeddings

SHARED = ("user", "country", "history", "age", "hour")


@pytest.mark.parametrize("cls", [XDeepInt, FM])
def test_one_row_beside_many_gives_the_repeated_rows_matrix(cls):
    case = cases.case()
    model = case.model(cls)
    mixed = {name: x[3:4] if name in SHARED else x for name, x in case.features.items()}
    repeated = {n: tf.repeat(x, cases.ROWS, axis=0) if n in SHARED else x for n, x in mixed.items()}
    for layer in embeddings(model):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            layer(mixed)
        expected = layer(repeated)
        layer.repeats_single_rows = True
        np.testing.assert_array_equal(layer(mixed), expected)
        np.testing.assert_array_equal(layer(repeated), expected)
        one = {name: x[:1] for name, x in repeated.items()}
        # A product of one row need not sum in the order that a product of many does.
        np.testing.assert_allclose(layer(one), expected[:1], rtol=2e-7, atol=1e-8)


def looked_up(monkeypatch):
    """The shapes of the ids that are looked up while something is traced."""
    shapes = []
    look_up = tf.nn.embedding_lookup

    def recorded(table, ids, **options):
        shapes.append(ids.shape.as_list())
        return look_up(table, ids, **options)

    monkeypatch.setattr(tf.nn, "embedding_lookup", recorded)
    return shapes


FEATURES = (
    Feature("user", "categorical", "user", dtype="int"),
    Feature("history", "sequence", "user", table="video", max_length=4),
    Feature("video", "categorical", "item"),
)


def ranked(folder, case):
    raw = typed(case.rows, raw_signature(case.schema))
    inputs = {name: x[5:6] if name in SHARED else x for name, x in raw.items()}
    answers = tf.saved_model.load(folder).signatures["rank"](**{name: tf.constant(x) for name, x in inputs.items()})
    return answers["logit"].numpy()


def expected_of(model, case):
    features = {n: tf.repeat(x[5:6], cases.ROWS, axis=0) if n in SHARED else x for n, x in case.features.items()}
    return model(features, training=False).numpy()


def test_rank_looks_up_one_row_of_the_users_ids(tmp_path, monkeypatch):
    case = cases.case(features=FEATURES)
    model = case.model()
    expected = expected_of(model, case)
    shapes = looked_up(monkeypatch)
    folder = serving.export(model, case.preprocessor, tmp_path, prune=False)
    assert [1, 5] in shapes and [None, 1] in shapes  # user and history once, video for each candidate
    assert not any(layer.repeats_single_rows for layer in embeddings(model))
    np.testing.assert_allclose(ranked(folder, case), expected, rtol=0, atol=1e-6)


class Joining(XDeepInt):
    """Puts raw ids side by side, which wants as many rows of each."""

    def call(self, features, training=None):
        side = tf.concat([features["user"], features["video"]], axis=1)
        return super().call(features, training=training) + tf.reduce_sum(tf.cast(side, tf.float32), 1, keepdims=True)


def test_a_model_that_wants_all_rows_gets_them(tmp_path, monkeypatch):
    case = cases.case(features=FEATURES)
    model = case.model(Joining)
    expected = expected_of(model, case)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: warnings.append(message % values))
    folder = serving.export(model, case.preprocessor, tmp_path, prune=False)
    assert len(warnings) == 1 and "Joining needs as many rows of every feature" in warnings[0]
    np.testing.assert_allclose(ranked(folder, case), expected, rtol=0, atol=1e-5)
