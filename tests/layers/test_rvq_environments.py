"""The quantiser on replicas, after a restart, under XLA and half precision, and on input that cannot be right."""

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.test_rvq import expiring, quantizer, same, state, vectors
from xdeepint_ext.layers import ResidualVectorQuantizer

OPTIONS = {"init": "kmeans", "decay": 0.5, "expire_below": 0.6, "dtype": "float32"}
BY_GRADIENT = {"codebook_update": "gradient", "commitment_weight": 0.5}


def drifting(step, rows=24):
    """Batches that move on, so that codes expire."""
    return (vectors(rows, 3, step) * [1, 2, 0.5] + [0.4 * step, 0, 1]).astype(np.float32)


def on_replicas(strategy, steps, make, halve=True):
    """(codes of each step, each replica's state) of layers that see parts of each batch."""
    with strategy.scope():
        layer = make()
        layer.build((None, 3))
    size = strategy.num_replicas_in_sync

    @tf.function
    def step(batch):
        return strategy.run(lambda x: layer(x, training=True)["codes"], (batch,))

    codes = []
    for number in range(steps):
        parts = np.array_split(drifting(number), size) if halve else [drifting(number)] * size
        batch = strategy.experimental_distribute_values_from_function(
            lambda context, parts=parts: tf.constant(parts[context.replica_id_in_sync_group])
        )
        codes.append(np.concatenate([c.numpy() for c in strategy.experimental_local_results(step(batch))]))
    states = [
        {name: strategy.experimental_local_results(getattr(layer, name))[replica].numpy() for name in state(layer)}
        for replica in range(size)
    ]
    return codes, states


@pytest.mark.parametrize("options", [{}, pytest.param(BY_GRADIENT, marks=pytest.mark.slow)], ids=["ema", "sgd"])
def test_two_replicas_with_half_of_the_batch_are_one_device(options, two_replicas):
    def make():
        return ResidualVectorQuantizer(2, 6, **OPTIONS, **options)

    steps = 6
    codes, [expected] = on_replicas(tf.distribute.get_strategy(), steps, make)
    found, states = on_replicas(two_replicas, steps, make)
    np.testing.assert_array_equal(found, codes)
    for one in states:
        same(one, states[0])
        same(one, expected, rtol=1e-6, atol=1e-6)
    assert expected["step"] == steps
    _, wrong = on_replicas(two_replicas, steps, make, halve=False)
    assert np.abs(wrong[0]["cluster_counts"].sum() - expected["cluster_counts"].sum()) > 1  # it does depend on the sums


def test_the_replicas_test_has_codes_that_expire():
    layer = ResidualVectorQuantizer(2, 6, **OPTIONS)
    for step in range(6):
        layer(drifting(step), training=True)
    assert sum(float(metric.result()) for metric in layer._metrics if "expired" in metric.name) > 0


def test_a_replica_without_rows_takes_part(two_replicas):
    layer_options = {"init": "kmeans", "dtype": "float32"}
    with two_replicas.scope():
        layer = ResidualVectorQuantizer(1, 3, **layer_options)
        layer.build((None, 3))

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def step(x):
        def replica():
            context = tf.distribute.get_replica_context()
            rows = tf.where(tf.equal(context.replica_id_in_sync_group, 0), tf.shape(x)[0], 0)
            return layer(x[:rows], training=True)["codes"]

        return two_replicas.run(replica)

    step(drifting(0))
    alone = ResidualVectorQuantizer(1, 3, **layer_options)
    alone(drifting(0), training=True)
    same(state(layer), state(alone), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"codebook_update": "gradient"}])
def test_training_goes_on_as_if_never_stopped(options, tmp_path):
    def make():
        layer = ResidualVectorQuantizer(2, 6, **OPTIONS, **options)
        layer.build((None, 3))
        return layer

    layer = make()
    for step in range(3):
        layer(drifting(step), training=True)
    path = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "checkpoint"))
    again = make()
    tf.train.Checkpoint(layer=again).read(path).assert_consumed()
    for step in range(3, 6):
        for one in (layer, again):
            one(drifting(step), training=True)
    same(state(again), state(layer))
    assert int(again.step) == 6


def test_a_checkpoint_of_other_codebooks_is_refused(tmp_path):
    layers = [ResidualVectorQuantizer(2, size) for size in (6, 5)]
    for layer in layers:
        layer.build((None, 3))
    path = tf.train.Checkpoint(layer=layers[0]).write(str(tmp_path / "checkpoint"))
    with pytest.raises(ValueError, match=r"incompatible tensor with shape .*6.* with shape .*5.* name .*code"):
        tf.train.Checkpoint(layer=layers[1]).read(path)


@pytest.mark.parametrize("options", [{}, pytest.param(BY_GRADIENT, marks=pytest.mark.slow)])
def test_xla_compiles_the_training_step(options):
    ends, losses = [], []
    for jit in (False, True):
        layer = ResidualVectorQuantizer(2, 6, **OPTIONS, **options)
        layer.build((None, 3))

        @tf.function(jit_compile=jit)
        def step(x, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                found = layer(x, training=True)
                loss = tf.add_n([tf.reduce_sum(tf.square(found["quantized"])), *layer.losses])
            return tape.gradient(loss, [x, *layer.trainable_variables])

        losses.append([step(tf.constant(drifting(number))) for number in range(5)])
        ends.append(state(layer))
    same(ends[1], ends[0], rtol=1e-5, atol=1e-5)
    for a, b in zip(tf.nest.flatten(losses[0]), tf.nest.flatten(losses[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_statistics_are_float32_under_mixed_precision(policy):
    half = tf.float16 if policy == "mixed_float16" else tf.bfloat16
    x = tf.cast(drifting(0), half)
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        layer = ResidualVectorQuantizer(2, 4)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    found = layer(x, training=True)
    full = ResidualVectorQuantizer(2, 4)
    expected = full(tf.cast(x, tf.float32), training=True)
    np.testing.assert_array_equal(found["codes"], expected["codes"])
    assert found["quantized"].dtype == layer.codebooks.dtype == tf.float32
    same(state(layer), state(full))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("graph", [False, True])
def test_what_is_not_finite_is_refused_and_moves_nothing(bad, graph):
    layer = ResidualVectorQuantizer(2, 4, init="kmeans", name="codes_of_users")
    x = drifting(0)
    call = tf.function(layer) if graph else layer
    spoilt = np.array(x)
    spoilt[3, 1] = bad
    for step in range(2):  # before the start, and after it
        before = state(layer) if layer.built else {}
        with pytest.raises(tf.errors.InvalidArgumentError, match="codes_of_users: inputs must be finite"):
            call(tf.constant(spoilt), training=True)
        same(state(layer), before)
        assert int(layer.step) == step
        call(tf.constant(x), training=True)


def test_xla_shows_what_is_not_finite_and_moves_nothing():
    layer = ResidualVectorQuantizer(2, 4)
    call = tf.function(layer, jit_compile=True)
    spoilt = drifting(0)
    spoilt[3, 1] = np.nan
    layer.build((None, 3))
    for step in range(2):
        before = state(layer)
        found = call(tf.constant(spoilt), training=True)["quantized"].numpy()
        assert np.isnan(found[3]).any() and np.isfinite(np.delete(found, 3, axis=0)).all()
        same(state(layer), before)
        assert int(layer.step) == step
        call(tf.constant(drifting(0)), training=True)


@pytest.mark.parametrize(
    "x",
    [np.full((20, 3), 0.7), vectors(3), vectors(1), np.zeros((20, 3)), np.repeat(vectors(2), 10, axis=0)],
    ids=["constant", "fewer rows than codes", "one row", "zeros", "two users"],
)
def test_few_different_rows_are_quantised_without_error(x):
    layer = quantizer(2, 8, init="kmeans", decay=0.5)
    for _ in range(5):
        found = layer(x, training=True)
        np.testing.assert_allclose(found["quantized"], x, atol=1e-3)
    assert all(np.isfinite(value).all() for value in state(layer).values())


def test_one_code_is_the_mean():
    layer = quantizer(2, 1, init="kmeans")
    x = vectors()
    found = layer(x, training=True)
    np.testing.assert_allclose(found["quantized"], np.broadcast_to(x.mean(axis=0), x.shape), atol=1e-6)
    assert not found["codes"].numpy().any() and found["perplexity"].numpy().tolist() == [1, 1]


def test_an_empty_batch_moves_nothing():
    layer = expiring()
    for _ in range(2):
        before = state(layer) if layer.built else {}
        found = layer(np.zeros((0, 2)), training=True)
        assert found["quantized"].shape == (0, 2) and found["codes"].shape == (0, 1)
        same(state(layer), before)
        layer(vectors(40, 2), training=True)
    started = quantizer(1, 2, init="kmeans")
    started(np.zeros((0, 2)), training=True)
    assert int(started.step) == 0
    started(vectors(40, 2), training=True)
    assert started.codebooks.numpy().any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels must be >= 1, got 0"),
        ({"codebook_size": 0}, "codebook_size must be >= 1, got 0"),
        ({"kmeans_steps": -1}, "kmeans_steps must be >= 0, got -1"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\), got 1.0"),
        ({"epsilon": 0.0}, "epsilon must be positive and finite, got 0.0"),
        ({"expire_below": 1.0}, "expire_below must be a share of the mean count"),
        ({"commitment_weight": -0.1}, "commitment_weight must be >= 0 and finite, got -0.1"),
        ({"search": "quick"}, r"search must be one of .*'fast', 'exact'.*, got 'quick'"),
        ({"codebook_update": "adam"}, "codebook_update must be one of .*, got 'adam'"),
        ({"init": "k-means"}, "Unknown initializer"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ResidualVectorQuantizer(**{"num_levels": 2, "codebook_size": 4, **options})


@pytest.mark.parametrize("shape", [(4,), (4, 3, 2)])
def test_bad_shapes_are_named(shape):
    with pytest.raises(ValueError, match=r"inputs must be \(batch, d\), d static; got"):
        ResidualVectorQuantizer(1, 2)(np.zeros(shape))


def test_every_argument_is_in_the_configuration():
    options = {"num_levels": 2, "codebook_size": 4, "decay": 0.8, "epsilon": 0.1, "expire_below": 0.2, "seed": 5}
    options |= {"kmeans_steps": 3, "search": "exact", "codebook_update": "gradient", "commitment_weight": 0.25}
    layer = ResidualVectorQuantizer(**options, init=tf.keras.initializers.RandomNormal(stddev=0.5))
    config = layer.get_config()
    again = ResidualVectorQuantizer.from_config(config)
    assert again.get_config() == config and {name: config[name] for name in options} == options
    assert again.init.stddev == 0.5
