import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from tests.optimizers import reference
from tests.optimizers.batches import draw, trainings
from xdeepint_ext.optimizers import LazyAdagrad, LazyAdam

ADAM = {"learning_rate": 0.25, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7}
ADAGRAD = {"learning_rate": 0.25, "epsilon": 1e-7}


def gradient_of_row(training, step):
    dense = training.dense(step).numpy()
    return {row: dense[row] for row in set(training.ids[step].tolist())}


def test_adam_equals_the_formula_in_float64():
    training = draw(seed=1, rows=6, width=3, lookups=[4, 0, 5, 9], dtype=np.float64)
    table, optimizer = tf.Variable(training.table), LazyAdam(**ADAM)
    w, m, v = training.table, np.zeros((6, 3)), np.zeros((6, 3))
    for step in training.steps:
        optimizer.apply_gradients([(training.sparse(step), table)])
        w, m, v = reference.lazy_adam(w, m, v, gradient_of_row(training, step), step=step + 1, **ADAM)
        np.testing.assert_allclose(table, w, rtol=1e-12)
        untouched = sorted(set(range(6)) - {r for ids in training.ids[: step + 1] for r in ids})
        np.testing.assert_array_equal(table.numpy()[untouched], training.table[untouched])


def test_adagrad_equals_the_formula_in_float64():
    training = draw(seed=2, rows=6, width=3, lookups=[4, 0, 5, 9], dtype=np.float64)
    table, optimizer = tf.Variable(training.table), LazyAdagrad(**ADAGRAD, initial_accumulator_value=0.5)
    w, n = training.table, np.full((6, 3), 0.5)
    for step in training.steps:
        optimizer.apply_gradients([(training.sparse(step), table)])
        w, n = reference.lazy_adagrad(w, n, gradient_of_row(training, step), **ADAGRAD)
        np.testing.assert_allclose(table, w, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(trainings)
def test_adagrad_equals_the_dense_step_bit_for_bit(training):
    sparse, dense = tf.Variable(training.table), tf.Variable(training.table)
    lazy, keras = LazyAdagrad(0.1), tf.keras.optimizers.Adagrad(0.1)
    for step in training.steps:
        lazy.apply_gradients([(training.sparse(step), sparse)])
        keras.apply_gradients([(training.dense(step), dense)])
    np.testing.assert_array_equal(sparse, dense)
    np.testing.assert_array_equal(lazy.variables[1], keras.variables[1])


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_equals_the_dense_step_bit_for_bit_while_a_row_is_in_every_batch(amsgrad):
    training = draw(seed=3, rows=4, width=5, lookups=[20, 20, 20])
    everywhere = set.intersection(*(set(ids) for ids in training.ids))
    assert everywhere == {0, 1, 2, 3}
    sparse, dense = tf.Variable(training.table), tf.Variable(training.table)
    lazy, keras = LazyAdam(0.1, amsgrad=amsgrad), tf.keras.optimizers.Adam(0.1, amsgrad=amsgrad)
    for step in training.steps:
        lazy.apply_gradients([(training.sparse(step), sparse)])
        keras.apply_gradients([(training.dense(step), dense)])
        np.testing.assert_array_equal(sparse, dense)


def test_adam_leaves_moments_of_other_rows():
    table, optimizer = tf.Variable(tf.ones([4, 2])), LazyAdam(0.1)
    step = tf.function(optimizer.apply_gradients)
    step([(tf.IndexedSlices(tf.ones([2, 2]), tf.constant([0, 1]), tf.constant([4, 2])), table)])
    before = [table.numpy(), *(v.numpy() for v in optimizer.variables[1:])]
    step([(tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1, 1]), tf.constant([4, 2])), table)])
    after = [table.numpy(), *(v.numpy() for v in optimizer.variables[1:])]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old[[0, 2, 3]], new[[0, 2, 3]])
        assert np.all(old[1] != new[1])


def test_first_step_of_a_late_row_is_as_long_as_documented():
    table, optimizer = tf.Variable(tf.zeros([2, 1])), LazyAdam(0.001)
    optimizer.build([table])
    optimizer.iterations.assign(10**6)
    optimizer.apply_gradients([(tf.IndexedSlices([[5.0]], [1]), table)])
    np.testing.assert_allclose(table[1], [-0.001 * (1 - 0.9) / np.sqrt(1 - 0.999)], rtol=1e-4)


@pytest.mark.parametrize(
    ("lazy", "keras"), [(LazyAdam, tf.keras.optimizers.Adam), (LazyAdagrad, tf.keras.optimizers.Adagrad)]
)
def test_a_dense_gradient_gets_the_ordinary_step(lazy, keras):
    rng = np.random.default_rng(4)
    left, right = tf.Variable(tf.ones([3, 2])), tf.Variable(tf.ones([3, 2]))
    optimizers = lazy(0.1), keras(0.1)
    for _ in range(3):
        gradient = tf.constant(rng.normal(size=(3, 2)).astype(np.float32))
        optimizers[0].apply_gradients([(gradient, left)])
        optimizers[1].apply_gradients([(gradient, right)])
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("cls", [LazyAdam, LazyAdagrad])
def test_empty_batch_and_configuration(cls):
    table, optimizer = tf.Variable(tf.ones([3, 2])), cls(0.125, epsilon=1e-3, clipnorm=1.0)
    optimizer.apply_gradients([(tf.IndexedSlices(tf.zeros([0, 2]), tf.zeros([0], tf.int64)), table)])
    np.testing.assert_array_equal(table, np.ones((3, 2)))
    again = tf.keras.optimizers.deserialize(tf.keras.optimizers.serialize(optimizer))
    assert type(again) is cls
    assert again.get_config() == optimizer.get_config()
    assert again.get_config()["learning_rate"] == 0.125
    with pytest.raises(ValueError, match=f"weight_decay of {cls.__name__} must be None, got 0.01"):
        cls(weight_decay=0.01)
