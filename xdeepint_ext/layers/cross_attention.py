"""Gated attention between the heads of a user and those of an item, of parts that each tower makes alone."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.initializers import stacked
from xdeepint_ext.utils.registry import register

MOST_SUMMED = 8
"""Up to so many item heads are added up one by one; more would make large graphs."""


@register
class GatedCrossAttention(tf.keras.layers.Layer):
    """`E_u + G_u * softmax(Q_u K_i' / sqrt(d)) V_i`, and the same of the item, for each pair of user and item.

    `Q = E W_Q, K = E W_K, V = E W_V, G = sigmoid(E W_G + b)`, a user's and an item's with weights of their own. These
    depend on one side only: `project_user` and `project_items` give them, to be kept, and `attend` does the rest; the
    layer's call is the three together.

    Args:
      head_dim: d, columns of Q, K, V and G.
      residual: whether E is added. Default: True, our reading.
      kernel_initializer: of each W. Our choice: Glorot uniform.
      gate_initializer: of each b. Our choice: zeros, gates that start half open.

    Weights:
      user_kernels, item_kernels: (4, columns of E, d), in the order Q, K, V, G; user_bias, item_bias: (d,). One
        matrix for all heads, our reading. Optimizer group `default`: FTRL would pull products of weights to zero.

    Call arguments:
      inputs: (user (U, H_u, d), items (U, n, H_i, d)): n items for each user. d is static.

    Returns:
      (user (U, n, H_u, d), items (U, n, H_i, d)): both as each pair sees them.

    Raises:
      ValueError: head_dim is below 1; shapes do not fit, or with residual E has not d columns.

    Example:
      >>> user, items = GatedCrossAttention(16)((tf.ones((2, 4, 16)), tf.ones((2, 30, 3, 16))))
      >>> user.shape, items.shape
      (TensorShape([2, 30, 4, 16]), TensorShape([2, 30, 3, 16]))

    Source: RankTower (arXiv 2407.12385), which describes the block in words; the formula is our reading of them.
    """

    def __init__(
        self,
        head_dim: int,
        residual: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        gate_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if head_dim < 1:
            raise ValueError(f"GatedCrossAttention: head_dim must be >= 1, got {head_dim}")
        self.head_dim = head_dim
        self.residual = residual
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.gate_initializer = tf.keras.initializers.get(gate_initializer)

    def build(self, input_shape: Any) -> None:
        user, items = (tf.TensorShape(shape) for shape in input_shape)
        if user.rank != 3 or items.rank != 4:
            raise ValueError(
                "GatedCrossAttention: inputs must be (user (U, heads, width), items (U, n, heads, width)), got "
                f"{user} and {items}"
            )
        for side, shape in (("user", user), ("items", items)):
            if shape[-1] is None or (self.residual and shape[-1] != self.head_dim):
                wanted = f"head_dim, {self.head_dim}," if self.residual else "a static number of"
                raise ValueError(f"GatedCrossAttention: heads of {side} must have {wanted} columns, got {shape}")

        def weights(side: str, width: int) -> tuple[tf.Variable, tf.Variable]:
            kernels = self.add_weight(
                name=f"{side}_kernels",
                shape=(4, width, self.head_dim),
                initializer=stacked(self.kernel_initializer),
            )
            return kernels, self.add_weight(
                name=f"{side}_bias", shape=(self.head_dim,), initializer=self.gate_initializer
            )

        self.user_kernels, self.user_bias = weights("user", user[-1])
        self.item_kernels, self.item_bias = weights("item", items[-1])
        super().build(input_shape)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        user, items = inputs
        return self.attend(self.project_user(user), self.project_items(items))

    @property
    def packed_width(self) -> int:
        """Columns of what `project_user` and `project_items` give: 4 d, and d more with the residual."""
        return self.head_dim * (5 if self.residual else 4)

    def project_user(self, user: tf.Tensor) -> tf.Tensor:
        """(..., H_u, d) -> (..., H_u, `packed_width`): Q, K, V, G and, with residual, E side by side."""
        return self._projected(user, self.user_kernels, self.user_bias)

    def project_items(self, items: tf.Tensor) -> tf.Tensor:
        """(..., H_i, d) -> (..., H_i, `packed_width`), as `project_user`."""
        return self._projected(items, self.item_kernels, self.item_bias)

    def attend(self, user: tf.Tensor, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The part that needs both.

        Args:
          user: (U, H_u, `packed_width`) of `project_user`.
          items: (U, n, H_i, `packed_width`) of `project_items`.

        Returns:
          As the layer's call.
        """
        # The user's parts are never repeated for each item: three of the four products are one matrix product a user.
        user_q, user_k, user_v, user_gate, *user_heads = self._parts(user)
        item_q, item_k, item_v, item_gate, *item_heads = self._parts(items)
        of_user = self._shares(tf.einsum("uhd,unkd->unhk", user_q, item_k))
        of_items = self._shares(tf.einsum("unkd,uhd->unkh", item_q, user_k))
        seen_by_user = user_gate[:, tf.newaxis] * _mixed(of_user, item_v)
        seen_by_items = item_gate * tf.einsum("unkh,uhd->unkd", of_items, user_v)
        if not self.residual:
            return seen_by_user, seen_by_items
        return user_heads[0][:, tf.newaxis] + seen_by_user, item_heads[0] + seen_by_items

    def _projected(self, heads: tf.Tensor, kernels: tf.Variable, bias: tf.Variable) -> tf.Tensor:
        # Also called from outside `call`, where Keras casts nothing.
        heads, kernels, bias = (tf.cast(x, self.compute_dtype) for x in (heads, kernels, bias))
        width = kernels.shape[1]
        together = tf.reshape(tf.transpose(kernels, (1, 0, 2)), (width, 4 * self.head_dim))
        projected = tf.tensordot(heads, together, 1)
        plain, gate = tf.split(projected, [3 * self.head_dim, self.head_dim], axis=-1)
        return tf.concat([plain, tf.sigmoid(gate + bias), *([heads] if self.residual else [])], axis=-1)

    def _parts(self, packed: tf.Tensor) -> list[tf.Tensor]:
        if packed.shape[-1] != self.packed_width:
            raise ValueError(
                f"{self.name}: projections must have {self.packed_width} columns, got shape {packed.shape}"
            )
        return tf.split(tf.cast(packed, self.compute_dtype), self.packed_width // self.head_dim, axis=-1)

    def _shares(self, products: tf.Tensor) -> tf.Tensor:
        scores = at_least_float32(products) / self.head_dim**0.5
        return tf.cast(tf.nn.softmax(scores), products.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[tf.TensorShape, tf.TensorShape]:
        user, items = (tf.TensorShape(shape) for shape in input_shape)
        return (
            tf.TensorShape([items[0], items[1], user[1], self.head_dim]),
            tf.TensorShape([items[0], items[1], items[2], self.head_dim]),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "head_dim": self.head_dim,
            "residual": self.residual,
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
            "gate_initializer": tf.keras.initializers.serialize(self.gate_initializer),
        }


def _mixed(shares: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """(U, n, H_u, H_i), (U, n, H_i, d) -> (U, n, H_u, d), sums of the item's heads.

    XLA makes a call for each matrix of a product of small matrices, which costs more than all the rest of `attend`;
    sums of vectors it fuses.
    """
    heads = values.shape[2]
    if heads is None or heads > MOST_SUMMED:
        return tf.einsum("unhk,unkd->unhd", shares, values)
    terms = [shares[..., k : k + 1] * values[:, :, k : k + 1] for k in range(heads)]
    return functools.reduce(tf.add, terms)
