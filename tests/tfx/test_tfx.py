"""tf.Transform on Adult -> `run_fn` -> SavedModel -> analysis by slice."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("tensorflow_transform", reason="needs the extra tfx")

import tensorflow_transform as tft

from tests.serving import c_api
from tests.tfx import adult
from tests.tfx.analysis import OVERALL, analyse
from tests.tfx.conftest import CONFIG, LABEL, ROLES
from xdeepint_ext import metrics
from xdeepint_ext.serving.query import query
from xdeepint_ext.tfx import run_fn, transformed_schema

EVAL_CONFIG = {
    "model_specs": [
        {
            "signature_name": "serving_default",
            "preprocessing_function_names": ["transform_features"],
            "label_key": LABEL,
            "prediction_key": "probability",
        }
    ],
    "slicing_specs": [{}, {"feature_keys": ["sex"]}, {"feature_keys": ["sex", "race"]}],
}


def test_the_folder_is_a_saved_model_as_the_pusher_takes_it(trained):
    arguments, _ = trained
    assert {"saved_model.pb", "variables", "assets", "schema.pbtxt"} <= set(os.listdir(arguments.serving_model_dir))
    signatures = tf.saved_model.load(arguments.serving_model_dir).signatures
    assert {"serving_default", "predict_raw", "rank", "transform_features"} <= set(signatures)
    columns = signatures["predict_raw"].structured_input_signature[1]
    assert set(columns) == set(adult.RAW_SPEC) - {"income"}
    assert any(pathlib.Path(arguments.model_run_dir).rglob("*tfevents*"))


def test_model_analysis_by_slice(trained):
    arguments, evaluation = trained
    found = analyse(arguments.serving_model_dir, EVAL_CONFIG, evaluation)
    assert found[OVERALL]["auc"] > 0.88 and abs(found[OVERALL]["calibration"] - 1) < 0.05
    by_sex = {key[0][1]: value for key, value in found.items() if len(key) == 1}
    assert set(by_sex) == {"Male", "Female"}
    assert sum(value["example_count"] for value in by_sex.values()) == found[OVERALL]["example_count"] == 3000
    assert all(value["auc"] > 0.8 for value in by_sex.values())
    assert (("sex", "Male"), ("race", "White")) in found


def test_transformed_records_are_what_raw_requests_become(trained):
    """Skew between training and serving would show here."""
    arguments, evaluation = trained
    files = sorted(str(file) for file in pathlib.Path(arguments.eval_files[0]).parent.glob("eval*"))
    records = [record.numpy() for record in tf.data.TFRecordDataset(files, "GZIP")]
    written = tf.io.parse_example(
        records, tft.TFTransformOutput(arguments.transform_graph_path).transformed_feature_spec()
    )
    asked = tf.saved_model.load(arguments.serving_model_dir).signatures["transform_features"](
        examples=tf.constant(evaluation)
    )
    assert set(asked) == set(written)
    np.testing.assert_allclose(_sorted_rows(written), _sorted_rows(asked), rtol=1e-5, atol=1e-5)
    seen = query(arguments.serving_model_dir, _raw_rows(evaluation), "preprocess")
    assert set(seen) == set(asked) - {LABEL}
    for name, values in seen.items():
        padding_is_0 = 0 if name.endswith("_z") else 1
        np.testing.assert_allclose(values[:, 0], asked[name].numpy() + padding_is_0, rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_c_api_answers_alike(trained):
    arguments, evaluation = trained
    folder = arguments.serving_model_dir
    (scores,) = c_api.run_signatures([(folder, "serving_default", {"examples": np.array(evaluation[:200], object)})])
    in_python = tf.saved_model.load(folder).signatures["serving_default"](examples=tf.constant(evaluation[:200]))
    for name, values in scores.items():
        np.testing.assert_allclose(values, in_python[name].numpy(), rtol=1e-6, atol=1e-6)
    rows = _raw_rows(evaluation[:50])
    np.testing.assert_allclose(query(folder, rows)["logit"], scores["logit"][:50], rtol=1e-6, atol=1e-6)
    labels = [
        b">50K" in tf.train.Example.FromString(e).features.feature["income"].bytes_list.value[0] for e in evaluation
    ]
    assert metrics.auc(np.array(labels[:200], float), scores["logit"][:, 0]) > 0.8


def _sorted_rows(columns):
    """The examples as rows of numbers, in an order that Beam's does not matter to."""
    rows = np.stack([np.ravel(columns[name]).astype(np.float64) for name in sorted(columns)], axis=1).round(6)
    return rows[np.lexsort(rows.T)]


def _raw_rows(examples):
    """Requests as `query` takes them, without the label's column."""
    return [
        {name: _value(example.features.feature[name]) for name in adult.RAW_SPEC if name != "income"}
        for example in map(tf.train.Example.FromString, examples)
    ]


def _value(feature):
    if feature.WhichOneof("kind") == "float_list":
        return feature.float_list.value[0]
    return [value.decode() for value in feature.bytes_list.value]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transform_graph_path": None}, "transform_graph_path must be the output of a Transform component"),
        ({"train_files": ["nowhere*"]}, r"train_files: there is no file \['nowhere\*'\]"),
        ({"custom_config": {**CONFIG, "optimiser": "adam"}}, "custom_config: 'optimiser' must be one of"),
        ({"custom_config": {**CONFIG, "roles": {}}}, "roles must give a transformed column the role label"),
        ({"custom_config": {**CONFIG, "not_served": ["colour"]}}, "not_served: 'colour' is no raw column"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(trained, changes, message):
    arguments, _ = trained
    with pytest.raises(ValueError, match=message):
        run_fn(dataclasses.replace(arguments, **changes))


def test_ids_are_taken_as_they_are(trained):
    transform = tft.TFTransformOutput(trained[0].transform_graph_path)
    schema = transformed_schema(transform.transformed_metadata.schema, ROLES)
    feature = schema["workclass_id"]
    assert (feature.kind, feature.lookup) == ("categorical", "identity")
    domain = next(c.int_domain for c in transform.transformed_metadata.schema.feature if c.name == feature.name)
    assert feature.num_values == domain.max + 1 > 5
    assert schema["age_z"].scaling == "none" and schema.tasks == (LABEL,)
