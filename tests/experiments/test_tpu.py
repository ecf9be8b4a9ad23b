"""--strategy=tpu on what stands for a TPU: it trains as one device, by steps that a TPU could run."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf

from tests.fake_tpu import SCOPE, FakeTpuEmbedding, FakeTpuStrategy
from tests.layers.test_embedding import EVERYTHING, draw
from xdeepint_ext.experiments import strategies
from xdeepint_ext.experiments.config import check_several_runs
from xdeepint_ext.experiments.placement import make_placement
from xdeepint_ext.experiments.running import execute, run
from xdeepint_ext.experiments.tpu_loop import TpuLoop, fixed_size, with_table_rows
from xdeepint_ext.experiments.tpu_tables import copy_to_host, tpu_embedding_of, use_tpu_tables
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.models.baselines import DeepFM
from xdeepint_ext.optimizers import LazyAdagrad, LazyAdam
from xdeepint_ext.optimizers.tpu import tpu_optimizer

STEPS, BATCH = 20, 8
COSINE = tf.keras.optimizers.schedules.CosineDecay(0.05, STEPS)
OPTIMIZERS = {
    "lazy_adam": lambda: LazyAdam(COSINE),
    "lazy_adagrad": lambda: LazyAdagrad(COSINE),
    "ftrl": lambda: tf.keras.optimizers.Ftrl(0.05, l1_regularization_strength=1e-3, l2_regularization_strength=1e-3),
    "sgd": lambda: tf.keras.optimizers.SGD(0.05),
}


@pytest.fixture
def fake_tpu(monkeypatch):
    """A strategy that --strategy=tpu finds."""
    strategy = FakeTpuStrategy(monkeypatch)
    monkeypatch.setattr(strategies, "tpu", lambda: strategy)
    return strategy


class Batches:
    """Training data: the last batch of each epoch is short."""

    def train(self, start_step, worker=None):
        features = {n: x for n, x in draw(EVERYTHING, 3 * BATCH - 3).items()}
        features = {n: x if x.dtype.kind == "i" else x.astype(np.float32) for n, x in features.items()}
        labels = np.random.default_rng(5).integers(0, 2, (3 * BATCH - 3, 1)).astype(np.float32)
        return tf.data.Dataset.from_tensor_slices((features, labels)).batch(BATCH).repeat()


def compiled(name, of_tpu):
    tf.keras.utils.set_random_seed(2)
    # Keras's FTRL makes zeros of the rows that its first batch has not; a TPU's touches no row outside of a batch.
    zeros = "zeros" if name == "ftrl" else None
    model = XDeepInt(EVERYTHING, width=4, num_layers=1, num_subspaces=2, embedding_initializer=zeros)
    ours = OPTIMIZERS[name]()
    if of_tpu:
        use_tpu_tables(model, tpu_optimizer(ours), BATCH)
    model.build_from_schema()
    model.compile({"embedding": ours, "default": tf.keras.optimizers.Adam(0.01)}, metrics=[tf.keras.metrics.AUC()])
    model.optimizer.build(model.trainable_variables)
    return model


def batch_of(layer):
    return with_table_rows(layer, fixed_size(next(iter(Batches().train(0))), BATCH))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_are_those_of_the_ordinary_layer(name, fake_tpu):
    with fake_tpu.scope():
        of_tpu = compiled(name, True)
    ordinary = compiled(name, False)
    before = [weight.numpy() for weight in ordinary.weights]
    loop = TpuLoop(of_tpu, fake_tpu)
    loop.start(Batches(), 0)
    loop.run(STEPS)
    for batch in Batches().train(0).take(STEPS):
        ordinary.train_on_batch(*batch)
    assert len(FakeTpuEmbedding.made) == 1 and of_tpu.optimizer.iterations == STEPS
    here = compiled(name, False)
    copy_to_host(of_tpu, here)
    moved = 0
    for found, expected, start in zip(here.weights, ordinary.weights, before, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5, err_msg=found.name)
        moved += not np.array_equal(found, start)
    assert moved == len(before) - 1  # all but the frozen table


@pytest.mark.parametrize("name", ["lazy_adam", "lazy_adagrad"])
def test_so_they_are_on_a_cpu(name):
    of_tpu, ordinary = compiled(name, True), compiled(name, False)
    layer = tpu_embedding_of(of_tpu)
    for batch in Batches().train(0).take(STEPS):
        of_tpu.train_on_batch(*with_table_rows(layer, fixed_size(batch, BATCH)))
        ordinary.train_on_batch(*batch)
    here = compiled(name, False)
    copy_to_host(of_tpu, here)
    for found, expected in zip(here.weights, ordinary.weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=found.name)


def graphs_of(function):
    """A graph and those of the functions that it calls."""
    seen = {}

    def add(graph):
        if id(graph) not in seen:
            seen[id(graph)] = graph
            for called in graph._functions.values():
                add(called.graph)

    add(function.graph)
    return list(seen.values())


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def precision(request):
    policy = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield
    tf.keras.mixed_precision.set_global_policy(policy)


def test_a_step_has_static_shapes_and_no_strings(fake_tpu, precision):
    with fake_tpu.scope():
        model = compiled("lazy_adam", True)
    batch = batch_of(tpu_embedding_of(model))
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), batch)
    step = tf.function(lambda *batch: fake_tpu.run(model.train_step, (batch,), None), jit_compile=True)
    operations = [
        operation
        for graph in graphs_of(step.get_concrete_function(*specs))
        for operation in graph.get_operations()
        if SCOPE not in operation.name
    ]
    assert len(operations) > 100
    for operation in operations:
        for output in operation.outputs:
            assert output.dtype != tf.string, operation
            assert output.dtype == tf.resource or output.shape.is_fully_defined(), operation
    step(*batch)  # XLA compiles it
    assert model.optimizer.iterations == 1


def test_a_short_batch_is_filled_with_rows_that_count_for_nothing():
    features = {"user": tf.ones((3, 1), tf.int64), "group_ids": tf.ones((3,), tf.int64)}
    batch = features, {"click": tf.ones((3, 1)), "like": tf.ones((3, 1))}, tf.ones((3, 1))
    x, y, weights = fixed_size(batch, 5)
    np.testing.assert_array_equal(x["user"][:, 0], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(x["group_ids"], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(y["like"][:, 0], [1, 1, 1, -1, -1])
    np.testing.assert_array_equal(weights[:, 0], [1, 1, 1, 0, 0])
    with pytest.raises(tf.errors.InvalidArgumentError):  # nothing is left out
        fixed_size(batch, 2)
    with pytest.raises(ValueError, match=r"a TPU has no text, and the features \['name'\]"):
        fixed_size(({"name": tf.constant(["x"])}, tf.ones((1, 1))), 5)


@pytest.mark.slow
def test_a_run_is_that_of_one_device(config_of, fake_tpu, tmp_path):
    config = config_of(batch_size=70, export=True, save_predictions=True, schedule="cosine")
    one = run(config.replace(strategy="one_device", model_dir=str(tmp_path / "one")))
    found = run(config.replace(strategy="tpu", model_dir=str(tmp_path / "tpu")))
    assert found["steps"] == one["steps"] and found["best_step"] == one["best_step"]
    assert found["test.auc"] == pytest.approx(one["test.auc"], abs=1e-4) and found["test.auc"] > 0.6
    assert found["test.logloss"] == pytest.approx(one["test.logloss"], abs=1e-4)
    assert found["valid.auc"] == pytest.approx(one["valid.auc"], abs=1e-4)
    assert not fake_tpu.options["input"].experimental_fetch_to_device
    assert not fake_tpu.options["run"].experimental_enable_dynamic_batch_size
    [directory] = [path.parent for path in (tmp_path / "tpu/saved_model").rglob("saved_model.pb")]
    saved = tf.saved_model.load(str(directory))
    graphs = [graph for signature in saved.signatures.values() for graph in graphs_of(signature)]
    assert not [op.type for graph in graphs for op in graph.get_operations() if "TPU" in op.type]


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint(config_of, fake_tpu, tmp_path, monkeypatch):
    config = config_of(strategy="tpu", model_dir=str(tmp_path / "run"), eval_every=6, deterministic=True)
    whole = run(config.replace(model_dir=str(tmp_path / "whole")))
    step = TpuLoop.run

    def killed(self, count):
        step(self, count)
        if len(made) > 4:
            raise KeyboardInterrupt
        made.append(count)

    made = []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TpuLoop, "run", killed)
        run(config)
    assert tf.train.latest_checkpoint(str(tmp_path / "run/checkpoints"))
    assert run(config)["test.logloss"] == pytest.approx(whole["test.logloss"], abs=1e-6)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["steps"] == whole["steps"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "paper"}, r"optimizer=paper trains tables with group_ftrl, and strategy=tpu .* no G-FTRL"),
        ({"optimizer": "group_ftrl_adam"}, r"optimizer=group_ftrl_adam .*; use one of \['adagrad', 'adam', 'ftrl'\]"),
        ({"mixed_precision": "mixed_float16"}, "mixed_precision=mixed_float16: .* no loss scale"),
        ({"mixed_precision": "float64"}, r"strategy=tpu has \('float32', 'mixed_bfloat16'\)"),
        ({"warm_start": "run"}, "cannot go on from another run's tables, got warm_start=run"),
        ({}, "keeps the best weights in files: it is for a single run with a model_dir"),
    ],
)
def test_what_a_tpu_cannot_do_is_refused(config_of, fake_tpu, changes, message):
    with pytest.raises(ValueError, match=message):
        execute(config_of(strategy="tpu", **changes))


def test_so_are_models_without_tables(fake_tpu):
    with pytest.raises(ValueError, match="strategy=tpu is for models with tables of ids"):
        make_placement(types.SimpleNamespace(strategy="tpu", batch_size=BATCH))


def test_so_are_several_runs():
    with pytest.raises(ValueError, match="strategy=tpu is for a single run"):
        check_several_runs("tpu")


def test_so_are_models_of_several_layers_with_tables():
    with pytest.raises(ValueError, match="takes the tables of one layer, and DeepFM has 2 layers with tables"):
        use_tpu_tables(DeepFM(EVERYTHING), None, BATCH)


def test_without_a_tpu_its_lack_is_named(config_of):
    with pytest.raises(ValueError, match="--strategy=tpu found no TPU here"):
        execute(config_of(strategy="tpu"))
