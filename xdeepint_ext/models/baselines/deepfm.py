"""DeepFM."""

from __future__ import annotations

from xdeepint_ext.models.baselines.fm import FM
from xdeepint_ext.models.baselines.wide_deep import WideDeep
from xdeepint_ext.utils.registry import register


@register
class DeepFM(WideDeep, FM):
    """`logit = sum_f w[id_f] + sum_{f<g} <v_f, v_g> + w . MLP([v_1 .. v_F]) + b`, on one set of embeddings.

    Wide & Deep whose wide part is a factorisation machine.

    Args:
      schema: a `Schema`.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`. Paper: 10 columns,
        three layers of 400, dropout 0.5.

    Example:
      >>> import tensorflow as tf
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = DeepFM(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Guo et al., DeepFM (arXiv 1703.04247), equations 1 to 4.
    """
