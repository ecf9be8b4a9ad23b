"""FiBiNET."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import SENET, BilinearInteraction
from xdeepint_ext.models.baselines.wide_deep import WideDeep
from xdeepint_ext.utils.registry import register


@register
class FiBiNET(WideDeep):
    """`logit = sum_f w[id_f] + w . MLP([p, q]) + b`: bilinear products p of the embeddings, q of the re-weighted ones.

    Args:
      schema: a `Schema`.
      bilinear_kind: of both products; see `BilinearInteraction`. Each has weights of its own, as in the authors' code.
      reduction_ratio: see `SENET`.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`. Paper: on Criteo 10
        columns, three layers of 400, dropout 0.5.

    Raises:
      ValueError: bilinear_kind is unknown, or reduction_ratio is below 1.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = FiBiNET(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Huang et al., FiBiNET (arXiv 1905.09433), §3.
    """

    def __init__(
        self, schema: Any, *, bilinear_kind: str = "field_all", reduction_ratio: int = 3, **kwargs: Any
    ) -> None:
        super().__init__(schema, **kwargs)
        self.bilinear_kind = bilinear_kind
        self.senet = SENET(reduction_ratio, name="senet")
        self.bilinear = BilinearInteraction(bilinear_kind, name="bilinear")
        self.senet_bilinear = BilinearInteraction(bilinear_kind, name="senet_bilinear")

    def vector(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        products = tf.concat([self.bilinear(x), self.senet_bilinear(self.senet(x))], axis=1)
        return self.deep(products, training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bilinear_kind": self.bilinear_kind,
            "reduction_ratio": self.senet.reduction_ratio,
        }
