"""OptimizerGroups where Keras and TensorFlow use it: fit, callbacks, replicas, loss scaling, files."""

import io
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers.test_groups import assert_same, make_members, make_variables, pairs
from xdeepint_ext.optimizers import OptimizerGroups
from xdeepint_ext.utils.variables import tag

ROWS, FIELDS, WIDTH = 12, 3, 4


class TaggedEmbedding(tf.keras.layers.Embedding):
    def build(self, input_shape=None):
        super().build(input_shape)
        tag(self.embeddings, "embedding")


class TaggedDense(tf.keras.layers.Dense):
    def build(self, input_shape):
        super().build(input_shape)
        tag(self.kernel, "interaction")


def make_model():
    ids = tf.keras.Input([FIELDS], dtype=tf.int32)
    rows = tf.keras.layers.Flatten()(TaggedEmbedding(ROWS, WIDTH)(ids))
    logits = tf.keras.layers.Dense(1, dtype="float32")(TaggedDense(5)(rows))
    return tf.keras.Model(ids, logits)


def compiled(members=make_members, **arguments):
    model = make_model()
    loss = tf.keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(OptimizerGroups(members()), loss, **arguments)
    return model


def data(count=16):
    rng = np.random.default_rng(0)
    return rng.integers(0, ROWS, size=(count, FIELDS)), rng.integers(0, 2, size=count).astype(np.float32)


def fit(model, **arguments):
    return model.fit(*data(), batch_size=8, shuffle=False, verbose=0, **arguments)


@pytest.fixture
def custom_objects():
    with tf.keras.utils.custom_object_scope({"TaggedEmbedding": TaggedEmbedding, "TaggedDense": TaggedDense}):
        yield


def test_fit_trains_every_group_and_counts_steps():
    model = compiled()
    before = model.get_weights()
    fit(model)
    assert model.optimizer.iterations == 2
    assert all(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True))
    counts = {group: len(member.variables) for group, member in model.optimizer.optimizers.items()}
    # A counter each; two slots for the table, two for the kernel, two for each of the three other variables.
    assert counts == {"embedding": 3, "interaction": 3, "default": 7}
    # Of the counters the whole shows its own only.
    assert len(model.optimizer.variables) == 1 + 2 + 2 + 6
    assert model.optimizer.variables[0] is model.optimizer.iterations


def test_fit_under_xla():
    plain, jitted = compiled(), compiled(jit_compile=True)
    jitted.set_weights(plain.get_weights())
    for model in (plain, jitted):
        fit(model)
    for left, right in zip(plain.get_weights(), jitted.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_callbacks_read_and_set_the_learning_rate(tmp_path):
    model = compiled()
    logs = []
    fit(
        model,
        epochs=3,
        validation_data=data(),
        callbacks=[
            tf.keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
            tf.keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5, min_delta=1e9),
            tf.keras.callbacks.TensorBoard(tmp_path),
            tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda _, values: logs.append(values["lr"])),
        ],
    )
    # Halved before each epoch; by ReduceLROnPlateau after the second and third, which did not improve by 1e9.
    assert logs == pytest.approx([0.1 / 2, 0.1 / 4, 0.1 / 16])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / 32)
    assert float(model.optimizer.optimizers["embedding"].learning_rate) == pytest.approx(0.1)


def test_two_replicas_equal_one_device(two_replicas):
    with two_replicas.scope():
        mirrored = compiled()
    single = compiled()
    mirrored.set_weights(single.get_weights())
    for model in (mirrored, single):
        fit(model, epochs=2)
    assert mirrored.optimizer.iterations == single.optimizer.iterations == 4
    for left, right in zip(mirrored.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("summed_before", [False, True])
def test_gradients_are_summed_over_replicas_once(two_replicas, summed_before):
    with two_replicas.scope():
        variable = tf.Variable(0.0)
        optimizer = OptimizerGroups({"default": tf.keras.optimizers.SGD(1.0)})
        optimizer.build([variable])

    def step():
        optimizer.apply_gradients([(tf.constant(-1.0), variable)], skip_gradients_aggregation=summed_before)

    tf.function(lambda: two_replicas.run(step))()
    assert variable.numpy() == (1.0 if summed_before else 2.0)
    with two_replicas.scope(), pytest.raises(RuntimeError, match="replica context"):
        optimizer.apply_gradients([(tf.constant(-1.0), variable)])


def test_one_loss_scale_serves_all():
    variables, inner = make_variables(), OptimizerGroups(make_members())
    scaled = tf.keras.mixed_precision.LossScaleOptimizer(inner, dynamic=True, initial_scale=2.0**10)
    overflow = [(tf.convert_to_tensor(g) * np.inf if g.shape == [4] else g, v) for g, v in pairs(0, variables)]
    before = make_variables()
    scaled.apply_gradients(overflow)
    assert_same(variables, before)
    assert scaled.loss_scale == 2.0**9
    scaled.apply_gradients(pairs(1, variables))
    assert scaled.iterations == inner.iterations == 2
    assert [member.iterations.numpy() for member in inner.optimizers.values()] == [2, 2, 2]
    plain = OptimizerGroups(make_members())
    plain.iterations.assign(1)
    alone = make_variables()
    plain.apply_gradients(pairs(1, alone))
    assert_same(variables, alone)


@pytest.mark.parametrize("replicas", [1, 2])
def test_compile_under_mixed_precision(replicas, two_replicas, custom_objects, tmp_path):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
        with strategy.scope():
            model = compiled()
        assert isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
        fit(model)
        groups = model.optimizer.inner_optimizer
        counts = [len(groups.optimizers[group].variables) for group in ("embedding", "interaction", "default")]
        assert counts == [3, 3, 7]
        model.save(tmp_path / "model.keras")
        with strategy.scope():
            again = tf.keras.models.load_model(tmp_path / "model.keras")
        for left, right in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(left, right)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_keras_file_goes_on_exactly(custom_objects, tmp_path):
    model = compiled()
    fit(model)
    model.optimizer.learning_rate = 0.03
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, OptimizerGroups)
    for fitted in (model, again):
        fit(fitted)
    for left, right in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(left, right)


def test_keras_file_holds_each_variable_once(custom_objects, tmp_path):
    model = compiled()
    fit(model)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    assert list(weights["optimizer"]) == ["vars"]
    assert len(weights["optimizer/vars"]) == len(model.optimizer.variables)


def test_state_by_group_not_by_position():
    """The store of a file keeps what each group had, whatever the order in which the groups are listed."""
    variables, optimizer = make_variables(), OptimizerGroups(make_members())
    optimizer.apply_gradients(pairs(0, variables))
    store = {}
    optimizer.save_own_variables(store)
    reordered = OptimizerGroups(dict(reversed(make_members().items())))
    reordered.build(list(variables.values()))
    reordered.load_own_variables(store)
    for group, member in optimizer.optimizers.items():
        for left, right in zip(member.variables[1:], reordered.optimizers[group].variables[1:], strict=True):
            np.testing.assert_array_equal(left, right)
    del store["embedding.1"]
    with pytest.raises(ValueError, match=r"does not fit: missing \['embedding.1'\], unexpected \[\]"):
        reordered.load_own_variables(store)


def test_set_weights_is_the_inverse_of_variables():
    variables, optimizer = make_variables(), OptimizerGroups(make_members())
    optimizer.apply_gradients(pairs(0, variables))
    again = OptimizerGroups(make_members())
    again.build(list(variables.values()))
    again.set_weights([variable.numpy() for variable in optimizer.variables])
    for left, right in zip(again.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(left, right)
    with pytest.raises(ValueError, match="weights must hold 7 arrays, one for each variable, got 1"):
        again.set_weights([0])


@pytest.mark.parametrize("build_first", [False, True])
def test_checkpoint_goes_on_exactly(build_first, tmp_path):
    variables, optimizer = make_variables(), OptimizerGroups(make_members())
    optimizer.apply_gradients(pairs(0, variables))
    path = tf.train.Checkpoint(optimizer=optimizer, **variables).save(tmp_path / "checkpoint")
    optimizer.apply_gradients(pairs(1, variables))

    again = {group: tag(tf.Variable(tf.zeros_like(v)), group) for group, v in variables.items()}
    restored = OptimizerGroups(dict(reversed(make_members().items())))
    if build_first:
        restored.build(list(again.values()))
    status = tf.train.Checkpoint(optimizer=restored, **again).restore(path)
    restored.apply_gradients(pairs(1, again))
    status.assert_existing_objects_matched()
    status.assert_consumed()
    assert_same(again, variables)
    assert restored.iterations == 2
