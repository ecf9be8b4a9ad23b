import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from tests.optimizers import reference
from tests.optimizers.batches import draw, trainings
from xdeepint_ext.optimizers import GroupFtrl

CONSTANTS = {"alpha": 0.1, "beta": 1.0, "lambda1": 0.5, "lambda2": 0.25}
NO_PENALTY = {"alpha": 0.1, "beta": 1.0, "lambda1": 0.0, "lambda2": 0.0}


def state(optimizer):
    """n and z of the only variable."""
    return np.split(optimizer.variables[1].numpy(), 2, axis=-1)


def test_worked_example():
    """G1 of the specification, printed to eight digits."""
    table = tf.Variable([[0.3, -0.4], [0.1, 0.2], [0.5, 0.5]], dtype=tf.float64)
    gradients = [[[1, -2], [0, 0], [0.2, 0.1]], [[0.5, 0.5], [0, 0], [3, 0]], [[-1, 0], [2, 2], [0, 0]]]
    expected = [
        [[0.08772313, -0.17617123], [0, 0], [0.0136771, 0.00744642]],
        [[0.06704522, -0.19184095], [0, 0], [-0.02791839, 0.0220361]],
    ]
    optimizer = GroupFtrl(**CONSTANTS)
    for gradient, after in zip(gradients[:2], expected, strict=True):
        optimizer.apply_gradients([(tf.constant(gradient, tf.float64), table)])
        np.testing.assert_allclose(table, after, atol=5e-9)
    optimizer.apply_gradients([(tf.constant(gradients[2], tf.float64), table)])
    assert np.all(table[1].numpy() < 0)  # a row at zero comes back when its gradient is large enough


@pytest.mark.parametrize(
    "constants", [CONSTANTS, NO_PENALTY, {**CONSTANTS, "beta": 0.0}, {**CONSTANTS, "lambda2": 0.0}]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_equals_the_formula_in_float64(constants, sparse):
    training = draw(seed=1, rows=6, width=4, lookups=[9, 9, 9, 9], dtype=np.float64)
    table, optimizer = tf.Variable(training.table), GroupFtrl(**constants)
    w, n, z = training.table, np.zeros((6, 4)), np.zeros((6, 4))
    for step in training.steps:
        gradient = training.sparse(step) if sparse else training.dense(step)
        optimizer.apply_gradients([(gradient, table)])
        w, n, z = reference.group_ftrl(w, n, z, training.dense(step).numpy(), **constants)
        np.testing.assert_allclose(table, w, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(state(optimizer)[0], n, rtol=1e-12)
    np.testing.assert_allclose(state(optimizer)[1], z, rtol=1e-12, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(trainings)
def test_sparse_equals_dense_bit_for_bit(training):
    tables = {kind: tf.Variable(training.table) for kind in ("sparse", "dense")}
    optimizers = {kind: GroupFtrl(alpha=0.1, beta=0.1, lambda1=0.3, lambda2=0.2) for kind in tables}
    for step in training.steps:
        optimizers["sparse"].apply_gradients([(training.sparse(step), tables["sparse"])])
        optimizers["dense"].apply_gradients([(training.dense(step), tables["dense"])])
        np.testing.assert_array_equal(tables["sparse"], tables["dense"])
    for left, right in zip(state(optimizers["sparse"]), state(optimizers["dense"]), strict=True):
        np.testing.assert_array_equal(left, right)


def test_sparse_equals_dense_in_a_graph():
    training = draw(seed=2, rows=40, width=16, lookups=[60, 60, 60])
    sparse, dense = tf.Variable(training.table), tf.Variable(training.table)
    optimizers = [GroupFtrl(alpha=0.1, beta=0.1, lambda1=0.3, lambda2=0.2) for _ in range(2)]
    steps = [tf.function(optimizer.apply_gradients) for optimizer in optimizers]
    for step in training.steps:
        steps[0]([(training.sparse(step), sparse)])
        steps[1]([(training.dense(step), dense)])
        np.testing.assert_allclose(sparse, dense, rtol=1e-6, atol=1e-9)


def test_one_column_is_scalar_ftrl():
    """G2: at K = 1 the shrinkage is the soft threshold (sign(z) lambda1 - z); TensorFlow's l2 counts twice."""
    rng = np.random.default_rng(3)
    w0, gradients = rng.normal(size=(5, 1)), rng.normal(size=(4, 5, 1))
    table, optimizer = tf.Variable(w0), GroupFtrl(alpha=0.1, beta=0.0, lambda1=0.5, lambda2=0.25)
    w, n, z = w0[:, 0], np.zeros(5), np.zeros(5)
    for g in gradients:
        optimizer.apply_gradients([(tf.constant(g), table)])
        w, n, z = reference.ftrl(w, n, z, g[:, 0], learning_rate=0.1, l1=0.5, l2=0.25 / 2)
        np.testing.assert_allclose(table[:, 0], w, rtol=1e-12)


def test_without_penalty_from_zero_is_adagrad():
    """G3: the step is alpha / (beta + sqrt(n)) times the gradient when all gradients of an entry are equal in sign."""
    rng = np.random.default_rng(4)
    gradients = rng.normal(size=(5, 3, 2))
    table, optimizer = tf.Variable(np.zeros((3, 2))), GroupFtrl(**NO_PENALTY)
    w, n = np.zeros((3, 2)), np.zeros((3, 2))
    for g in gradients:
        optimizer.apply_gradients([(tf.constant(g), table)])
        # FTRL keeps w (beta + sqrt(n)) / alpha = -z, so w_new (beta + root) = w (beta + root) - alpha g.
        n += g**2
        w = w - NO_PENALTY["alpha"] * g / (NO_PENALTY["beta"] + np.sqrt(n))
        np.testing.assert_allclose(table, w, rtol=1e-10, atol=1e-14)


def test_first_step_zeroes_all_other_rows_and_no_later_step_does():
    """G5 and X7."""
    training = draw(seed=5, rows=8, width=4, lookups=[3, 3])
    table, optimizer = tf.Variable(training.table), GroupFtrl(**CONSTANTS)
    optimizer.apply_gradients([(training.sparse(0), table)])
    untouched = sorted(set(range(8)) - set(training.ids[0]))
    np.testing.assert_array_equal(table.numpy()[untouched], np.zeros((len(untouched), 4)))
    # Values that no step would produce, in the rows outside the second batch: a pass over the table would change them.
    outside = sorted(set(range(8)) - set(training.ids[1]))
    variables = [table, optimizer.variables[1]]
    for variable in variables:
        variable.scatter_update(tf.IndexedSlices(tf.fill([len(outside), variable.shape[1]], 7.0), outside))
    step = tf.function(optimizer.apply_gradients)
    for _ in range(3):
        step([(training.sparse(1), table)])
    for variable in variables:
        np.testing.assert_array_equal(variable.numpy()[outside], np.full((len(outside), variable.shape[1]), 7.0))


@pytest.mark.parametrize("graph", [False, True])
def test_empty_and_zero_gradients(graph):
    table = tf.Variable(draw(seed=6, rows=4, width=3, lookups=[]).table)
    optimizer = GroupFtrl(**CONSTANTS)
    step = tf.function(optimizer.apply_gradients) if graph else optimizer.apply_gradients
    empty = tf.IndexedSlices(tf.zeros([0, 3]), tf.zeros([0], tf.int64), tf.constant([4, 3]))
    zero = tf.IndexedSlices(tf.zeros([2, 3]), tf.constant([1, 1], tf.int64), tf.constant([4, 3]))
    for gradient in (empty, zero, tf.zeros([4, 3]), empty):
        step([(gradient, table)])
        np.testing.assert_array_equal(table, np.zeros((4, 3)))  # as the dense step with gradient 0 does


def test_finite_where_the_formula_is_zero_over_zero():
    table = tf.Variable([[1.0, 1.0], [1.0, 1.0]])
    optimizer = GroupFtrl(alpha=0.1, beta=0.0, lambda1=0.0, lambda2=0.0)
    for gradient in ([[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, -3.0]], [[1e-30, 0.0], [1e10, 0.0]]):
        optimizer.apply_gradients([(tf.constant(gradient), table)])
        assert np.all(np.isfinite(table)), table.numpy()
    assert np.all(np.isfinite(state(optimizer)))


def test_not_a_number_is_not_hidden_and_stays_in_its_row():
    table, optimizer = tf.Variable(tf.ones([3, 2])), GroupFtrl(**CONSTANTS)
    optimizer.apply_gradients([(tf.constant([[np.nan, 1.0], [5.0, 5.0], [0.0, 0.0]], tf.float32), table)])
    assert np.all(np.isnan(table[0]))
    assert np.all(np.isfinite(table[1:]))


def test_groups_of_other_ranks():
    """The last axis is the group of a tensor; entries of a vector and a scalar stand alone."""
    rng = np.random.default_rng(7)
    gradient = rng.normal(size=(2, 3, 4))

    def after(shape):
        variable = tf.Variable(rng_table.reshape(shape))
        GroupFtrl(**CONSTANTS).apply_gradients([(tf.constant(gradient.reshape(shape)), variable)])
        return variable.numpy().reshape(2, 3, 4)

    rng_table = rng.normal(size=(2, 3, 4))
    np.testing.assert_array_equal(after((2, 3, 4)), after((6, 4)))
    np.testing.assert_array_equal(after((24,)), after((24, 1)))
    scalar = tf.Variable(rng_table[0, 0, 0])
    GroupFtrl(**CONSTANTS).apply_gradients([(tf.constant(gradient[0, 0, 0]), scalar)])
    assert scalar.numpy() == after((24,))[0, 0, 0]


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_sparse_gradients_of_other_ranks(shape):
    rng = np.random.default_rng(8)
    w0 = rng.normal(size=shape).astype(np.float32)
    ids, values = np.array([4, 1, 4]), rng.normal(size=(3, *shape[1:])).astype(np.float32)
    sparse, dense = tf.Variable(w0), tf.Variable(w0)
    GroupFtrl(**CONSTANTS).apply_gradients([(tf.IndexedSlices(tf.constant(values), tf.constant(ids)), sparse)])
    gradient = tf.constant(reference.sum_in_batch_order(ids, values, 5))
    GroupFtrl(**CONSTANTS).apply_gradients([(gradient, dense)])
    np.testing.assert_array_equal(sparse, dense)


def test_preserve_initial_keeps_untouched_rows_and_starts_from_the_initial_ones():
    """X6: z = -w0 (beta + sqrt(n0)) / alpha."""
    training = draw(seed=9, rows=6, width=4, lookups=[4], dtype=np.float64)
    table, optimizer = tf.Variable(training.table), GroupFtrl(**NO_PENALTY, preserve_initial=True)
    optimizer.apply_gradients([(training.sparse(0), table)])
    g = training.dense(0).numpy()
    # At lambda = 0 the formula with that z is w = w0 - alpha g / (beta + sqrt(n)), which leaves g = 0 alone.
    expected = training.table - NO_PENALTY["alpha"] * g / (NO_PENALTY["beta"] + np.sqrt(g**2))
    np.testing.assert_allclose(table, expected, rtol=1e-12)
    untouched = sorted(set(range(6)) - training.touched)
    np.testing.assert_array_equal(table.numpy()[untouched], training.table[untouched])


def test_clipping_uses_the_norm_of_the_summed_gradient():
    ids, values = [1, 0, 1], np.array([[3.0], [1.0], [-3.0]], np.float32)
    sparse, dense = tf.Variable([[1.0], [1.0]]), tf.Variable([[1.0], [1.0]])
    for clip in ({"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.5}):
        GroupFtrl(**NO_PENALTY, **clip).apply_gradients([(tf.IndexedSlices(values, ids), sparse)])
        GroupFtrl(**NO_PENALTY, **clip).apply_gradients([(tf.constant([[1.0], [0.0]]), dense)])
        np.testing.assert_allclose(sparse, dense, rtol=1e-6)


def test_alpha_is_the_learning_rate():
    table, optimizer = tf.Variable([[1.0]]), GroupFtrl(**NO_PENALTY)
    optimizer.learning_rate = 0.5
    optimizer.apply_gradients([(tf.constant([[1.0]]), table)])
    w, _, _ = reference.group_ftrl(
        np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), **{**NO_PENALTY, "alpha": 0.5}
    )
    np.testing.assert_allclose(table, w, rtol=1e-6)


def test_alpha_may_follow_a_schedule():
    schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.25])
    table, optimizer = tf.Variable([[1.0, 2.0]], dtype=tf.float64), GroupFtrl(**{**NO_PENALTY, "alpha": schedule})
    w, n, z = table.numpy(), np.zeros((1, 2)), np.zeros((1, 2))
    for alpha in (0.5, 0.25):
        optimizer.apply_gradients([(tf.constant([[1.0, -1.0]], tf.float64), table)])
        w, n, z = reference.group_ftrl(w, n, z, np.array([[1.0, -1.0]]), **{**NO_PENALTY, "alpha": alpha})
        np.testing.assert_allclose(table, w, rtol=1e-12)
    restored = GroupFtrl.from_config(optimizer.get_config())
    assert restored._learning_rate.get_config() == schedule.get_config()


def test_configuration_round_trip():
    optimizer = GroupFtrl(0.03, 0.1, 0.2, 0.3, preserve_initial=True, clipnorm=2.0, name="ours")
    config = optimizer.get_config()
    expected = {"alpha": 0.03, "beta": 0.1, "lambda1": 0.2, "lambda2": 0.3, "preserve_initial": True, "clipnorm": 2.0}
    assert expected.items() <= config.items()
    again = tf.keras.optimizers.deserialize(tf.keras.optimizers.serialize(optimizer))
    assert isinstance(again, GroupFtrl)
    assert again.get_config() == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha must be positive, got 0.0"),
        ({"lambda1": -1.0}, "lambda1 must not be negative, got -1.0"),
        ({"beta": float("nan")}, "beta must not be negative, got nan"),
        ({"beta": 0.0, "preserve_initial": True}, "preserve_initial=True needs beta > 0"),
        ({"weight_decay": 0.1}, "weight_decay of GroupFtrl must be None, got 0.1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupFtrl(**arguments)
