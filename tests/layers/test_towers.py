"""The layers of towers against loops and the specification's cases, and the parts that can be kept."""

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import tower_reference as reference
from xdeepint_ext.layers import GatedCrossAttention, LightSE, MaxSim, MultiHeadGate, score_all_pairs
from xdeepint_ext.utils.variables import optimizer_group

USERS, ITEMS, USER_HEADS, ITEM_HEADS, WIDTH = 3, 5, 2, 4, 3


def randomised(layer, *shapes, seed=0):
    """Builds a layer and gives all its weights and inputs random values."""
    rng = np.random.default_rng(seed)
    inputs = tuple(rng.normal(size=shape) for shape in shapes)
    inputs = inputs if len(inputs) > 1 else inputs[0]
    layer(tf.nest.map_structure(lambda x: tf.constant(x, layer.compute_dtype), inputs))
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer, inputs


def heads():
    return (USERS, USER_HEADS, WIDTH), (USERS, ITEMS, ITEM_HEADS, WIDTH)


# -- Light-SE ----------------------------------------------------------------------------------------------------------


def test_light_se_has_the_specification_s_numbers():  # §6.2
    layer = LightSE(kernel_initializer="identity", dtype="float64")
    found = layer(tf.constant([[[1.0, 3.0], [2.0, 0.0]]], tf.float64))
    np.testing.assert_allclose(found[0], [[1.7310585786, 5.1931757359], [2.5378828427, 0.0]], atol=5e-11)


def test_light_se_equals_loops():
    layer, x = randomised(LightSE(dtype="float64"), (2, 4, 3))
    expected = [reference.light_se(example, layer.kernel.numpy()) for example in x]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12)


# -- multi-head gate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate_input", ["hidden", "input"])
@pytest.mark.parametrize("units", [(5, 4), ()])
def test_multi_head_gate_equals_loops(units, gate_input):
    layer, x = randomised(MultiHeadGate(2, 3, units, gate_input, dtype="float64"), (3, 2, 4))
    weights = [w.numpy() for w in layer.mlp.weights] if units else []
    mlp = list(zip(weights[::2], weights[1::2], strict=True))
    value, gate = ([w.numpy() for w in dense.weights] for dense in (layer.value, layer.gate))
    expected = [reference.multi_head_gate(row.ravel(), mlp, value, gate, 2, gate_input) for row in x]
    found = layer(x)
    assert found.shape == layer.compute_output_shape(x.shape) == (3, 2, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


# -- gated cross-attention ---------------------------------------------------------------------------------------------


def side_weights(layer):
    user = (layer.user_kernels.numpy(), layer.user_bias.numpy())
    return user, (layer.item_kernels.numpy(), layer.item_bias.numpy())


@pytest.mark.parametrize(("residual", "item_heads"), [(True, ITEM_HEADS), (False, ITEM_HEADS), (True, 9)])
def test_attention_equals_loops(residual, item_heads):
    shapes = (USERS, USER_HEADS, WIDTH), (USERS, ITEMS, item_heads, WIDTH)
    layer, (user, items) = randomised(GatedCrossAttention(WIDTH, residual, dtype="float64"), *shapes)
    of_user, of_items = side_weights(layer)
    by_user, by_items = layer((user, items))
    assert (by_user.shape, by_items.shape) == layer.compute_output_shape((user.shape, items.shape))
    for u in range(USERS):
        for n in range(ITEMS):
            pair = user[u], items[u, n]
            expected = reference.attended(*pair, of_user, of_items, residual)
            np.testing.assert_allclose(by_user[u, n], expected, rtol=1e-10, atol=1e-12)
            expected = reference.attended(*pair[::-1], of_items, of_user, residual)
            np.testing.assert_allclose(by_items[u, n], expected, rtol=1e-10, atol=1e-12)


def test_attention_without_residual_takes_heads_of_any_width():
    layer, inputs = randomised(GatedCrossAttention(6, residual=False), (2, 3, 5), (2, 4, 1, 7))
    assert [x.shape for x in layer(inputs)] == [(2, 4, 3, 6), (2, 4, 1, 6)]


def test_kept_projections_give_what_the_joint_call_gives():  # §6.2: equal to 1e-6
    layer, (user, items) = randomised(GatedCrossAttention(WIDTH), *heads())
    of_items = layer.project_items(items.reshape(-1, ITEM_HEADS, WIDTH))
    assert layer.packed_width == of_items.shape[-1] == 5 * WIDTH
    kept = tf.reshape(of_items, (USERS, ITEMS, ITEM_HEADS, -1))
    for found, expected in zip(layer.attend(layer.project_user(user), kept), layer((user, items)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_closed_gates_leave_the_heads_as_they_are():  # §6.2: G = 0 with residual
    layer, (user, items) = randomised(GatedCrossAttention(WIDTH, dtype="float64"), *heads())
    score = MaxSim(dtype="float64")
    scores = []
    for seed in (1, 2):  # whatever W_Q, W_K, W_V and W_G are
        rng = np.random.default_rng(seed)
        layer.set_weights([rng.normal(size=w.shape) if w.ndim == 3 else w * 0 - 1e6 for w in layer.get_weights()])
        by_user, by_items = layer((user, items))
        np.testing.assert_array_equal(by_user, np.repeat(user[:, np.newaxis], ITEMS, axis=1))
        np.testing.assert_array_equal(by_items, items)
        scores.append(score((by_user, by_items)))
    np.testing.assert_array_equal(*scores)


def test_permuted_items_permute_what_attention_gives():
    layer, (user, items) = randomised(GatedCrossAttention(WIDTH, dtype="float64"), *heads())
    order = [3, 0, 4, 1, 2]
    for found, expected in zip(layer((user, items[:, order])), layer((user, items)), strict=True):
        np.testing.assert_allclose(found, expected.numpy()[:, order], rtol=1e-12)


def test_the_gradient_of_attention_is_that_of_differences():
    layer, inputs = randomised(GatedCrossAttention(WIDTH, dtype="float64"), *heads())
    weigh = [tf.constant(np.random.default_rng(i).normal(size=y.shape)) for i, y in enumerate(layer(inputs))]

    def scalar(*pair):
        return tf.add_n([tf.reduce_sum(w * y) for w, y in zip(weigh, layer(pair), strict=True)])

    for theory, numeric in zip(*tf.test.compute_gradient(scalar, list(inputs), delta=1e-5), strict=True):
        np.testing.assert_allclose(theory, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("policy", "expected"), [("mixed_float16", tf.float32), ("float64", tf.float64)])
def test_softmax_is_taken_in_single_precision_at_least(policy, expected):
    for layer, shapes in [(GatedCrossAttention(3, dtype=policy), heads()), (LightSE(dtype=policy), [(2, 4, 3)])]:
        specs = tuple(tf.TensorSpec(shape, layer.compute_dtype) for shape in shapes)
        specs = specs if len(specs) > 1 else specs[0]
        graph = tf.function(lambda x, layer=layer: layer(x)).get_concrete_function(specs).graph
        assert {op.outputs[0].dtype for op in graph.get_operations() if op.type == "Softmax"} == {expected}
        assert all(x.dtype == layer.compute_dtype for x in graph.outputs)


def test_projections_are_made_in_half_precision_outside_a_call():
    layer, (user, items) = randomised(GatedCrossAttention(WIDTH, dtype="mixed_float16"), *heads())
    kept = layer.project_user(user.astype(np.float32)), layer.project_items(items.astype(np.float32))
    assert {x.dtype for x in kept} == {tf.float16}
    for found, expected in zip(layer.attend(*kept), layer((user, items)), strict=True):
        np.testing.assert_array_equal(found, expected)


# -- MaxSim ------------------------------------------------------------------------------------------------------------

U, I = [[1.0, 0.0], [0.6, 0.8]], [[0.0, 2.0], [3.0, 4.0], [-1.0, 0.0]]


def test_maxsim_has_the_specification_s_numbers():  # §6.2
    u, i = tf.constant(U, tf.float64), tf.constant(I, tf.float64)
    np.testing.assert_allclose([[reference.cosine(p, q) for q in I] for p in U], [[0, 0.6, -1], [0.8, 1, -0.6]])
    np.testing.assert_allclose(MaxSim(dtype="float64")((u, i)), 1.6)
    np.testing.assert_allclose(MaxSim(temperature=0.1, dtype="float64")((u, i)), 16.0)


def test_maxsim_equals_loops_and_broadcasts():
    layer, (user, items) = randomised(MaxSim(dtype="float64"), (USERS, 1, 2, WIDTH), (USERS, ITEMS, 4, WIDTH))
    found = layer((user, items))
    assert found.shape == layer.compute_output_shape((user.shape, items.shape)) == (USERS, ITEMS)
    tau = np.exp(layer.get_weights()[0])
    expected = [[reference.max_sim(user[u, 0], items[u, n], tau) for n in range(ITEMS)] for u in range(USERS)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_maxsim_does_not_care_for_lengths_and_orders_of_heads():
    layer, (user, item) = randomised(MaxSim(dtype="float64"), (3, 2, WIDTH), (3, 4, WIDTH))
    expected = layer((user, item))
    scales = np.exp(np.random.default_rng(1).normal(size=(2, 3, 4, 1)))
    np.testing.assert_allclose(layer((user * scales[0][:, :2], item * scales[1])), expected, rtol=1e-12)
    np.testing.assert_allclose(layer((user[:, ::-1], item[:, [2, 0, 3, 1]])), expected, rtol=1e-12)


def test_maxsim_is_bounded_and_never_falls_with_a_further_item_head():
    user, item = np.random.default_rng(0).normal(size=(2, 200, 4, 2))
    layer = MaxSim(temperature=0.2, dtype="float64")
    fewer, more = layer((user, item[:, :3])), layer((user, item))
    assert np.all(np.abs(more) <= 4 / 0.2 * (1 + 1e-12)) and np.all(more >= fewer) and np.any(more > fewer)
    same = layer((user, user))
    np.testing.assert_allclose(same, np.full(200, 4 / 0.2), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_heads_of_zeros_score_0_with_a_finite_gradient(dtype):
    layer = MaxSim(dtype=dtype)
    user, item = tf.zeros((1, 2, 3)), tf.ones((1, 2, 3))
    with tf.GradientTape() as tape:
        tape.watch([user, item])
        score = layer((user, item))
    assert float(score[0]) == 0.0
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(score, [user, item]))


def test_a_head_shorter_than_the_least_length_is_divided_by_it():
    score = MaxSim(dtype="float64")((tf.constant([[1e-9, 0.0]], tf.float64), tf.constant([[3.0, 4.0]], tf.float64)))
    np.testing.assert_allclose(score, 0.1 * 0.6)


def test_half_precision_is_scored_in_single_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        score = MaxSim()((tf.ones((1, 2, 3), tf.float16), tf.ones((1, 2, 3), tf.float16)))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert score.dtype == tf.float32


@pytest.mark.parametrize(("start", "bound", "sign"), [(0.02, 0.01, 1.0), (9.0, 10.0, -1.0)])
def test_the_temperature_stays_in_its_range_and_comes_back(start, bound, sign):
    layer, optimizer = MaxSim(start), tf.keras.optimizers.SGD(10.0)
    pair = tf.constant(U), tf.constant(I)
    for direction, expected in ((-sign, bound), (sign, None)):
        with tf.GradientTape() as tape:
            loss = direction * layer(pair)
        optimizer.minimize(loss, layer.trainable_weights, tape)
        if expected:
            np.testing.assert_allclose(layer.scale.value, bound, rtol=1e-6)
    assert abs(float(layer.scale.value) - bound) > 1e-3


def test_a_fixed_temperature_is_not_trained():
    layer = MaxSim(0.5, learnable=False)
    np.testing.assert_allclose(layer((tf.constant(U), tf.constant(I))), 1.6 / 0.5, rtol=1e-6)
    assert not layer.trainable_weights


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(("users_at_once", "items_at_once"), [(1, 1), (2, 3), (3, 7), (50, 50)])
def test_all_pairs_equal_loops(users_at_once, items_at_once, jit):
    layer, rng = MaxSim(0.5), np.random.default_rng(0)
    users, items = (np.float32(rng.normal(size=shape)) for shape in ((3, 2, WIDTH), (7, 4, WIDTH)))
    compiled = tf.function(lambda u, i: layer.all_pairs(u, i, users_at_once, items_at_once), jit_compile=jit)
    expected = [[reference.max_sim(user, item, 0.5) for item in items] for user in users]
    np.testing.assert_allclose(compiled(tf.constant(users), tf.constant(items)), expected, rtol=1e-5, atol=1e-6)


def test_all_pairs_of_sizes_that_a_graph_does_not_know():
    dot = lambda users, items: tf.matmul(users, items, transpose_b=True)  # noqa: E731
    spec = tf.TensorSpec((None, 2))
    graph = tf.function(lambda u, i: score_all_pairs(dot, u, i, 2, 3), [spec, spec])
    for users, items in [(5, 8), (4, 6), (1, 1), (0, 4), (3, 0)]:
        u, i = (tf.constant(np.random.default_rng(n).normal(size=(n, 2)), tf.float32) for n in (users, items))
        np.testing.assert_allclose(graph(u, i), dot(u, i), rtol=1e-6)


def test_no_more_users_and_items_meet_than_were_asked_for():
    met = []

    def score(users, items):
        met.append((users.shape[0], items.shape[0]))
        return tf.matmul(users, items, transpose_b=True)

    score_all_pairs(score, tf.ones((5, 2)), tf.ones((8, 2)), users_at_once=2, items_at_once=3)
    assert set(met[1:]) == {(2, 3)} and len(met[1:]) == 3 * 3  # the first call is of nothing, to know the dtype


# -- all ---------------------------------------------------------------------------------------------------------------


def test_weights_are_left_to_the_default_optimizer():
    layers = [
        randomised(MultiHeadGate(2, 3), (2, 4))[0],
        randomised(GatedCrossAttention(WIDTH), *heads())[0],
        randomised(MaxSim(), (2, 3), (4, 3))[0],
        randomised(LightSE(), (1, 2, 3))[0],
    ]
    assert all(layer.weights for layer in layers)
    assert {optimizer_group(weight) for layer in layers for weight in layer.weights} == {"default"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiHeadGate(0, 3), "MultiHeadGate: num_heads must be >= 1, got 0"),
        (lambda: MultiHeadGate(2, 0), "MultiHeadGate: head_dim must be >= 1, got 0"),
        (lambda: MultiHeadGate(2, 3, gate_input="x"), "MultiHeadGate: gate_input must be one of .*, got 'x'"),
        (lambda: GatedCrossAttention(0), "GatedCrossAttention: head_dim must be >= 1, got 0"),
        (lambda: randomised(GatedCrossAttention(3), (2, 3), (2, 4, 3)), "GatedCrossAttention: inputs must be"),
        (
            lambda: randomised(GatedCrossAttention(3), (2, 2, 3), (2, 5, 4, 2)),
            "GatedCrossAttention: heads of items must have head_dim, 3, columns, got .*2, 5, 4, 2",
        ),
        (
            lambda: randomised(GatedCrossAttention(3), *heads())[0].attend(tf.ones((1, 2, 3)), tf.ones((1, 1, 2, 3))),
            "projections must have 15 columns, got shape .*1, 2, 3",
        ),
        (lambda: MaxSim(0.0), r"temperature must be in \[0.01, 10.0\] at the start, got 0.0"),
        (lambda: MaxSim()((tf.ones((2, 3)), tf.ones((2, 4)))), "MaxSim: inputs must be .* one static d"),
        (lambda: LightSE()(tf.ones((2, 3))), r"LightSE: inputs must have shape .* got \(2, 3\)"),
        (
            lambda: score_all_pairs(tf.matmul, tf.ones((2, 2)), tf.ones((2, 2)), items_at_once=0),
            "score_all_pairs: items_at_once must be >= 1, got 0",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
