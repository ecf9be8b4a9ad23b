"""Workers' shares of an epoch: nothing lost, nothing twice, as many steps for each."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.data import memory
from xdeepint_ext.data.shares import BatchShare


def taken(dataset):
    return [batch.numpy().tolist() for batch in dataset]


@pytest.mark.parametrize("total", [2, 3, 5])
def test_the_parts_of_a_batch_make_the_batch(total):
    options = {"batch_size": 12, "shuffle": True, "epochs": 2, "seed": 3}
    whole = taken(memory.batches(tf.range(40), **options))
    parts = [taken(memory.batches(tf.range(40), share=BatchShare(i, 1, total), **options)) for i in range(total)]
    assert [[*itertools.chain(*found)] for found in zip(*parts, strict=True)] == whole
    assert {max(sizes) - min(sizes) for sizes in zip(*[map(len, part) for part in parts], strict=True)} <= {0, 1}


def test_a_worker_with_several_replicas_gets_their_parts_one_after_the_other():
    batches = tf.data.Dataset.range(8).batch(8)
    context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=1, num_replicas_in_sync=4)
    assert taken(BatchShare.of_worker(context).of(batches)) == [[4, 5], [6, 7]]
    assert taken(BatchShare.of_worker(None).of(batches)) == [list(range(8))]


def test_reading_goes_on_at_the_same_place_of_the_share():
    options = {"batch_size": 6, "shuffle": True, "epochs": None, "share": BatchShare(1, 1, 2)}
    first, again = memory.batches(tf.range(20), **options), memory.batches(tf.range(20), start_step=3, **options)
    assert taken(first.skip(3).take(5)) == taken(again.take(5))


def test_nests_are_cut_alike():
    found = next(iter(BatchShare(1, 1, 2).of(tf.data.Dataset.from_tensors(({"x": tf.range(4)}, tf.range(4) + 10)))))
    np.testing.assert_array_equal(found[0]["x"], [2, 3])
    np.testing.assert_array_equal(found[1], [12, 13])
