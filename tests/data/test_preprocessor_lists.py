"""Columns of several values: ragged as records give them, padded as serving does; with weights."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tests.data import reference
from xdeepint_ext.data import Preprocessor
from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.data.parsing import INT_MISSING
from xdeepint_ext.schema import Feature, Schema

WORDS = ("a", "b", "c")


@pytest.fixture(scope="module")
def vocabulary_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    with open(vocabulary_file(folder, "tags"), "w", encoding="utf-8") as stream:
        stream.writelines(f"{word}\n" for word in WORDS)
    return folder


def tags(kind="multi", max_length=2, **options):
    return Feature("tags", kind, num_values=len(WORDS), max_length=max_length, **options)


def ragged(rows, dtype=tf.string):
    return tf.ragged.constant(rows, dtype, ragged_rank=1, row_splits_dtype=tf.int64)


def padded(rows, padding, dtype=tf.string):
    return ragged(rows, dtype).to_tensor(padding)


def run(feature, rows, folder, weights=None, dense=False):
    raw = {"tags": padded(rows, "") if dense else ragged(rows)}
    if weights is not None:
        raw["scores"] = padded(weights, np.nan, tf.float32) if dense else ragged(weights, tf.float32)
    return Preprocessor(Schema([feature]), folder)(raw)


def test_multi_keeps_the_first_and_sequence_the_last(vocabulary_dir):
    rows = [["a", "b", "c"], ["c"], [], ["x", "a"]]
    first = run(tags("multi", oov="zero"), rows, vocabulary_dir)["tags"]
    last = run(tags("sequence", oov="zero"), rows, vocabulary_dir)["tags"]
    np.testing.assert_array_equal(first, [[1, 2], [3, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(last, [[2, 3], [3, 0], [0, 0], [0, 1]])


ROWS = st.lists(
    st.lists(st.tuples(st.sampled_from([*WORDS, "unseen", ""]), st.sampled_from([0.5, 2.0, 0.0, -1.0, np.nan]))),
    min_size=1,
    max_size=4,
)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    rows=ROWS,
    kind=st.sampled_from(["multi", "sequence"]),
    max_length=st.integers(1, 3),
    missing=st.sampled_from(["zero", "bucket"]),
    weighted=st.booleans(),
    dense=st.booleans(),
)
def test_equals_python_ragged_or_padded(rows, kind, max_length, missing, weighted, dense, vocabulary_dir):
    feature = tags(kind, max_length, missing=missing, weights="scores" if weighted else None)
    values = [[value for value, _ in row] for row in rows]
    weights = [[weight for _, weight in row] for row in rows]
    found = run(feature, values, vocabulary_dir, weights if weighted else None, dense)
    expected = [
        reference.list_of_ids(feature, v, w if weighted else None, WORDS) for v, w in zip(values, weights, strict=True)
    ]
    assert found["tags"].numpy().tolist() == [ids for ids, _ in expected]
    assert found["tags"].shape == (len(rows), max_length)
    if weighted:
        np.testing.assert_array_equal(found["tags_weights"], np.float32([w for _, w in expected]))


def test_padding_is_0_also_where_missing_has_an_id(vocabulary_dir):
    feature = tags(missing="bucket")
    found = run(feature, [["a"], []], vocabulary_dir)["tags"]
    np.testing.assert_array_equal(found, [[2, 0], [feature.num_ids - 1, 0]])


def test_whole_numbers():
    feature = Feature("days", "sequence", dtype="int", lookup="identity", num_values=9, max_length=3)
    preprocessor = Preprocessor(Schema([feature]), None)
    rows = [[1, 2, 3, 4], [5], []]
    expected = [[3, 4, 5], [6, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(preprocessor({"days": ragged(rows, tf.int64)})["days"], expected)
    np.testing.assert_array_equal(preprocessor({"days": padded(rows, INT_MISSING, tf.int64)})["days"], expected)


@pytest.mark.parametrize("dense", [False, True])
def test_no_column_at_all(dense, vocabulary_dir):
    raw = tf.zeros((2, 0), tf.string) if dense else ragged([[], []])
    found = Preprocessor(Schema([tags()]), vocabulary_dir)({"tags": raw})["tags"]
    np.testing.assert_array_equal(found, [[0, 0], [0, 0]])


@pytest.mark.parametrize("as_function", [False, True], ids=["eager", "graph"])
def test_weights_must_be_as_many_as_values(as_function, vocabulary_dir):
    preprocessor = Preprocessor(Schema([tags(weights="scores")]), vocabulary_dir)
    call = tf.function(preprocessor) if as_function else preprocessor
    raw = {"tags": ragged([["a", "b"], ["c"]]), "scores": ragged([[1.0], [1.0]], tf.float32)}
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        call(raw)
    text = str(error.value).replace("\\", "")  # TensorFlow escapes quotes in graphs
    assert "feature 'tags': column 'scores' must have one weight a value" in text


def test_weights_must_be_there(vocabulary_dir):
    with pytest.raises(ValueError, match=r"column 'scores' of feature 'tags' is missing; got \['tags'\]"):
        run(tags(weights="scores"), [["a"]], vocabulary_dir)
