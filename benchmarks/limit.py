"""The multiply-add limit: the PIN's products alone, as fast as this machine makes them."""

from __future__ import annotations

import tensorflow as tf

from benchmarks.settings import BATCH, NUM_LAYERS, Setting
from benchmarks.timing import Timing, time_steps

_PRODUCTS = 3 * NUM_LAYERS  # a layer's forward product, and two backward of the same number of operations


class Limit:
    """Times as many float32 products (B s, m) x (m, m) as a step's forward and backward pass have."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._left = tf.random.normal((BATCH * setting.columns, setting.rows))
        self._right = tf.linalg.qr(tf.random.normal((setting.rows, setting.rows)))[0]  # keeps a chain's size

        @tf.function
        def chain(left: tf.Tensor, right: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
            for _ in tf.range(times):
                left = tf.matmul(left, right)
            return left[0, 0]

        self._chain = chain

    def products(self, steps: int = 1) -> None:
        """Makes the products of so many steps."""
        self._chain(self._left, self._right, tf.constant(_PRODUCTS * steps)).numpy()

    def run(self) -> Timing:
        """One run."""
        self.products()
        return time_steps(lambda: self.products(self.setting.steps), self.setting.steps)
