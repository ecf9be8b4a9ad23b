"""Sums over the pairs of a list's items, in memory that does not grow with the square of a long list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

MOST_PAIRS = 1 << 23
"""So many pairs are worked on at once; 32 MiB a float32 value of a pair."""
PAIRS_OF_A_BLOCK = 1 << 20

Function = Callable[..., tf.Tensor]


def sum_pairs(
    function: Function, rows: tf.Tensor, columns: tf.Tensor, own: Sequence[tf.Tensor], others: Sequence[tf.Tensor]
) -> tf.Tensor:
    """For each row item of each list: a function of it and of all the column items.

    Up to 8 million pairs are made at once; beyond, blocks of 1 million come one after another, and again in the
    backward pass, so that only the sums are kept.

    Args:
      function: (together (..., P, L), *own values (..., P, 1), *others' values (..., 1, L)) -> (..., P): a reduction
        over the last axis, that may not capture tensors.
      rows: (N, P) int32; a row and a column item are together where these are equal.
      columns: (N, L) int32.
      own: values (N, P) of the row items.
      others: values (N, L) of the column items.

    Returns:
      (N, P).
    """

    def whole() -> tf.Tensor:
        together = rows[:, :, tf.newaxis] == columns[:, tf.newaxis, :]
        return function(together, *(x[:, :, tf.newaxis] for x in own), *(x[:, tf.newaxis, :] for x in others))

    def in_blocks() -> tf.Tensor:
        return _in_blocks(function, rows, columns, list(own), list(others))

    if rows.shape.is_fully_defined() and columns.shape.is_fully_defined():
        return whole() if rows.shape.num_elements() * columns.shape[1] <= MOST_PAIRS else in_blocks()
    number = tf.size(rows, tf.int64) * tf.shape(columns, tf.int64)[1]
    return tf.cond(number <= MOST_PAIRS, whole, in_blocks)


def _in_blocks(
    function: Function, rows: tf.Tensor, columns: tf.Tensor, own: list[tf.Tensor], others: list[tf.Tensor]
) -> tf.Tensor:
    """The same, a block of row items after the other; the backward pass makes each block again."""
    lists, items = tf.shape(rows)[0], tf.shape(rows)[1]
    size = tf.maximum(PAIRS_OF_A_BLOCK // tf.maximum(tf.shape(columns)[1], 1), 1)
    blocks = -(-lists * items // size)
    # Padded row items are together with nothing, as keys are not below -2.
    list_of = tf.repeat(tf.range(lists), items)

    def cut(x: tf.Tensor, filler: int) -> tf.Tensor:
        flat = tf.reshape(x, [-1])
        return tf.reshape(tf.pad(flat, [[0, blocks * size - tf.size(flat)]], constant_values=filler), [blocks, size])

    row_blocks, list_blocks = cut(rows, -3), cut(list_of, 0)

    def values(block: tf.Tensor, own_block: list[tf.Tensor], all_others: Sequence[tf.Tensor]) -> tf.Tensor:
        places = list_blocks[block]
        together = row_blocks[block][:, tf.newaxis] == tf.gather(columns, places)
        return function(together, *(x[:, tf.newaxis] for x in own_block), *(tf.gather(x, places) for x in all_others))

    @tf.custom_gradient
    def run(*tensors: tf.Tensor) -> tuple[tf.Tensor, Callable[..., list[tf.Tensor]]]:
        mine, theirs = [cut(x, 0) for x in tensors[: len(own)]], tensors[len(own) :]

        def forward(block: tf.Tensor) -> tf.Tensor:
            return values(block, [x[block] for x in mine], theirs)

        dtype = tensors[-1].dtype
        kind = tf.TensorSpec([None], dtype)
        result = tf.map_fn(forward, tf.range(blocks), parallel_iterations=1, fn_output_signature=kind)

        def backward(upstream: tf.Tensor) -> list[tf.Tensor]:
            weights = cut(upstream, 0)

            def gradients(total: list[tf.Tensor], block: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
                own_block = [x[block] for x in mine]
                with tf.GradientTape() as tape:
                    tape.watch([*own_block, *theirs])
                    y = values(block, own_block, theirs)
                found = tape.gradient(y, [*own_block, *theirs], weights[block], unconnected_gradients="zero")
                found = [tf.convert_to_tensor(g) for g in found]
                return [a + b for a, b in zip(total, found[len(mine) :], strict=True)], found[: len(mine)]

            def step(block: tf.Tensor, total: list[tf.Tensor], kept: list[tf.TensorArray]) -> tuple:
                total, found = gradients(total, block)
                kept = [array.write(block, g) for array, g in zip(kept, found, strict=True)]
                return block + 1, total, kept

            start = [tf.zeros_like(x) for x in theirs]
            arrays = [tf.TensorArray(x.dtype, blocks, element_shape=[None]) for x in mine]
            _, total, kept = tf.while_loop(
                lambda block, *_: block < blocks,
                step,
                (tf.constant(0), start, arrays),
                parallel_iterations=1,
                maximum_iterations=blocks,
            )
            flat = [tf.reshape(array.stack(), [-1])[: lists * items] for array in kept]
            return [*(tf.reshape(g, tf.shape(rows)) for g in flat), *total]

        return tf.reshape(tf.reshape(result, [-1])[: lists * items], tf.shape(rows)), backward

    # Tapes and their custom gradients want each tensor once.
    return tf.ensure_shape(run(*(tf.identity(x) for x in [*own, *others])), rows.shape)
