"""examples/subclassing: a layer, a loss and a model made outside of the package train, save and serve."""

import ast
import importlib
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import xdeepint_ext
from tests.serving import c_api
from xdeepint_ext import data
from xdeepint_ext.layers import PIN
from xdeepint_ext.models.baselines import LR
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.query import query

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "subclassing"
ROWS = 8


@pytest.fixture(scope="module")
def click_model():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(os.fspath(EXAMPLE))
        yield importlib.import_module("click_model")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the example's command leaves in its folder, and what it printed; it is run from an empty folder."""
    folder = tmp_path_factory.mktemp("subclassing")
    paths = [os.fspath(EXAMPLE), os.fspath(pathlib.Path(xdeepint_ext.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "click_model.train", "--output_dir=out"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


@pytest.fixture(scope="module")
def model(trained, click_model):
    """The model of the Keras file."""
    return tf.keras.models.load_model(trained[0] / "click_model.keras")


def test_it_learns_what_no_linear_model_can(trained):
    folder, printed = trained
    auc, best = map(float, re.search(r"Test AUC +(\S+) \(best reachable (\S+)\)", printed).groups())
    linear = LR(Schema.load(folder / "data"))
    linear.compile(tf.keras.optimizers.Adam(0.03), metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")])
    linear.fit(data.read(folder / "data", "train", 500, shuffle=True), epochs=2, verbose=0)
    linear_auc = linear.evaluate(data.read(folder / "data", "test", 500), return_dict=True, verbose=0)["auc"]
    assert 0.65 < linear_auc < linear_auc + 0.08 < auc
    assert best - 0.04 < auc < best + 0.01
    assert f"SavedModel  {os.path.join('out', 'saved_model', '1')}\n" in printed
    assert (folder / "saved_model" / "1" / "saved_model.pb").exists()


def first_rows(folder):
    """The first test records as column -> value, without their labels."""
    (shard,) = data.Manifest.load(folder / "data").shards("test")
    records = tf.data.TFRecordDataset(os.fspath(folder / "data" / shard.file)).take(ROWS).as_numpy_iterator()
    rows = [tf.train.Example.FromString(record).features.feature for record in records]
    return [{name: row[name].bytes_list.value[0].decode() for name in row if name != "label"} for row in rows]


def test_a_row_has_the_same_ids_and_score_on_all_ways(trained, model):
    """Through `data.read` and the saved Keras model, through `serving.query`, and through the C API."""
    folder, _ = trained
    features, _ = next(iter(data.read(folder / "data", "test", ROWS)))
    rows = first_rows(folder)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    saved_model = folder / "saved_model" / "1"
    requests = [(saved_model, signature, columns) for signature in ("preprocess", "predict_raw")]
    ids, scores = c_api.run_signatures(requests)

    asked = query(saved_model, rows, "preprocess")
    assert set(asked) == set(ids) == set(features) == set(model.input_signature())
    for name, value in features.items():
        np.testing.assert_array_equal(asked[name], value, err_msg=name)
        np.testing.assert_array_equal(ids[name], value, err_msg=name)
    logits = model(features, training=False).numpy()
    assert np.ptp(logits) > 0.1
    np.testing.assert_allclose(query(saved_model, rows)["logit"], logits, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores["logit"], logits, rtol=0, atol=1e-6)


def test_the_keras_file_holds_the_subclasses(trained, model, click_model, tmp_path):
    assert type(model) is click_model.ClickModel and type(model.pin) is click_model.GatedPIN
    assert (model.squeeze, model.pin.squeeze) == (3, 3)
    (loss,) = model.objective.losses.values()
    assert type(loss) is click_model.GroupBalancedLogLoss and loss.power == 0.5
    # Both start at zero, so these were trained and kept.
    assert np.abs(model.pin.gating.kernel).max() > 0.01 and np.abs(model.mixing.kernel).max() > 0.01
    model.save(tmp_path / "again.keras")
    again = tf.keras.models.load_model(tmp_path / "again.keras")
    assert again.get_config() == model.get_config()
    features, labels = next(iter(data.read(trained[0] / "data", "test", 500, schema=model.schema)))
    assert "group_ids" in features
    logits = model(features)
    np.testing.assert_array_equal(again(features), logits)
    (found,) = again.objective.losses.values()
    y_true = {"label": labels, "group_ids": features["group_ids"]}
    np.testing.assert_array_equal(found(y_true, logits), loss(y_true, logits))


def test_the_layer_gates_the_fields_of_pin(click_model):
    x = tf.random.normal((4, 3, 6))
    layer = click_model.GatedPIN(2, num_subspaces=2, squeeze=5)
    found = layer(x)
    plain = PIN(2, num_subspaces=2)
    plain.build(x.shape)
    plain.set_weights([kernel.numpy() for kernel in layer.kernels])
    np.testing.assert_array_equal(found, plain(x))  # every gate starts at 1
    for weight in layer.weights:
        weight.assign(tf.random.normal(weight.shape))
    plain.set_weights([kernel.numpy() for kernel in layer.kernels])
    u, v, c = (w.numpy().astype(np.float64) for w in (*layer.squeezing.weights, *layer.gating.weights))
    gates = 2 / (1 + np.exp(-(np.maximum(x.numpy().mean(2) @ u, 0) @ v + c)))
    np.testing.assert_allclose(layer(x), gates[:, :, None] * plain(x), rtol=1e-5, atol=1e-5)
    assert click_model.GatedPIN(2, residual=False)(x).shape == (4, 9, 6)
    with pytest.raises(ValueError, match="squeeze must be >= 1, got 0"):
        click_model.GatedPIN(2, squeeze=0)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_loss_balances_groups(click_model, power):
    labels, logits = np.array([1.0, 0, 0, 1, -1, 1]), np.array([0.3, -1, 2, 0.5, 7, -2])
    groups, sizes = np.array([5, 5, 9, 5, 9, 9]), np.array([3, 3, 2, 3, np.inf, 2])  # the fifth label is missing
    sample_weights = np.array([1, 2, 0.5, 1, 1, 3])
    weights = np.where(labels < 0, 0, sizes**-power)
    weights *= 5 / weights.sum()
    losses = weights * (np.logaddexp(0, logits) - labels * logits)
    loss = click_model.GroupBalancedLogLoss(power)
    y_true = {"label": tf.constant(labels[:, None], tf.float32), "group_ids": tf.constant(groups)}
    y_pred = tf.constant(logits[:, None], tf.float32)
    np.testing.assert_allclose(loss(y_true, y_pred), losses.sum() / 5, rtol=1e-6)
    np.testing.assert_allclose(loss(y_true, y_pred, sample_weights), (sample_weights * losses).sum() / 5, rtol=1e-6)
    with pytest.raises(ValueError, match=r"lacks \['group_ids'\]"):
        loss(labels[:, None], y_pred)


def test_the_model_has_one_head(click_model):
    schema = Schema([Feature("user", num_values=3)])
    with pytest.raises(ValueError, match="one head, got heads="):
        click_model.ClickModel(schema, heads=[{"num_layers": 1}])


@pytest.mark.parametrize("file", sorted((EXAMPLE / "click_model").glob("*.py")), ids=lambda file: file.name)
def test_it_uses_public_names_only(file):
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("xdeepint_ext"):
            public = importlib.import_module(node.module).__all__
            assert {alias.name for alias in node.names} <= set(public), f"{file.name}: {node.module}"
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr == "__init__", f"{file.name}: {node.attr}"
