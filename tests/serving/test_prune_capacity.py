"""Pruning tables with rows that wait for values: they go, whatever they hold, and nothing else changes."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.data import Preprocessor
from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.models import RankingModel
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.pruning import prune, zeroed_values

VALUES = [b"a", b"b", b"c"]
SCHEMA = Schema(
    [
        Feature("user", num_values=len(VALUES), capacity=40, missing="bucket"),
        Feature("slot", dtype="int", lookup="identity", num_values=2, capacity=30),
        Feature("click", "numeric", "label"),
    ]
)
RAW = {"user": tf.constant(["a", "b", "c", "other", ""]), "slot": tf.constant([0, 1, 5, 0, 1], tf.int64)}


@pytest.fixture
def pair(tmp_path):
    """A model whose rows are random, the waiting ones, too, and its preprocessor."""
    with open(vocabulary_file(tmp_path, "user"), "wb") as stream:
        stream.writelines(value + b"\n" for value in VALUES)
    model = RankingModel(SCHEMA, width=4)
    model.build_from_schema()
    return model, Preprocessor(SCHEMA, tmp_path)


def scores(model, preprocessor):
    return model(preprocessor(RAW), training=False).numpy()


def test_waiting_rows_go_whatever_they_hold(pair):
    model, preprocessor = pair
    assert np.all(np.any(model.embedding.table.numpy() != 0, axis=1))
    smaller = prune(model, preprocessor)
    # Padding, unseen, three values, missing; padding and two values.
    assert smaller.rows == {"user": (1 + 1 + 40 + 1, 6), "slot": (1 + 30, 3)}
    np.testing.assert_array_equal(scores(smaller.model, smaller.preprocessor), scores(model, preprocessor))


def test_zero_rows_leave_the_vocabulary_with_them(pair):
    model, preprocessor = pair
    table = model.embedding.table
    assert zeroed_values(model, preprocessor) == {}  # an unseen value is not zero
    for row in (1, 3):  # unseen, and `b`: ids 1 and 2 + 1
        table.scatter_update(tf.IndexedSlices(tf.zeros((1, 4)), [row]))
    assert zeroed_values(model, preprocessor) == {"user": [b"b"]}
    smaller = prune(model, preprocessor)
    assert smaller.rows["user"] == (43, 5)
    assert (smaller.model.schema["user"].num_values, smaller.model.schema["user"].capacity) == (2, None)
    np.testing.assert_array_equal(scores(smaller.model, smaller.preprocessor), scores(model, preprocessor))
