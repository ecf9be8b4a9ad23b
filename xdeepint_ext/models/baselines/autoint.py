"""AutoInt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import InteractingLayer
from xdeepint_ext.models.baselines.parts import DeepModel
from xdeepint_ext.utils.registry import register


@register
class AutoInt(DeepModel):
    """`logit = w . [y_1 .. y_F] + b`, where y is the field matrix behind L layers of self-attention over the fields.

    Args:
      schema: a `Schema`.
      num_layers: L >= 1. Paper: 3; xDeepInt's paper: 1 to 4.
      num_heads: of each layer. Paper: 2.
      head_dim: columns of a head. Paper: 32.
      residual, scaled: see `InteractingLayer`.
      units: widths of a deep part on the embeddings, whose logit is added (the paper's AutoInt+, with two layers).
        Default: none, the paper's AutoInt.
      width, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`. Paper: 16 columns.

    Raises:
      ValueError: num_layers, num_heads or head_dim is below 1.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = AutoInt(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), head_dim=4)
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Song et al., AutoInt (arXiv 1810.11921), equations 5 to 9.
    """

    def __init__(
        self,
        schema: Any,
        *,
        num_layers: int = 3,
        num_heads: int = 2,
        head_dim: int = 32,
        residual: bool = True,
        scaled: bool = False,
        units: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, units=units, **kwargs)
        if num_layers < 1:
            raise ValueError(f"AutoInt: num_layers must be >= 1, got {num_layers}")
        self._attention_options: dict[str, Any] = {
            "num_heads": num_heads,
            "head_dim": head_dim,
            "residual": residual,
            "scaled": scaled,
        }
        self.attention = [
            InteractingLayer(**self._attention_options, name=f"interacting_{layer}") for layer in range(num_layers)
        ]

    def make_deep(self, units: Sequence[int], **options: Any) -> tf.keras.layers.Layer | None:
        return super().make_deep(units, **options) if units else None

    def vector(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        attended = x
        for layer in self.attention:
            attended = layer(attended)
        flat = tf.reshape(attended, (-1, attended.shape[1] * attended.shape[2]))
        return flat if self.deep is None else tf.concat([flat, self.deep(x, training=training)], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_layers": len(self.attention), **self._attention_options}
