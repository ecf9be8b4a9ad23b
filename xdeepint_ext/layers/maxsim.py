"""Maximum similarity of two sets of heads, of one pair or of all pairs of users and items."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.all_pairs import ITEMS_AT_ONCE, USERS_AT_ONCE, score_all_pairs
from xdeepint_ext.layers.temperature import Temperature
from xdeepint_ext.utils.dtypes import at_least_float32, full_precision
from xdeepint_ext.utils.registry import register

LEAST_LENGTH = 1e-8
"""A shorter head is divided by this in place of its length, and has no gradient."""


@register
class MaxSim(tf.keras.layers.Layer):
    """`s(u, i) = sum_p max_q cos(u_p, i_q) / tau`: each head of u looks for the most similar one of i.

    It is at most H_u / tau, and not symmetric in u and i. Computes in float32 or wider.

    Args:
      temperature: tau at the start, in [0.01, 10]; it stays there. Default 1, our choice; the paper says > 0.
      learnable: whether tau is trained, as in the paper.

    Weights:
      scale: a `Temperature`.

    Call arguments:
      inputs: (u (..., H_u, d), i (..., H_i, d)), whose leading axes broadcast. d is static, H_i > 0.

    Returns:
      Logits (...).

    Raises:
      ValueError: temperature is out of range, or shapes do not fit.

    Example:
      >>> user, item = [[1.0, 0.0], [0.6, 0.8]], [[0.0, 2.0], [3.0, 4.0], [-1.0, 0.0]]
      >>> round(float(MaxSim(temperature=0.1)((tf.constant(user), tf.constant(item)))), 4)
      16.0

    Source: RankTower (arXiv 2407.12385), equation 1; the range of tau is our reading.
    """

    def __init__(self, temperature: float = 1.0, learnable: bool = True, **kwargs: Any) -> None:
        super().__init__(**full_precision(kwargs))
        self.scale = Temperature(temperature, learnable, name="temperature", dtype=self._dtype_policy)

    def build(self, input_shape: Any) -> None:
        user, item = (tf.TensorShape(shape) for shape in input_shape)
        if not (user.rank or 0) >= 2 <= (item.rank or 0) or user[-1] is None or user[-1] != item[-1]:
            raise ValueError(f"MaxSim: inputs must be (..., heads, d) with one static d, got {user} and {item}")
        super().build(input_shape)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        user, item = (at_least_float32(x) for x in inputs)
        return self._score(user, item, tf.matmul(user, item, transpose_b=True))

    def all_pairs(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        users_at_once: int = USERS_AT_ONCE,
        items_at_once: int = ITEMS_AT_ONCE,
    ) -> tf.Tensor:
        """Scores of all users with all items, in memory for `users_at_once x items_at_once` of them.

        Args:
          users: (U, H_u, d).
          items: (N, H_i, d).
          users_at_once: see `score_all_pairs`.
          items_at_once: see `score_all_pairs`.

        Returns:
          (U, N).
        """
        users, items = (at_least_float32(x) for x in (users, items))
        if not self.built:
            self.build((users.shape, items.shape))
        return score_all_pairs(self._grid, users, items, users_at_once, items_at_once)

    def _grid(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """(U, H_u, d), (N, H_i, d) -> (U, N), by one matrix product."""
        products = tf.transpose(tf.tensordot(users, items, [[2], [2]]), (0, 2, 1, 3))
        return self._score(users[:, tf.newaxis], items[tf.newaxis], products)

    def _score(self, user: tf.Tensor, item: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
        """The logits from the heads and their products (..., H_u, H_i)."""
        user_squares, item_squares = (tf.reduce_sum(tf.square(heads), axis=-1) for heads in (user, item))
        short = tf.logical_or(_short(user_squares)[..., tf.newaxis], _short(item_squares)[..., tf.newaxis, :])
        products = tf.where(short, tf.stop_gradient(products), products)
        # A user's length is a positive factor of all that it is compared with: it can wait until the best is found.
        best = tf.reduce_max(products * _inverse_lengths(item_squares)[..., tf.newaxis, :], axis=-1)
        return self.scale(tf.reduce_sum(best * _inverse_lengths(user_squares), axis=-1))

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        user, item = (tf.TensorShape(shape)[:-2] for shape in input_shape)
        return tf.broadcast_static_shape(user, item)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.scale.start, "learnable": self.scale.learnable}


def _short(squares: tf.Tensor) -> tf.Tensor:
    """Whether a head is so short that the gradient of its direction, which grows as 1 / length, would do harm."""
    return squares <= LEAST_LENGTH**2


def _inverse_lengths(squares: tf.Tensor) -> tf.Tensor:
    """1 / max(length, 1e-8), of the length's square."""
    return tf.math.rsqrt(tf.maximum(squares, LEAST_LENGTH**2))
