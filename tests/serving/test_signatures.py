"""Exported signatures give the model's scores, in Python and through the C API, for every kind of feature."""

import numpy as np
import pytest
import tensorflow as tf

from tests.serving import c_api, cases
from xdeepint_ext import serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.experiments.strategies import mirrored_on
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.models.baselines import FM
from xdeepint_ext.schema import Feature
from xdeepint_ext.serving.rows import examples, typed

TOLERANCE = {"rtol": 2e-7, "atol": 1e-6}
SHARED = {"user", "country", "history", "age", "hour"}


def rank_specs(schema):
    return {
        name: tf.TensorSpec((1 if name in SHARED else None, *spec.shape[1:]), spec.dtype)
        for name, spec in raw_signature(schema).items()
    }


def one_user(rows, index):
    """Every row as a candidate of the user and context of one row."""
    return [{**row, **{name: rows[index][name] for name in SHARED & set(row)}} for row in rows]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One export of every kind of feature, and what the C API answers: (case, model, folder, signature -> outputs)."""
    case = cases.case()
    model = case.model()
    folder = serving.export(model, case.preprocessor, tmp_path_factory.mktemp("all_kinds"))
    columns = raw_signature(case.schema)
    requests = {
        "predict_raw": typed(case.rows, columns),
        "preprocess": typed(case.rows, columns),
        "serving_default": {"examples": examples(case.rows, columns)},
        "rank": typed(one_user(case.rows, 5), rank_specs(case.schema)),
    }
    answers = c_api.run_signatures([(folder, name, inputs) for name, inputs in requests.items()])
    return case, model, folder, requests, dict(zip(requests, answers, strict=True))


@pytest.fixture(scope="module")
def loaded(served):
    return tf.saved_model.load(served[2]).signatures


@pytest.mark.parametrize("signature", ["predict_raw", "serving_default"])
def test_scores_through_the_c_api_are_the_models(served, signature):
    case, model, _, _, answers = served
    expected = case.scores(model)
    assert set(answers[signature]) == {"logit", "probability"}
    for name, value in answers[signature].items():
        assert value.dtype == np.float32 and value.shape == (cases.ROWS, 1)
        np.testing.assert_allclose(value, expected[name], **TOLERANCE)


def test_rank_scores_every_candidate_for_one_user(served):
    case, model, _, requests, answers = served
    assert {name for name, value in requests["rank"].items() if len(value) == 1} == SHARED
    features = {
        name: tf.repeat(value[5:6], cases.ROWS, axis=0) if name in SHARED else value
        for name, value in case.features.items()
    }
    logit = model(features, training=False).numpy()
    assert np.ptp(logit) > 0.1 and np.abs(logit - case.scores(model)["logit"]).max() > 0.1
    np.testing.assert_allclose(answers["rank"]["logit"], logit, **TOLERANCE)
    np.testing.assert_allclose(answers["rank"]["probability"], 1 / (1 + np.exp(-logit)), **TOLERANCE)


def test_preprocess_gives_what_the_model_saw_in_training(served):
    case, _, _, _, answers = served
    assert set(answers["preprocess"]) == set(case.features)
    for name, value in answers["preprocess"].items():
        expected = case.features[name].numpy()
        if expected.dtype == np.int64:
            np.testing.assert_array_equal(value, expected, err_msg=name)
        else:
            np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6, err_msg=name)


def test_python_and_c_api_agree(served, loaded):
    _, _, _, requests, answers = served
    for signature, inputs in requests.items():
        for name, value in loaded[signature](**{k: tf.constant(v) for k, v in inputs.items()}).items():
            np.testing.assert_allclose(answers[signature][name], value, err_msg=f"{signature} {name}", **TOLERANCE)


def test_no_rows_give_no_scores(served, loaded):
    requests = served[3]
    nothing = {name: value[:0] for name, value in requests["predict_raw"].items()}
    no_candidates = {name: value if len(value) == 1 else value[:0] for name, value in requests["rank"].items()}
    for signature, inputs in (
        ("predict_raw", nothing),
        ("rank", no_candidates),
        ("serving_default", {"examples": requests["serving_default"]["examples"][:0].astype(str)}),
    ):
        outputs = loaded[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        assert outputs["probability"].shape == (0, 1), signature


def test_only_stock_operations(served):
    _, _, folder, _, _ = served
    graph = c_api.meta_graph(folder).graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert not [node.op for node in nodes if "PyFunc" in node.op or node.op.startswith("Xla")]
    marked = [f.signature.name for f in graph.library.function if f.attr["_XlaMustCompile"].b]
    marked += [node.name for node in nodes if node.attr["_XlaMustCompile"].b]
    assert marked == []
    # In the C API's process no other library than TensorFlow's own was loaded, so every one of these is TensorFlow's.
    assert {"LookupTableFindV2", "ResourceGather", "ParseExampleV2"} <= {node.op for node in nodes}


def test_an_optional_column_may_be_absent_from_examples(served, loaded):
    case, model, _, requests, _ = served
    absent = next(i for i, row in enumerate(case.rows) if row["age"] is None and row["country"] is None)
    example = tf.train.Example.FromString(requests["serving_default"]["examples"][absent])
    del example.features.feature["age"], example.features.feature["country"]
    outputs = loaded["serving_default"](tf.constant([example.SerializeToString()]))
    np.testing.assert_allclose(outputs["logit"][0], case.scores(model)["logit"][absent], **TOLERANCE)


def test_a_required_column_that_is_absent_is_named(served, loaded):
    example = tf.train.Example.FromString(served[3]["serving_default"]["examples"][0])
    del example.features.feature["video"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="video"):
        loaded["serving_default"](tf.constant([example.SerializeToString()]))


# -- models ---------------------------------------------------------------------------------------------------------

SMALL = (
    Feature("user", "categorical", "user", dtype="int"),
    Feature("video", "categorical", "item", dtype="string"),
    Feature("stars", "numeric", "item"),
)
ODD_NAMES = {"user": "1st-user/id", "video": "C.video", "stars": ".stars", "tags": "tags", "tag_weights": "tags-w"}
ODD = (
    Feature("1st-user/id", "categorical", "user", dtype="int", table="a/b"),
    Feature("C.video", "categorical", "item"),
    Feature(".stars", "numeric", "item"),
    Feature("tags", "multi", max_length=2, weights="tags-w", combiner="max"),
)


class Wider(XDeepInt):
    """Somebody's own model: layers made after `super().__init__()`, with a dropout that serving must leave out."""

    def __init__(self, schema, **options):
        super().__init__(schema, **options)
        self.more = tf.keras.layers.Dense(8, activation="tanh")
        self.drop = tf.keras.layers.Dropout(0.5)

    def interaction(self, x, training=None):
        return self.drop(self.more(super().interaction(x, training=training)), training=training)


def compiled_with_xla(case):
    model = case.model()
    model.compile(jit_compile=True)
    model.fit(case.features, case.labels, verbose=0)
    return model


def mixed_precision(case):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        return case.model()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def trained_on_two_replicas(case):
    with mirrored_on("CPU").scope():
        model = case.model()
        model.compile()
    model.fit(tf.data.Dataset.from_tensors((case.features, case.labels)).unbatch().batch(32), verbose=0)
    return model


MODELS = {
    "factorization machine": (SMALL, "click", lambda case: case.model(FM)),
    "subclass": (SMALL, "click", lambda case: case.model(Wider, dnn_units=[4])),
    "two tasks": (SMALL, ["click", "like"], lambda case: case.model()),
    "odd names": (ODD, "click", lambda case: case.model()),
    "xla": (SMALL, "click", compiled_with_xla),
    "bfloat16": (SMALL, "click", mixed_precision),
    "two replicas": (SMALL, "click", trained_on_two_replicas),
}


@pytest.fixture(scope="module")
def answers_of_models(tmp_path_factory):
    """Model -> (its outputs, those of `predict_raw` and of `rank` through the C API), all in one process of its own."""
    expected, requests = {}, []
    for name, (features, label, make) in MODELS.items():
        case = cases.case(label, features, ODD_NAMES if features is ODD else None)
        model = make(case)
        jit = model.jit_trunk
        folder = serving.export(model, case.preprocessor, tmp_path_factory.mktemp("model") / "base")
        assert model.jit_trunk == jit
        model.jit_trunk = False
        raw = typed(case.rows, raw_signature(case.schema))
        # The first row ranks itself: of columns of the user and of others alike there is one row.
        first = {column: value[:1] for column, value in raw.items()}
        requests += [(folder, "predict_raw", raw), (folder, "rank", first)]
        expected[name] = case.scores(model)
    answers = c_api.run_signatures(requests)
    return {name: (expected[name], *answers[2 * i : 2 * i + 2]) for i, name in enumerate(MODELS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_served_with_its_scores(answers_of_models, name):
    expected, all_rows, first_row = answers_of_models[name]
    assert set(all_rows) == set(first_row) == set(expected)
    for output, values in expected.items():
        assert np.ptp(values) > 0
        np.testing.assert_allclose(all_rows[output], values, err_msg=output, **TOLERANCE)
        np.testing.assert_allclose(first_row[output], values[:1], err_msg=output, **TOLERANCE)


@pytest.mark.slow
def test_two_tasks_have_outputs_of_their_own(answers_of_models):
    _, all_rows, _ = answers_of_models["two tasks"]
    assert sorted(all_rows) == ["logit/click", "logit/like", "probability/click", "probability/like"]
    assert not np.allclose(all_rows["logit/click"], all_rows["logit/like"])
