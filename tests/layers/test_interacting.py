"""AutoInt's layer against loops over the paper's formulas."""

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import reference
from tests.layers.test_heads_and_stacks import randomised
from xdeepint_ext.layers import InteractingLayer
from xdeepint_ext.utils.variables import optimizer_group


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("num_heads", "head_dim"), [(1, 4), (3, 2)])
def test_equals_loops(num_heads, head_dim, residual, scaled):
    layer, x = randomised(InteractingLayer(num_heads, head_dim, residual, scaled, dtype="float64"), (2, 4, 3))
    found = layer(x)
    assert found.shape == layer.compute_output_shape(x.shape) == (2, 4, num_heads * head_dim)
    expected = reference.interacting(x, layer.get_weights(), num_heads, scaled)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_without_queries_every_field_gets_the_mean():
    layer, x = randomised(InteractingLayer(2, 3, residual=False, dtype="float64"), (2, 4, 5))
    _, key, value = layer.get_weights()
    layer.set_weights([np.zeros_like(key), key, value])
    mean = np.maximum((x @ value).mean(axis=1, keepdims=True), 0)
    np.testing.assert_allclose(layer(x), np.repeat(mean, 4, axis=1), rtol=1e-12, atol=1e-15)


def test_permuted_fields_permute_the_output():
    layer, x = randomised(InteractingLayer(2, 3, dtype="float64"), (2, 4, 5))
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(layer(x[:, order]), layer(x).numpy()[:, order], rtol=1e-12)


@pytest.mark.parametrize(("policy", "expected"), [("mixed_float16", tf.float32), ("float64", tf.float64)])
def test_softmax_is_taken_in_single_precision_at_least(policy, expected):
    layer = InteractingLayer(2, 3, dtype=policy)
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, 4, 5), layer.compute_dtype)).graph
    assert [op.outputs[0].dtype for op in graph.get_operations() if op.type == "Softmax"] == [expected]
    assert graph.structured_outputs.dtype == layer.compute_dtype


def test_weights_are_left_to_the_default_optimizer():
    layer = InteractingLayer()
    layer(tf.ones((1, 3, 2)))
    assert {optimizer_group(weight) for weight in layer.weights} == {"default"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InteractingLayer(num_heads=0), "InteractingLayer: num_heads must be >= 1, got 0"),
        (lambda: InteractingLayer(head_dim=0), "InteractingLayer: head_dim must be >= 1, got 0"),
        (lambda: InteractingLayer()(tf.ones((2, 4))), r"InteractingLayer: inputs must have shape .* got \(2, 4\)"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
