"""Raw rows become typed arrays, or an error that names row and column."""

import json

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.data import parsing
from xdeepint_ext.serving.rows import MISSING, RowError, examples, is_csv, read_rows, typed

SPECS = {
    "user": tf.TensorSpec((None,), tf.int64),
    "city": tf.TensorSpec((None,), tf.string),
    "age": tf.TensorSpec((None,), tf.float32),
    "tags": tf.TensorSpec((None, None), tf.string),
    "marks": tf.TensorSpec((None, None), tf.int64),
    "picture": tf.TensorSpec((None, 2), tf.float32),
}
ROW = {"user": 3, "city": "Zürich", "age": 20, "tags": ["a", "b|c"], "marks": [7], "picture": [0.5, -1]}
EMPTY = dict.fromkeys(ROW)
NAN = float("nan")


def test_missing_values_are_those_of_the_preprocessor():
    assert set(MISSING) == {parsing.DTYPES[name] for name in parsing.MISSING}
    for name, value in parsing.MISSING.items():
        np.testing.assert_equal(tf.constant(MISSING[parsing.DTYPES[name]]).numpy(), tf.constant(value).numpy())


def test_values_of_every_type():
    arrays = typed([ROW, EMPTY, {**ROW, "marks": [1, None, 2]}], SPECS)
    lowest = tf.int64.min
    np.testing.assert_array_equal(arrays["user"], [3, lowest, 3])
    assert arrays["city"].tolist() == ["Zürich".encode(), b"", "Zürich".encode()]
    np.testing.assert_array_equal(arrays["age"], np.array([20, NAN, 20], np.float32))
    assert arrays["tags"].tolist() == [[b"a", b"b|c"], [b"", b""], [b"a", b"b|c"]]
    np.testing.assert_array_equal(arrays["marks"], [[7, lowest, lowest], [lowest] * 3, [1, lowest, 2]])
    np.testing.assert_array_equal(arrays["picture"], np.array([[0.5, -1], [NAN, NAN], [0.5, -1]], np.float32))
    assert [arrays[name].dtype for name in ("user", "age", "picture")] == [np.int64, np.float32, np.float32]


def test_csv_cells_become_the_same_values():
    text = "user,city,age,tags,marks,picture\n3,Zürich,20,a|b,7,0.5|-1\n,,,,,\n"
    assert is_csv(text)
    arrays = typed(read_rows(text), SPECS, cells=True)
    expected = typed([{**ROW, "tags": ["a", "b"]}, EMPTY], SPECS)
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)
    cells = {"user": "3", "city": "", "age": "20", "tags": "a;b|c", "marks": "7", "picture": "0.5;-1"}
    other = typed([cells], SPECS, cells=True, separator=";")
    assert other["tags"].tolist() == [[b"a", b"b|c"]]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ROW, EMPTY]),
        " " + json.dumps([ROW, EMPTY], indent=2),
        json.dumps(ROW) + "\n\n" + json.dumps(EMPTY) + "\n",
    ],
)
def test_json_list_and_json_lines(text):
    assert not is_csv(text)
    assert read_rows(text) == [ROW, EMPTY]


def test_examples_hold_the_same_values():
    specs = {
        name: tf.io.RaggedFeature(spec.dtype, row_splits_dtype=tf.int64)
        if spec.shape.as_list() == [None, None]
        else tf.io.FixedLenFeature(spec.shape[1:], spec.dtype)
        for name, spec in SPECS.items()
    }
    rows = [ROW, EMPTY, {**ROW, "tags": ["x", None, "y"]}]
    parsed = tf.io.parse_example(tf.constant(examples(rows, SPECS)), specs)
    for name, expected in typed(rows, SPECS).items():
        value = parsed[name]
        if isinstance(value, tf.RaggedTensor):
            value = value.to_tensor(tf.constant(MISSING[value.dtype], value.dtype))
        np.testing.assert_array_equal(value.numpy(), expected, err_msg=name)


def test_one_value_for_all_rows():
    specs = {"user": tf.TensorSpec((1,), tf.int64), "age": tf.TensorSpec((1,), tf.float32), "tags": SPECS["tags"]}
    rows = [{**EMPTY, "user": 3, "tags": [tag]} for tag in "abc"]
    arrays = typed(rows, specs)
    assert arrays["user"].tolist() == [3] and arrays["age"].shape == (1,) and arrays["tags"].shape == (3, 1)
    rows[2]["user"] = 4
    with pytest.raises(RowError, match=r"row 3, column 'user': .* row 1 has 3 and this one 4"):
        typed(rows, specs)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"user": "3"}, "row 2, column 'user': expected a whole number, got '3'"),
        ({"user": 3.5}, "row 2, column 'user': expected a whole number, got 3.5"),
        ({"user": True}, "row 2, column 'user': expected a whole number, got True"),
        ({"user": 2**63}, "row 2, column 'user': expected a whole number, got 9223372036854775808"),
        ({"city": 5}, "row 2, column 'city': expected text, got 5"),
        ({"age": "old"}, "row 2, column 'age': expected a number, got 'old'"),
        ({"age": [1.0]}, r"row 2, column 'age': expected a number, got \[1.0\]"),
        ({"tags": "a"}, "row 2, column 'tags': expected a list, got 'a'"),
        ({"tags": ["a", 1]}, "row 2, column 'tags': expected text, got 1"),
        ({"picture": [1.0]}, "row 2, column 'picture': expected 2 values, got 1"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(change, message):
    with pytest.raises(RowError, match=message):
        typed([ROW, {**ROW, **change}], SPECS)


def test_a_missing_column_is_named():
    with pytest.raises(RowError, match=r"row 2: no column 'city', 'user' \(null where .* the row has \['age'"):
        typed([ROW, {name: value for name, value in ROW.items() if name not in ("city", "user")}], SPECS)


@pytest.mark.parametrize(
    "cell, message",
    [
        ({"user": "x"}, "row 1, column 'user': expected a whole number, got 'x'"),
        ({"user": "3.0"}, "row 1, column 'user': expected a whole number, got '3.0'"),
        ({"picture": "1|2|3"}, "row 1, column 'picture': expected 2 values, got 3"),
        ({"picture": "1|"}, "row 1, column 'picture': expected a number, got ''"),
    ],
)
def test_a_wrong_cell_is_named(cell, message):
    with pytest.raises(RowError, match=message):
        typed([{"user": "", "city": "", "age": "", "tags": "", "marks": "", "picture": "", **cell}], SPECS, cells=True)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no row"),
        ("user,city\n", "no row"),
        ("[]", "no row"),
        ("[1]", "row 1: expected an object"),
        ('{"user": 1}\n{"user": }', "line 2 is not JSON"),
        ('[{"user": 1}', "the input is not JSON"),
        ("user,city\n1", "row 1: expected 2 cells"),
        ("user,city\n1,2\n1,2,3", "row 2: expected 2 cells"),
    ],
)
def test_unreadable_input(text, message):
    with pytest.raises(RowError, match=message):
        read_rows(text)


def test_a_type_that_rows_cannot_give():
    with pytest.raises(RowError, match="column 'flag': the signature wants bool"):
        typed([{"flag": True}], {"flag": tf.TensorSpec((None,), tf.bool)})
