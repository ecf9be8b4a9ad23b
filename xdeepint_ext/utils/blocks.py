"""Work on a batch block by block: what one operation writes is still in the cache when the next one reads it."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from xdeepint_ext.utils.graph import in_xla

NUM_BLOCKS = 8
LEAST_BYTES = 1 << 22
"""Below it a batch fits a processor's cache as it is."""
USUAL_BATCH = 4096


def by_blocks(function: Callable[..., tf.Tensor], x: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    """`function(x, *others)` for a function of each example alone: a large batch on a CPU in 8 blocks.

    A chain of cheap operations on a large batch spends its time on moving the batch between memory and processor. XLA
    and GPUs have means of their own against that, so there, and for small batches, the function is simply called.

    Args:
      function: (b, ...), ... -> (b, ...) for any b.
      x: (B, ...), all but B static. Where B is not, 4096 examples decide whether the batch is large.
      *others: likewise; their size decides nothing.

    Returns:
      What `function(x, *others)` returns.

    Example:
      >>> by_blocks(lambda x: 2.0 * x, tf.ones((3, 2))).shape
      TensorShape([3, 2])
    """
    size = (x.shape[0] or USUAL_BATCH) * x.shape[1:].num_elements() * x.dtype.size
    if size <= LEAST_BYTES or in_xla() or tf.config.list_logical_devices("GPU"):
        return function(x, *others)
    count = tf.shape(x)[0]
    ends = [count * (index + 1) // NUM_BLOCKS for index in range(NUM_BLOCKS)]
    sizes = tf.stack([end - start for start, end in zip([0, *ends], ends, strict=False)])
    parts = [
        [tf.ensure_shape(block, (None, *whole.shape[1:])) for block in tf.split(whole, sizes, num=NUM_BLOCKS)]
        for whole in (x, *others)
    ]
    return tf.concat([function(*blocks) for blocks in zip(*parts, strict=True)], axis=0)
