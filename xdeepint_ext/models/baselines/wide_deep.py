"""Wide & Deep."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.models.baselines.parts import DeepModel, FirstOrderModel
from xdeepint_ext.utils.registry import register


@register
class WideDeep(DeepModel, FirstOrderModel):
    """`logit = sum_f w[id_f] + w . MLP([v_1 .. v_F]) + b`.

    The wide part is one weight for each id; crossed columns, which the paper chooses by hand, are features like others.

    Args:
      schema: a `Schema`.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = WideDeep(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Cheng et al., Wide & Deep Learning (arXiv 1606.07792), equation 3.
    """

    def head(self, x: tf.Tensor, training: bool | None = None) -> Any:
        matrix, wide = self.split_wide(x)
        hidden = self.vector(matrix, training=training)
        return self.by_task({task: wide[task] + self.heads[task](hidden) for task in self.tasks})
