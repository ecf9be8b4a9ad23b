"""The row-wise optimizers where training runs: graphs, XLA, several devices, mixed precision, and back from disk."""

import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers.batches import draw
from xdeepint_ext.optimizers import GroupFtrl, LazyAdagrad, LazyAdam

MAKERS = {
    "GroupFtrl": lambda: GroupFtrl(alpha=0.1, beta=0.1, lambda1=0.02, lambda2=0.1),
    "GroupFtrl-preserving": lambda: GroupFtrl(alpha=0.1, beta=0.1, lambda1=0.02, lambda2=0.1, preserve_initial=True),
    "LazyAdam": lambda: LazyAdam(0.1),
    "LazyAdagrad": lambda: LazyAdagrad(0.1),
}
ROWS, WIDTH, BATCH, STEPS = 12, 4, 8, 3

make = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@pytest.fixture
def training():
    return draw(seed=10, rows=ROWS, width=WIDTH, lookups=[BATCH] * STEPS)


def run(optimizer, training, sparse=True, wrap=lambda step: step):
    """Trains a table eagerly, or through `wrap`, and returns it with the slots."""
    table = tf.Variable(training.table)
    step = wrap(lambda gradient: [optimizer.apply_gradients([(gradient, table)]), None][1])
    for i in training.steps:
        step(training.sparse(i) if sparse else training.dense(i))
    return [table.numpy(), *(variable.numpy() for variable in optimizer.variables)]


@make
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_equals_eager(make, training, sparse, jit_compile):
    graph = run(make(), training, sparse, lambda step: tf.function(step, jit_compile=jit_compile))
    for got, expected in zip(graph, run(make(), training, sparse), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@make
@pytest.mark.parametrize("graph", [False, True])
def test_two_replicas_equal_one_device(make, training, graph, two_replicas):
    strategy = two_replicas
    with strategy.scope():
        table, optimizer = tf.Variable(training.table), make()
        optimizer.build([table])
    dense_shape = tf.constant(training.table.shape)

    def step(ids, values):
        optimizer.apply_gradients([(tf.IndexedSlices(values, ids, dense_shape), table)])

    def distributed(ids, values):
        strategy.run(step, args=(ids, values))

    call = tf.function(distributed) if graph else distributed
    for ids, values in zip(training.ids, training.values, strict=True):
        halves = [
            strategy.experimental_distribute_values_from_function(
                lambda context, x=x: tf.split(x, 2)[context.replica_id_in_sync_group]
            )
            for x in (ids, values)
        ]
        call(*halves)
    expected = run(make(), training)
    for replica in strategy.experimental_local_results(table):
        np.testing.assert_allclose(replica, expected[0], rtol=1e-6, atol=1e-7)
    for variable, single in zip(optimizer.variables, expected[1:], strict=True):
        for replica in strategy.experimental_local_results(variable):
            np.testing.assert_allclose(replica, single, rtol=1e-6, atol=1e-7)


@make
def test_loss_scaling_changes_nothing_but_skips_overflows(make, training):
    table = tf.Variable(training.table)
    optimizer = tf.keras.mixed_precision.LossScaleOptimizer(make(), dynamic=True, initial_scale=1024)
    finite = training.sparse(0)
    optimizer.apply_gradients([(tf.IndexedSlices(finite.values * np.inf, finite.indices, finite.dense_shape), table)])
    np.testing.assert_array_equal(table, training.table)  # the first step is still to come, and with it the zeroing
    optimizer.apply_gradients([(finite, table)])
    alone = tf.Variable(training.table)
    inner = make()
    inner.iterations.assign(1)  # a skipped step counts
    inner.apply_gradients([(finite, alone)])
    np.testing.assert_array_equal(table, alone)


@make
def test_half_precision_wrapper_of_a_variable(make, training):
    """Under mixed_float16 a layer's variable is float32 inside a wrapper that reads as float16 in `call`."""
    layer = tf.keras.layers.Dense(WIDTH, use_bias=False, dtype="mixed_float16")
    layer.build([None, ROWS])
    layer.set_weights([training.table])
    optimizer = make()
    for step in training.steps:
        optimizer.apply_gradients([(training.sparse(step), layer.kernel)])
    np.testing.assert_array_equal(layer.kernel.numpy(), run(make(), training)[0])
    assert layer(tf.ones([1, ROWS])).dtype == tf.float16


@make
def test_checkpoint_goes_on_exactly(make, training, tmp_path):
    table, optimizer = tf.Variable(training.table), make()
    optimizer.apply_gradients([(training.sparse(0), table)])
    path = tf.train.Checkpoint(table=table, optimizer=optimizer).save(tmp_path / "checkpoint")
    for step in (1, 2):
        optimizer.apply_gradients([(training.sparse(step), table)])

    again, restored = tf.Variable(tf.zeros_like(table)), make()
    status = tf.train.Checkpoint(table=again, optimizer=restored).restore(path)
    for step in (1, 2):
        restored.apply_gradients([(training.sparse(step), again)])  # the slots come with the first step
    status.assert_existing_objects_matched()
    np.testing.assert_array_equal(again, table)


def embedding_model():
    ids = tf.keras.Input([3], dtype=tf.int32)
    rows = tf.keras.layers.Embedding(ROWS, WIDTH)(ids)
    return tf.keras.Model(ids, tf.keras.layers.Dense(1)(tf.keras.layers.Flatten()(rows)))


@make
def test_keras_file_goes_on_exactly(make, tmp_path):
    rng = np.random.default_rng(11)
    ids, labels = rng.integers(0, ROWS, size=(16, 3)), rng.integers(0, 2, size=16).astype(np.float32)
    model = embedding_model()
    model.compile(make(), tf.keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(ids, labels, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is type(model.optimizer)
    for fitted in (model, again):
        fitted.fit(ids, labels, batch_size=8, shuffle=False, verbose=0)
    for left, right in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
