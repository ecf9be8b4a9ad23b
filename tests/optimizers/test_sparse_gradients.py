import numpy as np
import pytest
import tensorflow as tf

from tests.optimizers.reference import sum_in_batch_order
from xdeepint_ext.optimizers.sparse_gradients import sum_duplicates

ROWS = 50


def zipf_lookup(seed, shape, dtype, lookups=3000):
    rng = np.random.default_rng(seed)
    ids = (rng.zipf(1.3, size=lookups) - 1) % ROWS
    return ids, rng.normal(size=(lookups, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(1,), (3,), (16,), (31,), (32,), (64,), (2, 4), ()])
def test_sums_have_the_bits_of_a_loop_over_the_batch(shape, dtype):
    ids, values = zipf_lookup(0, shape, dtype)
    total = sum_duplicates(tf.IndexedSlices(tf.constant(values), tf.constant(ids), tf.constant([ROWS, *shape])))
    rows = total.indices.numpy()
    assert sorted(rows) == sorted(set(ids))
    np.testing.assert_array_equal(total.values.numpy(), sum_in_batch_order(ids, values, ROWS)[rows])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph_of_unknown_batch_size(jit_compile):
    ids, values = zipf_lookup(1, (4,), np.float32, lookups=200)

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 4], tf.float32)],
    )
    def total(ids, values):
        summed = sum_duplicates(tf.IndexedSlices(values, ids, tf.constant([ROWS, 4])))
        return summed.indices, summed.values

    for size in (200, 1, 0):
        rows, sums = total(ids[:size], values[:size])
        expected = sum_in_batch_order(ids[:size], values[:size], ROWS)
        np.testing.assert_allclose(sums, expected[rows.numpy()], rtol=1e-5, atol=1e-6)
        assert len(rows) == len(set(ids[:size]))


def test_rows_beyond_int32_keep_their_names():
    far = 2**40
    rows, width = tf.constant([far, 1, far]), tf.ones([3, 1])
    for dense_shape in (None, tf.constant([far + 1, 1])):
        total = sum_duplicates(tf.IndexedSlices(width, rows, dense_shape))
        assert total.indices.numpy().tolist() == [far, 1]
        assert total.values.numpy().tolist() == [[2.0], [1.0]]


def test_not_a_number_stays_in_its_row():
    total = sum_duplicates(tf.IndexedSlices(tf.constant([[np.nan], [1.0], [np.inf]]), tf.constant([0, 1, 2])))
    np.testing.assert_array_equal(total.values, [[np.nan], [1.0], [np.inf]])
