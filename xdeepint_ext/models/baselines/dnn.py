"""A deep network on concatenated embeddings."""

from __future__ import annotations

from xdeepint_ext.models.baselines.parts import DeepModel
from xdeepint_ext.utils.registry import register


@register
class DNN(DeepModel):
    """`logit = w . MLP([v_1 .. v_F]) + b`.

    Args:
      schema, width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`.

    Example:
      >>> import tensorflow as tf
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = DNN(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Covington, Adams and Sargin (RecSys 2016), section 4, as the papers here use it.
    """
