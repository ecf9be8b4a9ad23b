"""Batches of arrays in memory: every record once an epoch, in an order of seed and epoch alone."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from xdeepint_ext.data.epochs import steps_per_epoch
from xdeepint_ext.data.memory import batches, collect


def lists(dataset):
    return [batch.numpy().tolist() for batch in dataset]


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    size=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    start_step=st.integers(0, 30),
    shuffle=st.booleans(),
    drop_remainder=st.booleans(),
)
def test_batches_and_resumption(size, batch_size, start_step, shuffle, drop_remainder):
    options = {"shuffle": shuffle, "epochs": 2, "drop_remainder": drop_remainder}
    steps = steps_per_epoch(size, batch_size, drop_remainder)
    found = lists(batches(tf.range(size), batch_size, **options))
    assert len(found) == 2 * steps
    for epoch in (found[:steps], found[steps:]):
        records = [record for batch in epoch for record in batch]
        assert len(set(records)) == len(records) == (steps * batch_size if drop_remainder else size)
        assert shuffle or records == list(range(len(records)))
    assert lists(batches(tf.range(size), batch_size, start_step=start_step, **options)) == found[start_step:]


def test_epochs_and_seeds_differ_and_nothing_else_matters():
    tf.random.set_seed(1)
    found = lists(batches(tf.range(50), 50, shuffle=True, epochs=2))
    tf.random.set_seed(2)
    assert lists(batches(tf.range(50), 50, shuffle=True, epochs=2)) == found
    assert found[0] != found[1]
    assert lists(batches(tf.range(50), 50, shuffle=True, seed=1)) != found[:1]


def test_every_order_is_as_likely():
    """4 records have 24 orders; the share of each in 2,400 epochs is binomial."""
    found = lists(batches(tf.range(4), 4, shuffle=True, epochs=2400))
    orders, counts = np.unique(found, axis=0, return_counts=True)
    assert len(orders) == 24
    deviation = np.sqrt(2400 / 24 * (1 - 1 / 24))
    assert np.abs(counts - 100).max() < 5 * deviation


def test_without_end():
    assert len(list(batches(tf.range(5), 2, epochs=None).take(20))) == 20


def test_nests_keep_their_structure():
    arrays = ({"a": np.arange(6), "b": np.arange(12).reshape(6, 2)}, np.arange(6.0))
    for features, labels in batches(arrays, 4, shuffle=True):
        np.testing.assert_array_equal(features["b"][:, 0], 2 * features["a"])
        np.testing.assert_array_equal(labels, features["a"])


def test_arrays_of_any_type_and_rank_stay_together():
    size = 7
    numbers = np.arange(size)
    arrays = {
        "id": numbers,
        "column": numbers[:, None],
        "none": np.zeros((size, 0), np.int64),
        "cube": np.arange(size * 6).reshape(size, 2, 3),
        "short": numbers.astype(np.int32),
        "text": numbers.astype(str),
    }
    for batch in batches(arrays, 3, shuffle=True):
        rows = batch["id"].numpy()
        for name, array in arrays.items():
            expected = tf.convert_to_tensor(array[rows])
            assert batch[name].dtype == expected.dtype
            np.testing.assert_array_equal(batch[name], expected)


def test_collect_is_the_inverse():
    arrays = ({"a": np.arange(7)}, np.arange(7.0))
    tf.nest.map_structure(np.testing.assert_array_equal, collect(batches(arrays, 3)), arrays)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [((np.arange(3), np.arange(4)), r"got lengths \[3, 4\]"), (np.arange(0), r"got lengths \[0\]")],
)
def test_lengths_that_do_not_fit(arrays, message):
    with pytest.raises(ValueError, match=f"arrays must be of one length > 0, {message}"):
        batches(arrays, 2)


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="batch_size must be > 0, got 0"):
        batches(np.arange(3), 0)
