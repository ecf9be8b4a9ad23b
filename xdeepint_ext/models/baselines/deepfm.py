"""DeepFM."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.models.baselines.parts import DeepModel, FirstOrderModel, pairwise_products
from xdeepint_ext.utils.registry import register


@register
class DeepFM(DeepModel, FirstOrderModel):
    """`logit = sum_f w[id_f] + sum_{f<g} <v_f, v_g> + w . MLP([v_1 .. v_F]) + b`, on one set of embeddings.

    Args:
      schema: a `Schema`.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`. Paper: 10 columns,
        three layers of 400, dropout 0.5.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = DeepFM(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Guo et al., DeepFM (arXiv 1703.04247), equations 1 to 4.
    """

    def vector(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.deep(x, training=training)

    def head(self, x: tf.Tensor, training: bool | None = None) -> Any:
        matrix, linear = self.split_first_order(x)
        hidden = self.vector(matrix, training=training)
        pairs = pairwise_products(matrix)
        logits = {task: linear[task] + tf.cast(pairs, linear[task].dtype) for task in self.tasks}
        return self.by_task({task: logits[task] + self.heads[task](hidden) for task in self.tasks})
