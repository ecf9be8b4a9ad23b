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
    encoder = make(dtype="float64")
    found = encoder(IDS).numpy()
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
    graph = tf.function(encoder, input_signature=[tf.TensorSpec((None, None), tf.int32)])
    assert graph(IDS[:, :7]).shape == (3, 7, 32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="n <= 7: cut texts into windows"):
        graph(IDS)


@pytest.mark.parametrize(
    ("size", "layers", "width", "total"),
    [("base", 12, 768, 124_055_040), pytest.param("large", 24, 1024, 354_310_144, marks=pytest.mark.slow)],
)
def test_sizes_are_roberta_s(size, layers, width, total):
    hidden = 4 * width
    weights = sum(math.prod(shape) for shape in [(50265, width), (514, width), (1, width)]) + 2 * width
    weights += layers * (4 * (width * width + width) + 2 * width * hidden + hidden + width + 4 * width)
    encoder = RobertaEncoder.of_size(size)
    encoder.build((None, None))
    assert encoder.count_params() == weights == total
    assert encoder.num_heads * 64 == width


def test_a_mimetic_start_attends_to_the_same_word_and_to_neighbours():
    rows, width = 40, 32
    encoder = RobertaEncoder.of_size("tiny", vocab_size=9, max_positions=rows)
    encoder.build((None, None))
    words, positions = encoder.words.embeddings.numpy(), encoder.positions.embeddings.numpy()
    assert not words[:, width // 2 :].any() and words[:, : width // 2].all()
    waves = [f(3 / rows ** (4 / 16)) for f in (math.sin, math.cos)]
    np.testing.assert_allclose(positions[3, 20:22], math.sqrt(2 / width) * np.array(waves), rtol=1e-5)
    assert not positions[:, : width // 2].any() and not encoder.types.embeddings.numpy().any()
    for block in encoder.blocks:
        assert np.array_equal(block.query.kernel, np.eye(width)) and np.array_equal(block.key.kernel, np.eye(width))
    likeness = positions @ positions[20]
    assert (np.diff(likeness[20:24]) < 0).all() and (np.diff(likeness[17:21]) > 0).all()


def test_a_normal_start_is_roberta_s():
    encoder = make(start="normal", deviation=None, vocab_size=500, width=64)
    encoder.build((None, None))
    cut_at_two = 0.8796  # deviation of a standard normal that is cut at two
    block = encoder.blocks[0]
    weights = [x.numpy() for x in (encoder.words.embeddings, encoder.positions.embeddings, block.query.kernel)]
    for x in weights:
        assert np.std(x) == pytest.approx(0.02 * cut_at_two, rel=0.1)
    assert not np.array_equal(weights[0][:12], weights[1]) and not np.array_equal(weights[2], block.key.kernel)


def test_bad_arguments():
    with pytest.raises(ValueError, match="start must be one of"):
        RobertaEncoder(start="x")
    with pytest.raises(ValueError, match="num_heads must divide width"):
        RobertaEncoder(width=10, num_heads=3)
    with pytest.raises(ValueError, match="size must be one of"):
        RobertaEncoder.of_size("huge")
