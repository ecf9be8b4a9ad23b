"""`--embedding_device=sharded`: each row on one device, trained as on one, resumed, and exported as a whole."""

import numpy as np
import pytest
import tensorflow as tf

from tests.experiments.equal_weights import config_of
from xdeepint_ext.experiments import execute, run, sharded_tables, training
from xdeepint_ext.experiments.list_inputs import open_inputs
from xdeepint_ext.experiments.placement import make_placement
from xdeepint_ext.experiments.running import make_model, process_settings


@pytest.fixture(autouse=True)
def small_tables_are_divided(monkeypatch):
    monkeypatch.setattr(sharded_tables, "SHARD_BYTES", 64)


@pytest.fixture
def config(data_dirs):
    return config_of("xdeepint", data_dirs["one"], strategy="mirrored", embedding_device="sharded", evaluate=("test",))


def test_rows_and_slots_lie_on_one_device_each_from_the_values_of_one(config):
    inputs, place = open_inputs(config), make_placement(config)
    with process_settings(config):
        one = make_model(config, inputs, 100)
    with process_settings(config), place.scope():
        model = make_model(config, inputs, 100)
    (table,) = model.embedding.tables.values()
    devices = [f"CPU:{i}" for i in range(len(tf.config.list_logical_devices("CPU")))]
    assert len(devices) > 1
    assert [part.device.rpartition(":C")[2] for part in table.variables] == [d.removeprefix("C") for d in devices]
    np.testing.assert_array_equal(np.concatenate([p.numpy() for p in table.variables]), one.embedding.table.numpy())
    slots = [slot for slot in model.optimizer.variables if hasattr(slot, "variables")]
    assert len(slots) > 0
    for slot in slots:
        assert [part.device for part in slot.variables] == [part.device for part in table.variables]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "paper"])
def test_it_trains_as_one_device(config, optimizer):
    config = config.replace(optimizer=optimizer)
    one = execute(config.replace(strategy="one_device", embedding_device="auto"))
    found = execute(config)
    for weight, expected in zip(found.model.weights, one.model.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), expected.numpy(), rtol=0, atol=1e-5, err_msg=weight.name)
    assert found.metrics["test.logloss"] == pytest.approx(one.metrics["test.logloss"], abs=1e-6)


@pytest.mark.slow
def test_a_broken_run_goes_on_and_is_exported(config, tmp_path, monkeypatch):
    config = config.replace(early_stopping="auc", eval_every=10, export=True, deterministic=True)
    undisturbed = run(config.replace(model_dir=str(tmp_path / "undisturbed")))
    broken = config.replace(model_dir=str(tmp_path / "broken"))
    ask = training._ask

    def dying(config, model, state, *others):
        if state.now.step == 30:
            raise KeyboardInterrupt
        ask(config, model, state, *others)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "_ask", dying)
        run(broken)
    found = run(broken)
    assert found["steps"] == undisturbed["steps"] == 50
    assert found["test.auc"] == pytest.approx(undisturbed["test.auc"], abs=1e-12)
    assert (tmp_path / "broken/saved_model").is_dir()


def test_one_device_has_nothing_to_divide_among(config):
    with pytest.raises(ValueError, match="embedding_device=sharded divides tables among mirrored's devices; there is"):
        make_placement(config.replace(strategy="one_device"))
