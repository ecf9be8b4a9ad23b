"""TensorFlow Model Analysis itself reads the SavedModel, by slice."""

import pytest
import tensorflow as tf
from google.protobuf import text_format

pytest.importorskip("tensorflow_model_analysis", reason="needs tensorflow-model-analysis")

from tests.tfx.analysis import OVERALL, analyse
from tests.tfx.test_tfx import EVAL_CONFIG

EVAL_CONFIG_TEXT = """
model_specs {
  signature_name: "serving_default" preprocessing_function_names: "transform_features"
  label_key: "above_50k" prediction_key: "probability" model_type: "tf_generic"
}
slicing_specs {}
slicing_specs { feature_keys: "sex" }
metrics_specs { metrics { class_name: "AUC" } metrics { class_name: "ExampleCount" } }
"""


def test_it_finds_what_the_scores_say(trained, tmp_path):
    import tensorflow_model_analysis as tfma
    import tensorflow_transform as tft
    from tensorflow_model_analysis.proto import config_pb2

    arguments, evaluation = trained
    with tf.io.TFRecordWriter(str(tmp_path / "eval")) as writer:
        for example in evaluation:
            writer.write(example)
    config = text_format.Parse(EVAL_CONFIG_TEXT, config_pb2.EvalConfig())
    folder = arguments.serving_model_dir
    result = tfma.run_model_analysis(
        tfma.default_eval_shared_model(folder, eval_config=config, tags=[tf.saved_model.SERVING]),
        config,
        data_location=str(tmp_path / "eval"),
        output_path=str(tmp_path / "result"),
        schema=tft.TFTransformOutput(arguments.transform_graph_path).raw_metadata.schema,
    )
    found = {key: of_slice[""][""] for key, of_slice in result.slicing_metrics}
    expected = analyse(folder, EVAL_CONFIG, evaluation)
    assert set(found) == {OVERALL, (("sex", "Male"),), (("sex", "Female"),)}
    for key, of_slice in found.items():
        assert of_slice["example_count"]["doubleValue"] == expected[key]["example_count"]
        # TFMA's AUC is that of 10,000 thresholds.
        assert of_slice["auc"]["doubleValue"] == pytest.approx(expected[key]["auc"], abs=1e-4)
