"""Weights that lie in parts, put together again."""

import numpy as np
import tensorflow as tf

from xdeepint_ext.utils.parts import joined


def test_the_parts_of_a_sharded_weight_are_put_together():
    whole = [np.arange(10.0).reshape(5, 2), np.float32(3), np.arange(3)]
    parts = [whole[0][:2], whole[0][2:4], whole[0][4:], whole[1], whole[2]]
    for found, expected in zip(joined(parts, [tf.TensorShape(np.shape(w)) for w in whole]), whole, strict=True):
        np.testing.assert_array_equal(found, expected)
