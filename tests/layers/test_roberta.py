"""RoBERTa against its formulas in NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.roberta_reference import roberta_reference
from xdeepint_ext.layers import RobertaEncoder

IDS = np.array([[0, 7, 8, 2, 2, 9, 2, 1], [0, 5, 2, 1, 1, 1, 1, 1], [0, 4, 6, 3, 11, 12, 9, 2]])


def make(**options):
    return RobertaEncoder.of_size(
        "tiny", **{"vocab_size": 13, "max_positions": 12, "dropout": 0.0, "deviation": 0.4, **options}
    )


def test_encoder_is_the_formula():
    tf.keras.backend.set_floatx("float64")
    try:
        encoder = make()
        found = encoder(IDS).numpy()
    finally:
        tf.keras.backend.set_floatx("float32")
    np.testing.assert_allclose(
        found[IDS != 1], roberta_reference(encoder, IDS)[IDS != 1], rtol=1e-6, atol=1e-7
    )  # Keras has sqrt(2) in float32


def test_padding_changes_nothing():
    encoder = make()
    short = IDS[:2, :7]
    np.testing.assert_allclose(
        encoder(np.pad(short, [(0, 0), (0, 3)], constant_values=1))[:, :7][short != 1],
        encoder(short)[short != 1],
        atol=1e-5,
    )


def test_compiled_is_the_same():
    encoder = make()
    ids = tf.constant(IDS)
    np.testing.assert_allclose(tf.function(encoder, jit_compile=True)(ids), encoder(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    full = make(deviation=0.05)
    expected = full(IDS)
    half = make(deviation=0.05, dtype=tf.keras.mixed_precision.Policy(policy))
    half(IDS)
    half.set_weights(full.get_weights())
    found = half(IDS)
    assert found.dtype == half.compute_dtype
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=0.1)


def test_dropout_is_for_training_only():
    encoder = make(dropout=0.5)
    assert np.array_equal(encoder(IDS), encoder(IDS, training=False))
    assert not np.array_equal(encoder(IDS, training=True), encoder(IDS))


def test_positions_bound_the_length():
    encoder = make(max_positions=9)
    assert encoder(IDS[:, :7]).shape == (3, 7, 32)
    with pytest.raises(ValueError, match="n <= 7, got n=8"):
        encoder(IDS)


def test_sizes_are_roberta_s():
    weights = sum(math.prod(shape) for shape in [(50265, 768), (514, 768), (1, 768)]) + 2 * 768
    weights += 12 * (4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768)
    encoder = RobertaEncoder.of_size("base")
    encoder.build((None, None))
    assert encoder.count_params() == weights == 124_055_040


def test_positions_may_start_as_waves():
    encoder = RobertaEncoder.of_size("tiny", vocab_size=5, max_positions=9)
    encoder.build((None, None))
    table = encoder.positions.embeddings.numpy()
    scale = encoder.deviation * math.sqrt(2)
    np.testing.assert_allclose(
        table[3, 4:6], [scale * f(3 / 10000 ** (4 / 32)) for f in (math.sin, math.cos)], rtol=1e-5
    )
    assert encoder.deviation == pytest.approx(math.sqrt((table**2).mean()))


@pytest.mark.parametrize("alike", [True, False])
def test_queries_and_keys_may_start_alike(alike):
    tf.keras.utils.set_random_seed(3)
    encoder, again = make(alike=alike), make(alike=alike)
    for model in (encoder, again):
        model.build((None, None))
    kernels = [block.query.kernel.numpy() for block in encoder.blocks]
    for block, kernel in zip(encoder.blocks, kernels, strict=True):
        assert np.array_equal(block.key.kernel, kernel) == alike
    assert not np.array_equal(*kernels) and not np.array_equal(kernels[0], again.blocks[0].query.kernel)


def test_bad_arguments():
    with pytest.raises(ValueError, match="position_start must be one of"):
        RobertaEncoder(position_start="x")
    with pytest.raises(ValueError, match="num_heads must divide width"):
        RobertaEncoder(width=10, num_heads=3)
    with pytest.raises(ValueError, match="size must be one of"):
        RobertaEncoder.of_size("huge")
