"""A pruned model has fewer rows and the same scores, whatever its tables are looked up by."""

import os
import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.serving import c_api, cases
from xdeepint_ext import data, serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.models.baselines import FM
from xdeepint_ext.optimizers import GroupFtrl
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving import PruningError, prune
from xdeepint_ext.serving.rows import typed
from xdeepint_ext.serving.tables import embeddings, parts

# Values that no vocabulary has, and missing ones, beside those of the frame.
STRANGE = {
    "user": 77,
    "country": "nowhere",
    "video": "v-new",
    "history": ["v-new", "v1"],
    "tags": ["new"],
    "tag_weights": [1.0],
}
MISSING = {"user": None, "country": None, "video": None, "history": [], "tags": [], "tag_weights": [], "price": None}


def zero_rows(model, share=0.7, spared=(), cleared=()):
    """Zeroes a share of each table's rows in all embedding layers; `spared` and `cleared` are (table, id)."""
    random = np.random.default_rng(3)
    tables = model.schema.tables
    dead = {name: random.random(table.rows - 1) < share for name, table in tables.items()}
    for pairs, value in ((spared, False), (cleared, True)):
        for name, index in pairs:
            dead[name][index - 1] = value
    for layer in embeddings(model):
        for name, (key, rows) in parts(layer).items():
            table = layer.tables[key].numpy()
            table[rows][dead[name]] = 0
            layer.tables[key].assign(table)
    return {name: 1 + np.flatnonzero(found) for name, found in dead.items()}


def raw_batch(case):
    rows = [*case.rows, {**case.rows[0], **STRANGE}, {**case.rows[1], **MISSING}]
    specs = raw_signature(case.schema)
    return {name: tf.constant(x) for name, x in typed(rows, specs).items()}


def logits(model, preprocessor, raw):
    features = preprocessor(raw)
    return model({name: features[name] for name in model.input_signature()}, training=False).numpy()


def test_every_kind_of_table_is_smaller_and_scores_are_equal():
    case = cases.case()
    model = case.model()
    # The out-of-vocabulary rows: videos' keeps its value, the others' are zero, as G-FTRL leaves what no example had.
    dead = zero_rows(model, spared=[("video", 1)], cleared=[("user", 1), ("country", 1), ("tags", 1)])
    before = [weight.numpy() for weight in model.weights]
    raw = raw_batch(case)
    expected = logits(model, case.preprocessor, raw)

    pruned = prune(model, case.preprocessor)

    np.testing.assert_array_equal(logits(pruned.model, pruned.preprocessor, raw), expected)
    old = {name: table.rows for name, table in case.schema.tables.items()}
    gone = {name: len(ids) for name, ids in dead.items()}
    assert set(pruned.rows) == set(old) == {"user", "country", "video", "tags", "hour", "price", "slot"}
    for name, rows in pruned.rows.items():
        # Unseen values give zeros: the one out-of-vocabulary row stays for them and for all that was dropped (as does
        # the last row, country's missing bucket); of pooled ids one row of zeros stays.
        country_missing = int(name == "country" and old["country"] - 1 in dead["country"])
        stays = {"user": 1, "tags": 1, "video": 1, "country": 1 + country_missing}.get(name, 0)
        assert rows == (old[name], old[name] - gone[name] + stays), name
    vocabulary = pathlib.Path(pruned.preprocessor.base.vocabulary_dir)
    assert len((vocabulary / "user.txt").read_text().splitlines()) == pruned.rows["user"][1] - 2
    whole = pathlib.Path(case.preprocessor.vocabulary_dir, "video.txt").read_text()
    assert (vocabulary / "video.txt").read_text() == whole  # unseen videos have a vector, so dropped ones must be known

    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    np.testing.assert_array_equal(logits(model, case.preprocessor, raw), expected)


@pytest.mark.parametrize(
    "combiner, oov",
    [("mean", "zero"), ("mean", "buckets"), ("sum", "zero"), ("sqrtn", "zero"), ("max", "buckets"), ("concat", "zero")],
)
def test_a_dropped_value_still_counts_where_ids_are_pooled(combiner, oov):
    feature = Feature("history", "sequence", max_length=4, combiner=combiner, oov=oov)
    case = cases.case(features=(feature,))
    model = case.model()
    zero_rows(model, cleared=[("history", 1)])
    pruned = prune(model, case.preprocessor)
    assert pruned.rows["history"][1] < pruned.rows["history"][0]
    raw = raw_batch(case)
    np.testing.assert_array_equal(logits(pruned.model, pruned.preprocessor, raw), logits(model, case.preprocessor, raw))


@pytest.mark.parametrize(
    "options, shorter",
    [
        ({"oov": "zero"}, True),
        ({"num_oov_buckets": 3}, True),
        ({"num_oov_buckets": 3, "spared": True}, False),
        ({"oov": "zero", "missing": "bucket"}, True),
        ({"missing": "bucket", "spared": True}, False),
        ({"width": 3}, True),
        ({"trainable": False}, True),
        ({"table": "a/b"}, True),
    ],
)
def test_the_vocabulary_shrinks_where_unseen_values_are_zero(options, shorter):
    options = dict(options)
    spared = options.pop("spared", False)
    feature = Feature("user", **{"dtype": "int", "required": False, **options})
    case = cases.case(features=(feature, Feature("video"), Feature("stars", "numeric")))
    model = case.model()
    unseen = [(feature.table_name, 1 + i) for i in range(case.schema["user"].num_oov)]
    dead = zero_rows(model, cleared=[] if spared else unseen, spared=unseen[-1:] if spared else [])
    pruned = prune(model, case.preprocessor)
    num_values = pruned.model.schema["user"].num_values
    if shorter:
        values = range(1 + len(unseen), 1 + len(unseen) + case.schema["user"].num_values)
        assert num_values == len(set(values) - set(dead[feature.table_name])) < len(values)
        assert pruned.model.schema["user"].lookup == "vocabulary"
    else:
        assert pruned.model.schema["user"].lookup == "identity"
    raw = raw_batch(case)
    np.testing.assert_array_equal(logits(pruned.model, pruned.preprocessor, raw), logits(model, case.preprocessor, raw))


def test_a_row_stays_as_long_as_any_embedding_layer_needs_it():
    case = cases.case(features=(Feature("user", dtype="int"), Feature("video")))
    model = case.model(FM)
    first, second = embeddings(model)
    for layer, zero in ((first, [2, 3, 4, 5]), (second, [1, 4, 5, 6])):
        key, rows = parts(layer)["user"]
        table = layer.tables[key].numpy()
        table[rows][np.array(zero) - 1] = 0
        layer.tables[key].assign(table)
    pruned = prune(model, case.preprocessor)
    # Both are zero at 4 and 5 only, and the out-of-vocabulary id 1 is not: renumbered, four bytes for each of 12 ids.
    assert pruned.rows["user"] == (12, 10) and pruned.rows["video"][0] == pruned.rows["video"][1]
    raw = raw_batch(case)
    np.testing.assert_array_equal(logits(pruned.model, pruned.preprocessor, raw), logits(model, case.preprocessor, raw))


def test_without_zero_rows_nothing_changes():
    case = cases.case(features=(Feature("user", dtype="int"),))
    model = case.model()
    pruned = prune(model, case.preprocessor)
    assert pruned.model is model and pruned.preprocessor is case.preprocessor
    assert pruned.rows == {"user": (12, 12)}


def test_a_table_that_would_not_become_smaller_stays():
    schema = Schema([Feature("hour", dtype="int", lookup="identity", num_values=23)])
    model = XDeepInt(schema, width=4, num_layers=1)
    # One row of four floats is less than the 24 numbers of four bytes that renumbering takes; seven are more.
    for count, rows in ((5, 24), (7, 17)):
        table = np.ones((24, 4), np.float32)
        table[1 : 1 + count] = 0
        model.build_from_schema()
        model.embedding.table.assign(table)
        assert prune(model, data.Preprocessor(schema, None)).rows == {"hour": (24, rows)}


class Doubled(tf.Module):
    """Somebody else's preprocessor."""

    def __call__(self, raw):
        return {"hour": 2 * raw["hour"][:, tf.newaxis]}


def test_other_peoples_preprocessors_are_renumbered():
    schema = Schema([Feature("hour", dtype="int", lookup="identity", num_values=60)])
    model = XDeepInt(schema, width=4, num_layers=1)
    model.build_from_schema()
    zero_rows(model)
    pruned = prune(model, Doubled())
    raw = {"hour": tf.range(24, dtype=tf.int64)}
    assert pruned.rows["hour"][1] < 61
    np.testing.assert_array_equal(logits(pruned.model, pruned.preprocessor, raw), logits(model, Doubled(), raw))


class LooksItself(XDeepInt):
    """A model that uses the ids of `hour` beside its embedding layer."""

    def call(self, features, training=None):
        return super().call(features, training=training) + 0.1 * tf.cast(features["hour"], tf.float32)


class Forgetful(XDeepInt):
    """A model whose get_config lacks an argument."""

    def __init__(self, schema, units=None, **options):
        super().__init__(schema, dnn_units=[units or 3], **options)

    def get_config(self):
        return {key: value for key, value in super().get_config().items() if key != "dnn_units"}


@pytest.mark.parametrize(
    "cls, options, message",
    [(LooksItself, {}, "scores differ"), (Forgetful, {"units": 5}, "get_config.*prune=False")],
)
def test_a_model_that_pruning_would_change_is_refused(cls, options, message, tmp_path):
    case = cases.case(features=(Feature("hour", dtype="int", lookup="identity", num_values=24),))
    model = case.model(cls, **options)
    zero_rows(model)
    with pytest.raises(PruningError, match=message):
        serving.export(model, case.preprocessor, tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_mixed_precision_is_kept():
    case = cases.case(features=(Feature("user", dtype="int"), Feature("video")))
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = case.model()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    zero_rows(model, cleared=[("user", 1), ("video", 1)])
    pruned = prune(model, case.preprocessor)
    assert pruned.model.embedding.compute_dtype == "bfloat16"
    assert tf.keras.mixed_precision.global_policy().name == "float32"


@pytest.fixture(scope="module")
def trained():
    """A model whose rows G-FTRL has zeroed: of 400 users and 400 items, few are seen often enough to matter."""
    tf.keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.zipf(1.3, 20_000) % 400 for name in ("user", "item")})
    frame["click"] = ((frame.user + frame.item) % 2 == 0) * (random.random(len(frame)) < 0.9) * 1.0
    schema, dataset = data.from_pandas(frame, label="click", batch_size=500)
    model = XDeepInt(schema, width=16, num_layers=2, num_subspaces=4)
    groups = {"embedding": GroupFtrl(alpha=0.1, lambda1=0.01), "default": tf.keras.optimizers.Adam(1e-2)}
    model.compile(optimizer=groups, metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")])
    history = model.fit(dataset, epochs=2, verbose=0)
    assert history.history["auc"][-1] > 0.8  # what is left has learnt something
    return frame, dataset.preprocessor, model


def size(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


def test_group_ftrl_export_has_fewer_rows_less_size_and_equal_scores(trained, tmp_path):
    frame, preprocessor, model = trained
    whole = serving.export(model, preprocessor, tmp_path / "whole", prune=False)
    small = serving.export(model, preprocessor, tmp_path / "small")
    rows = data.Manifest.load(small).notes["export"]["pruned_rows"]
    dead = int((model.embedding.table.numpy()[1:] == 0).all(axis=1).sum())
    assert dead > 100
    # Both out-of-vocabulary rows are among the dead, and stay.
    assert sum(table["before"] - table["after"] for table in rows.values()) == dead - 2
    assert size(small) < size(whole) - 4 * 16 * (dead - 2)
    assert data.Manifest.load(whole).notes["export"]["pruned_rows"] == {}

    values = {name: np.concatenate([np.arange(402), frame[name][:600]]) for name in ("user", "item")}
    values["item"] = np.roll(values["item"], 7)
    answers = c_api.run_signatures([(folder, "predict_raw", values) for folder in (whole, small)])
    expected = logits(model, preprocessor, {name: tf.constant(x) for name, x in values.items()})
    assert np.ptp(expected) > 1
    for answer in answers:
        np.testing.assert_allclose(answer["logit"], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(answers[0]["probability"], answers[1]["probability"])
