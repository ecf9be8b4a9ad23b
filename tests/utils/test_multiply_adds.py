"""Counts of multiply-adds against formulas by hand."""

import pytest
import tensorflow as tf

from xdeepint_ext.layers import PIN, DynamicWeightedPIN, FieldLinearHead
from xdeepint_ext.models.baselines.parts import pairwise_products
from xdeepint_ext.utils.multiply_adds import multiply_adds

B, F, K, N, M = 4, 5, 6, 7, 3
MATRIX = tf.TensorSpec((B, F, K))
VECTOR = tf.TensorSpec((B, N))
WEIGHTS = tf.Variable(tf.ones((N, M)))


def built(layer, *shape):
    layer.build((None, *shape))
    return layer


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_a_dense_layer_multiplies_once_a_weight(batch):
    assert multiply_adds(built(tf.keras.layers.Dense(M), N), tf.TensorSpec((batch, N))) == N * M


@pytest.mark.parametrize("subspaces", [1, 2, 3])
def test_a_pin_layer_makes_a_product_and_a_hadamard_product_a_column(subspaces):
    pin = built(PIN(2, subspaces), F, K)
    m, s = F * subspaces, K // subspaces
    assert multiply_adds(pin, MATRIX) == 2 * (m * m * s + m * s)


def test_a_dynamic_layer_adds_its_generator():
    rank, ratio = 2, 3
    layer = built(DynamicWeightedPIN(1, rank=rank, reduction_ratio=ratio), F, K)
    hidden = F * K // ratio
    generator = F * K * hidden + hidden * 2 * rank * F
    # For each of the pairs: v times X_0, W times that, u times that; then X_{l-1} times the sum.
    products = rank * (F * K + F * F * K + F * K) + F * K
    assert multiply_adds(layer, MATRIX) == generator + products


def test_a_head_and_fm():
    assert multiply_adds(built(FieldLinearHead(), F, K), MATRIX) == F
    assert multiply_adds(pairwise_products, MATRIX) == K + F * K + 1  # square of the sum, squares, the half


def test_convolutions():
    image = tf.TensorSpec((B, 8, 9, M))
    plain = built(tf.keras.layers.Conv2D(N, (3, 2), padding="same"), 8, 9, M)
    assert multiply_adds(plain, image) == 8 * 9 * N * (3 * 2 * M)
    depthwise = built(tf.keras.layers.DepthwiseConv2D((3, 2), padding="valid", depth_multiplier=2), 8, 9, M)
    assert multiply_adds(depthwise, image) == 6 * 8 * (2 * M) * (3 * 2)
    line = built(tf.keras.layers.Conv1D(N, 2, strides=2), 8, M)
    assert multiply_adds(line, tf.TensorSpec((B, 8, M))) == 4 * N * (2 * M)


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("bfk,bgk->bfg", F * F * K),
        ("bfk,bgk->bfgk", F * F * K),
        ("...fk,...gk->...fg", F * F * K),
        ("bfk,bgl->bk", K),  # f, g and l are summed before
        ("bfk,bgk->b", K),
    ],
)
def test_einsums(equation, expected):
    assert multiply_adds(lambda x: tf.einsum(equation, x, x), MATRIX) == expected


def test_batched_and_transposed_products():
    assert multiply_adds(lambda x: tf.matmul(x, x, transpose_a=True), MATRIX) == K * K * F
    assert multiply_adds(lambda x: tf.matmul(x, x, transpose_b=True), MATRIX) == F * F * K
    assert multiply_adds(lambda x: tf.matmul(WEIGHTS, x, transpose_a=True, transpose_b=True), VECTOR) == M * N


def test_elementwise_products():
    other = tf.TensorSpec((B, N))
    assert multiply_adds(lambda x, y: tf.math.squared_difference(x, y) + 2.0 * x, VECTOR, other) == N + N
    assert multiply_adds(lambda x: tf.nn.relu(x) + x / 2.0, VECTOR) == 0


def test_what_weights_alone_make_or_shapes_is_not_counted():
    def function(x):
        return x @ (WEIGHTS @ tf.transpose(WEIGHTS)) + tf.cast(tf.shape(x)[0] * 3, tf.float32)

    assert multiply_adds(function, VECTOR) == N * N


def test_nested_functions_are_followed():
    inner = tf.function(lambda x, weights: (tf.matmul(weights, weights, transpose_b=True), tf.matmul(x, weights)))
    outer = tf.function(lambda x: inner(tf.nn.relu(x), WEIGHTS), jit_compile=True)

    def function(x):
        of_weights, of_x = outer(x)
        return tf.square(of_x), tf.square(of_weights)  # the latter depends on weights alone

    assert multiply_adds(function, VECTOR) == N * M + M


def test_branches_and_loops_may_not_multiply():
    def checked(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.relu(x), lambda: -x) @ WEIGHTS

    assert multiply_adds(checked, VECTOR) == N * M
    with pytest.raises(ValueError, match=r"cond.*If.*there are products in its branch.*depends on the data"):
        multiply_adds(lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x @ WEIGHTS, lambda: x[:, :M]), VECTOR)
    with pytest.raises(ValueError, match=r"while.*While.*there are products"):
        multiply_adds(lambda x: tf.while_loop(lambda y: tf.reduce_sum(y) < 9, lambda y: (y * y,), (x,)), VECTOR)


def test_what_cannot_be_counted_is_an_error_that_names_the_operation():
    with pytest.raises(ValueError, match=r"product \(MatMul\): its shape .* must be static"):
        multiply_adds(lambda x: tf.matmul(tf.boolean_mask(x, x[:, 0] > 0), WEIGHTS, name="product"), VECTOR)
    kernel = tf.ones((2, 2, N, M))
    image = tf.TensorSpec((B, 4, 4, M))
    with pytest.raises(ValueError, match="the products of a Conv2DBackpropInput cannot be counted"):
        multiply_adds(lambda x: tf.nn.conv2d_transpose(x, kernel, (B, 8, 8, N), 2), image)
    with pytest.raises(ValueError, match="static batch size"):
        multiply_adds(tf.square, tf.TensorSpec((None, 3)))
