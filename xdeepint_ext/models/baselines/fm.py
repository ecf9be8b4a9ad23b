"""Factorisation machine."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.models.baselines.parts import FirstOrderModel, pairwise_products
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.registry import register


@register
class FM(FirstOrderModel):
    """Factorisation machine: `logit = sum_f w[id_f] + b + sum_{f<g} <v_f, v_g>`, in O(F K).

    With several tasks each has its own linear part; the factors are shared.

    Args:
      schema: a `Schema`.
      width: K, columns of the factors. Paper's embedding width: 16.
      embedding_initializer: of the factors; the linear weights start at 0.
      name: of the model.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = FM(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), width=4)
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Rendle, Factorization Machines (ICDM 2010), equation 1 and Lemma 3.1.
    """

    def __init__(
        self,
        schema: Schema | str,
        *,
        width: int = 16,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)

    def make_heads(self) -> dict[str, tf.keras.layers.Layer]:
        """None but those of the first-order part."""
        return {}

    def split_wide(self, x: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """(factors, task -> linear part plus pairwise part)."""
        factors, linear = super().split_wide(x)
        pairs = pairwise_products(factors)
        return factors, {task: value + tf.cast(pairs, value.dtype) for task, value in linear.items()}

    def head(self, x: tf.Tensor, training: bool | None = None) -> Any:
        """The wide part is all."""
        return self.by_task(self.split_wide(x)[1])
