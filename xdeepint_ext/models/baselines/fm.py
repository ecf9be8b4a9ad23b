"""Factorisation machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import SumHead
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.registry import register


@register
class FM(RankingModel):
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
        self.linear: Any = self.make_embedding(len(self.tasks), initializer="zeros", name="linear")

    def make_heads(self) -> dict[str, tf.keras.layers.Layer]:
        """A sum over the fields, of the linear weights, for each task."""
        return {task: SumHead(name=f"head_{task}") for task in self.tasks}

    def embed(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """(B, F, K + tasks): the factors, then each task's linear weight."""
        return tf.concat([self.embedding(features), self.linear(features)], axis=2)

    def head(self, x: tf.Tensor, training: bool | None = None) -> Any:
        """Linear part plus pairwise part."""
        factors, *columns = tf.split(x, [self.width, *[1] * len(self.tasks)], axis=2)
        factors = at_least_float32(factors)  # a difference of squares
        square_of_sum = tf.square(tf.reduce_sum(factors, axis=1))
        sum_of_squares = tf.reduce_sum(tf.square(factors), axis=1)
        pairs = 0.5 * tf.reduce_sum(square_of_sum - sum_of_squares, axis=1, keepdims=True)
        linear = {task: self.heads[task](column) for task, column in zip(self.tasks, columns, strict=True)}
        return self.by_task({task: value + tf.cast(pairs, value.dtype) for task, value in linear.items()})
