"""OptimizerGroups: who trains what, the clock, the learning rate, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.optimizers import GroupFtrl, LazyAdam, OptimizerGroups
from xdeepint_ext.utils.variables import optimizer_group, tag


def make_members():
    return {
        "embedding": GroupFtrl(alpha=0.1, beta=0.1, lambda1=0.01, lambda2=0.1),
        "interaction": tf.keras.optimizers.Ftrl(0.1),
        "default": tf.keras.optimizers.Adam(0.1),
    }


def make_variables():
    rng = np.random.default_rng(0)
    return {
        "embedding": tag(tf.Variable(rng.normal(size=(6, 4)).astype(np.float32), name="table"), "embedding"),
        "interaction": tag(tf.Variable(rng.normal(size=(4, 4)).astype(np.float32), name="kernel"), "interaction"),
        "default": tf.Variable(rng.normal(size=4).astype(np.float32), name="bias"),
    }


def make_gradients(step):
    rng = np.random.default_rng(step + 1)
    rows = tf.constant(rng.integers(0, 6, size=5))
    return {
        "embedding": tf.IndexedSlices(tf.constant(rng.normal(size=(5, 4)), tf.float32), rows, tf.constant([6, 4])),
        "interaction": tf.constant(rng.normal(size=(4, 4)), tf.float32),
        "default": tf.constant(rng.normal(size=4), tf.float32),
    }


def pairs(step, variables, groups=("default", "embedding", "interaction")):
    gradients = make_gradients(step)
    return [(gradients[group], variables[group]) for group in groups]


def train_alone(members, steps):
    """Each optimizer by itself on the variable of its group."""
    variables = make_variables()
    for step in range(steps):
        for group, member in members.items():
            member.apply_gradients(pairs(step, variables, [group]))
    return variables


def assert_same(left, right):
    for group in left:
        np.testing.assert_array_equal(left[group], right[group], err_msg=group)


def test_each_variable_is_trained_by_the_optimizer_of_its_group():
    variables, optimizer = make_variables(), OptimizerGroups(make_members())
    for step in range(3):
        optimizer.apply_gradients(pairs(step, variables))
    assert_same(variables, train_alone(make_members(), 3))


def test_in_a_graph():
    variables, optimizer = make_variables(), OptimizerGroups(make_members())
    apply = tf.function(lambda *gradients: optimizer.apply_gradients(zip(gradients, variables.values(), strict=True)))
    for step in range(3):
        apply(*make_gradients(step).values())
    alone = train_alone(make_members(), 3)
    for group, variable in variables.items():
        np.testing.assert_allclose(variable, alone[group], rtol=1e-5, atol=1e-7)
    assert optimizer.iterations == 3


def test_groups_without_an_optimizer_go_to_default():
    variables = make_variables()
    optimizer = OptimizerGroups({"default": tf.keras.optimizers.SGD(0.1)})
    before = {group: variable.numpy() for group, variable in variables.items()}
    optimizer.apply_gradients(pairs(0, variables))
    for group, gradient in make_gradients(0).items():
        expected = before[group] - 0.1 * tf.convert_to_tensor(gradient).numpy()
        np.testing.assert_allclose(variables[group], expected, rtol=1e-6, atol=1e-7)


def test_invented_groups():
    tower = tag(tf.Variable(1.0), "tower")
    optimizer = OptimizerGroups({"default": tf.keras.optimizers.SGD(0.5), "tower": tf.keras.optimizers.SGD(0.25)})
    rest = tf.Variable(1.0)
    optimizer.apply_gradients([(1.0, tower), (1.0, rest)])
    assert (tower.numpy(), rest.numpy()) == (0.75, 0.5)


def test_no_optimizer_for_a_variable():
    optimizer = OptimizerGroups({"embedding": GroupFtrl(), "tower": tf.keras.optimizers.SGD()})
    message = r"variable kernel:0 belongs to group 'interaction'.* the groups given are \['embedding', 'tower'\]"
    with pytest.raises(ValueError, match=message):
        optimizer.build(list(make_variables().values()))


def test_a_group_without_variables_is_reported():
    members = {"embeddings": GroupFtrl(), "default": tf.keras.optimizers.SGD()}
    with pytest.warns(UserWarning, match=r"groups \['embeddings'\]; the variables' are \['default', 'embedding'"):
        OptimizerGroups(members).build(list(make_variables().values()))


def test_minimize_leaves_out_variables_without_gradient(caplog):
    variables, optimizer = make_variables(), OptimizerGroups(make_members())
    before = variables["interaction"].numpy()
    optimizer.minimize(
        lambda: tf.reduce_sum(tf.gather(variables["embedding"], [1, 1]) * variables["default"]),
        list(variables.values()),
    )
    np.testing.assert_array_equal(variables["interaction"], before)
    assert "No gradients for the variables ['kernel:0']" in caplog.text
    np.testing.assert_array_equal(variables["embedding"].numpy()[[0, 2, 3, 4, 5]], np.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"no gradient was given for any of the variables \['bias:0'\]"):
        optimizer.apply_gradients([(None, variables["default"])])


def test_one_clock_for_all():
    """A member that had nothing to do in a step still knows the step, as bias corrections and schedules need."""
    variables, optimizer = make_variables(), OptimizerGroups(make_members())
    optimizer.build(list(variables.values()))
    optimizer.apply_gradients(pairs(0, variables, ["embedding"]))
    optimizer.apply_gradients(pairs(1, variables))
    assert optimizer.iterations == 2
    assert [member.iterations.numpy() for member in optimizer.optimizers.values()] == [2, 2, 2]
    alone, adam = make_variables(), make_members()["default"]
    adam.iterations.assign(1)
    adam.apply_gradients(pairs(1, alone, ["default"]))
    np.testing.assert_array_equal(variables["default"], alone["default"])


def test_learning_rate_is_that_of_default_or_of_the_first():
    members = make_members()
    optimizer = OptimizerGroups(members)
    optimizer.learning_rate = 0.5
    assert [float(member.learning_rate) for member in members.values()] == pytest.approx([0.1, 0.1, 0.5])
    assert float(optimizer.learning_rate) == 0.5
    del members["default"]
    optimizer = OptimizerGroups(
        {group: type(member).from_config(member.get_config()) for group, member in members.items()}
    )
    optimizer.lr = 0.25
    assert float(optimizer.optimizers["embedding"].learning_rate) == 0.25


def test_schedules_of_members_follow_the_clock():
    schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.25])
    variable = tf.Variable(1.0)
    optimizer = OptimizerGroups({"default": tf.keras.optimizers.SGD(schedule)})
    for rate, expected in ((0.5, 0.5), (0.25, 0.25)):
        optimizer.apply_gradients([(1.0, variable)])
        assert optimizer.learning_rate == rate
        assert variable == expected


def test_clipping_and_constraints_are_each_members_own():
    def members():
        return {
            "embedding": tf.keras.optimizers.SGD(0.1, global_clipnorm=0.5),
            "interaction": tf.keras.optimizers.SGD(0.1, clipnorm=0.25),
            "default": tf.keras.optimizers.SGD(0.1),
        }

    variables, optimizer = make_variables(), OptimizerGroups(members())
    optimizer.apply_gradients(pairs(0, variables))
    assert_same(variables, train_alone(members(), 1))

    positive = tf.Variable(0.05, constraint=tf.keras.constraints.NonNeg())
    OptimizerGroups({"default": members()["default"]}).apply_gradients([(10.0, positive)])
    assert positive == 0.0


def test_moving_averages_are_put_in_place_at_the_end():
    averaged, plain = tag(tf.Variable(0.0), "averaged"), tf.Variable(0.0)
    optimizer = OptimizerGroups(
        {
            "averaged": tf.keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5),
            "default": tf.keras.optimizers.SGD(1.0),
        }
    )
    for _ in range(2):
        optimizer.apply_gradients([(-1.0, averaged), (-1.0, plain)])
    optimizer.finalize_variable_values([averaged, plain])
    assert plain == 2.0
    assert averaged == 0.5 * (0.5 * 0.0 + 0.5 * 1.0) + 0.5 * 2.0


def test_weight_decay_exclusion_reaches_the_members():
    spared, decayed = tf.Variable(1.0, name="bias"), tf.Variable(1.0, name="kernel")
    optimizer = OptimizerGroups({"default": tf.keras.optimizers.AdamW(0.1, weight_decay=0.5)})
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply_gradients([(0.0, spared), (0.0, decayed)])
    assert spared == 1.0
    assert float(decayed) == pytest.approx(1 - 0.1 * 0.5)


def test_a_variable_that_build_did_not_see():
    variables, optimizer = make_variables(), OptimizerGroups(make_members())
    optimizer.build(list(variables.values()))
    with pytest.raises(KeyError, match="does not know variable late:0: call build with all trainable variables"):
        optimizer.apply_gradients([(1.0, tf.Variable(1.0, name="late"))])


def test_shards_and_wrappers_of_a_table():
    """A sharded table is trained as the whole one is; its shards carry the table's tag."""
    whole = make_variables()["embedding"]
    shards = tag(
        tf.__internal__.distribute.ShardedVariable(
            [tf.Variable(whole[:4], name="table/part_0"), tf.Variable(whole[4:], name="table/part_1")]
        ),
        "embedding",
    )
    assert [optimizer_group(shard) for shard in shards.variables] == ["embedding"] * 2
    alone = make_members()["embedding"]
    optimizer = OptimizerGroups({"embedding": make_members()["embedding"]})
    for step in range(2):
        gradient = make_gradients(step)["embedding"]
        alone.apply_gradients([(gradient, whole)])
        parts = tf.dynamic_partition(gradient.values, tf.cast(gradient.indices >= 4, tf.int32), 2)
        rows = tf.dynamic_partition(gradient.indices, tf.cast(gradient.indices >= 4, tf.int32), 2)
        slices = [tf.IndexedSlices(part, row - first) for part, row, first in zip(parts, rows, (0, 4), strict=True)]
        optimizer.apply_gradients(zip(slices, shards.variables, strict=True))
    np.testing.assert_array_equal(tf.concat(shards.variables, 0), whole)


def test_configuration_round_trip():
    optimizer = OptimizerGroups({**make_members(), "tower": "sgd"}, name="ours")
    again = tf.keras.optimizers.deserialize(tf.keras.optimizers.serialize(optimizer))
    assert isinstance(again, OptimizerGroups)
    assert again.get_config() == optimizer.get_config()
    kinds = [GroupFtrl, tf.keras.optimizers.Ftrl, tf.keras.optimizers.Adam, tf.keras.optimizers.SGD]
    assert [type(member) for member in again.optimizers.values()] == kinds


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        (lambda: {}, ValueError, "at least one group"),
        (lambda: dict.fromkeys(["a", "b"], LazyAdam()), ValueError, r"one object twice among \['a', 'b'\]"),
        (lambda: {"a": tf.keras.optimizers.legacy.Adam()}, TypeError, r"optimizers\['a'\] must be .*legacy.*Adam"),
        (lambda: {"a/b": LazyAdam()}, ValueError, "must not contain '/'.* got 'a/b'"),
        (lambda: {3: LazyAdam()}, TypeError, "must be group names, got 3 of type int"),
        (
            lambda: {"a": OptimizerGroups({"b": LazyAdam()})},
            ValueError,
            "must be a plain optimizer, got a OptimizerGroups",
        ),
        (
            lambda: {"a": tf.keras.mixed_precision.LossScaleOptimizer(LazyAdam())},
            ValueError,
            "wrap the OptimizerGroups itself",
        ),
    ],
)
def test_members_that_are_refused(members, error, message):
    with pytest.raises(error, match=message):
        OptimizerGroups(members())
