"""from_pandas: what it guesses, what it learns from the frame, and that it agrees with the Preprocessor's words."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.data import reference
from xdeepint_ext.data import DataError, from_pandas
from xdeepint_ext.schema import Feature

FRAME = pd.DataFrame(
    {
        "city": ["oslo", "bern", "oslo", None, "rome", "oslo"],
        "code": [3, 1, 3, 2, 2, 3],
        "age": [20.0, 30.0, np.nan, 40.0, 50.0, 60.0],
        "member": [True, False, True, True, False, True],
        "size": pd.Categorical(["s", "m", "s", "l", "m", "s"]),
        "tags": [["a", "b"], [], ["b"], None, ["c", "b", "a"], ["b"]],
        "days": [[1, 2], [2], [], [3], [1], [2]],
        "click": [0, 1, 0, 1, 0, 1],
    }
)


def everything(frame, label="click", **options):
    schema, dataset = from_pandas(frame, label, batch_size=len(frame) or 1, **options)
    (batch,) = list(dataset)
    return schema, batch


def test_guesses():
    schema, _ = everything(FRAME)
    assert {f.name: (f.kind, f.dtype, f.required) for f in schema} == {
        "city": ("categorical", "string", False),
        "code": ("categorical", "int", True),
        "age": ("numeric", "float", False),
        "member": ("categorical", "string", True),
        "size": ("categorical", "string", True),
        "tags": ("multi", "string", False),
        "days": ("multi", "int", True),
        "click": ("numeric", "float", True),
    }
    assert schema["tags"].max_length == 3
    assert schema.tasks == ("click",)


def test_many_whole_numbers_are_a_quantity():
    frame = pd.DataFrame({"few": np.arange(1001) % 1000, "many": np.arange(1001), "click": np.arange(1001) % 2})
    schema, _ = everything(frame)
    assert (schema["few"].kind, schema["many"].kind) == ("categorical", "numeric")


# Most frequent first, then in order.
VOCABULARIES = {
    "city": ["oslo", "bern", "rome"],
    "code": [3, 2, 1],
    "member": ["True", "False"],
    "size": ["s", "m", "l"],
    "tags": ["b", "a", "c"],
    "days": [2, 1, 3],
}


def test_ids_are_those_of_the_frames_vocabulary():
    schema, (features, labels) = everything(FRAME)
    for name, vocabulary in VOCABULARIES.items():
        feature = schema[name]
        assert feature.num_values == len(vocabulary)
        if feature.kind == "multi":
            rows = [reference.list_of_ids(feature, row or [], None, vocabulary)[0] for row in FRAME[name]]
        else:
            values = [None if pd.isna(v) else v if feature.dtype == "int" else str(v) for v in FRAME[name]]
            rows = [[reference.one_id(feature, v, vocabulary)] for v in values]
        assert features[name].numpy().tolist() == rows, name
    np.testing.assert_array_equal(labels, FRAME[["click"]])


def test_numbers_are_scaled_by_the_frames_moments():
    schema, (features, _) = everything(FRAME)
    ages = FRAME["age"].dropna()
    assert schema["age"].mean == pytest.approx(ages.mean())
    assert schema["age"].deviation == pytest.approx(ages.std(ddof=0))
    np.testing.assert_allclose(
        features["age"][:, 0], [reference.scaled(schema["age"], v) for v in FRAME["age"]], rtol=1e-6
    )


def test_rare_values_share_the_unseen_id():
    schema, (features, _) = everything(FRAME, min_count=2)
    assert schema["city"].num_values == 1
    np.testing.assert_array_equal(features["city"][:, 0], [2, 1, 2, 0, 1, 2])


def test_what_the_guess_gets_wrong_can_be_said():
    given = [
        Feature("code", "numeric", dtype="int", scaling="none"),
        Feature("age", "numeric", binning="quantile", num_bins=2, missing="bucket"),
        Feature("age_log", "numeric", source="age", scaling="log"),
        Feature("days", "sequence", dtype="int", lookup="identity", num_values=9, max_length=1),
    ]
    schema, (features, _) = everything(FRAME, features=given)
    np.testing.assert_array_equal(features["code"][:, 0], FRAME["code"])
    assert schema["age"].boundaries == (40.0,)
    np.testing.assert_array_equal(features["age"][:, 0], [1, 1, 3, 2, 2, 2])
    np.testing.assert_allclose(features["age_log"][0, 0], np.log(21), rtol=1e-6)
    np.testing.assert_array_equal(features["days"][:, 0], [3, 3, 0, 4, 2, 3])


def test_shared_tables_count_together():
    given = [Feature("code", dtype="int", table="n"), Feature("days", "multi", dtype="int", table="n", max_length=2)]
    schema, (features, _) = everything(FRAME, features=given)
    assert schema["code"].num_values == schema["days"].num_values == 3
    order = [2, 3, 1]  # counts 5, 4, 3
    np.testing.assert_array_equal(
        features["code"][:, 0], [reference.one_id(schema["code"], v, order) for v in FRAME["code"]]
    )


def test_several_tasks_and_missing_labels():
    frame = pd.DataFrame({"code": [1, 2, 3], "click": [0, 1, 1], "buy": [np.nan, 1.0, 0.0]})
    schema, (_, labels) = everything(frame, ["click", "buy"])
    assert schema.tasks == ("click", "buy")
    np.testing.assert_array_equal(labels["buy"], [[-1], [1], [0]])
    np.testing.assert_array_equal(labels["click"], [[0], [1], [1]])


def test_weights_are_the_third_part():
    schema, (_, _, weights) = everything(
        pd.DataFrame({"code": [1, 2], "w": [0.5, 2.0], "click": [0, 1]}), features=[Feature("w", "numeric", "weight")]
    )
    assert [f.name for f in schema.inputs] == ["code"]
    np.testing.assert_array_equal(weights, [0.5, 2.0])


def test_weights_of_ids():
    frame = pd.DataFrame({"tags": [["a", "b"], ["b"]], "scores": [[0.5, 2.0], [1.0]], "click": [0, 1]})
    feature = Feature("tags", "multi", max_length=2, weights="scores")
    schema, (features, _) = everything(frame, features=[feature])
    assert [f.name for f in schema.inputs] == ["tags"]
    np.testing.assert_array_equal(features["tags_weights"], [[0.5, 2.0], [1.0, 0.0]])


def test_batches_epochs_and_order():
    frame = pd.DataFrame({"number": np.arange(20.0), "click": np.arange(20) % 2})
    given = [Feature("number", "numeric", scaling="none")]
    _, dataset = from_pandas(frame, "click", batch_size=8, features=given, shuffle=True, epochs=2, seed=3)
    found = [int(x) for features, _ in dataset for x in features["number"][:, 0]]
    assert sorted(found[:20]) == sorted(found[20:]) == list(range(20))
    assert found[:20] != found[20:]
    assert [int(labels.shape[0]) for _, labels in dataset] == [8, 8, 4] * 2


def test_missing_values_inside_lists_and_empty_strings():
    frame = pd.DataFrame({"tags": [["a", None, ""], [""]], "city": ["", "x"], "click": [0, 1]})
    schema, (features, _) = everything(frame)
    assert (schema["tags"].num_values, schema["city"].num_values) == (1, 1)
    np.testing.assert_array_equal(features["tags"], [[2, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(features["city"], [[0], [2]])


@pytest.mark.parametrize("options", [{}, {"binning": "quantile", "num_bins": 3}])
def test_numbers_that_are_all_missing(options):
    frame = pd.DataFrame({"age": [np.nan, np.nan], "click": [0, 1]})
    given = [Feature("age", "numeric", **options)]
    _, (features, _) = everything(frame, features=given)
    np.testing.assert_array_equal(features["age"], [[0], [0]])


def test_vectors_come_as_they_are():
    frame = pd.DataFrame({"image": [[0.5, 1.0], [2.0, 3.0]], "click": [0, 1]})
    _, (features, _) = everything(frame, features=[Feature("image", "vector", dimension=2)])
    np.testing.assert_array_equal(features["image"], [[0.5, 1.0], [2.0, 3.0]])


def test_preprocessor_serves_new_rows():
    schema, dataset = from_pandas(FRAME[["city", "age", "click"]], "click")
    found = dataset.preprocessor({"city": tf.constant(["rome", "paris", ""]), "age": tf.constant([40.0, 20.0, np.nan])})
    np.testing.assert_array_equal(found["city"], [[4], [1], [0]])
    np.testing.assert_allclose(found["age"][0], [0.0], atol=1e-7)
    assert schema == dataset.preprocessor.schema


@pytest.mark.parametrize(
    ("frame", "label", "options", "message"),
    [
        (FRAME[:0], "click", {}, "the frame has no rows; its columns"),
        (FRAME, "clik", {}, r"the frame lacks the columns \['clik'\]; it has \['city'"),
        (FRAME, "click", {"features": [Feature("cty")]}, r"the frame lacks the columns \['cty'\]"),
        (FRAME.assign(click=[0, 1, 2, 0, 0, 0]), "click", {}, "frame: feature 'click': labels must be 0 or 1, got 2"),
        (
            FRAME.assign(click=[0, 1, None, 0, 0, 0]),
            "click",
            {},
            "frame: feature 'click': labels must be 0 or 1, got nan",
        ),
        (FRAME.assign(city=["a\nb"] * 6), "click", {}, r"table 'city': value 'a.nb' holds a line break"),
        (FRAME.assign(age=["x"] * 6), "click", {"features": [Feature("age", "numeric")]}, "column 'age' .*float"),
        (FRAME.assign(code=["x"] * 6), "click", {"features": [Feature("code", dtype="int")]}, "column 'code' .*int"),
    ],
)
def test_frames_that_do_not_fit(frame, label, options, message):
    with pytest.raises(DataError, match=message):
        from_pandas(frame, label, **options)
