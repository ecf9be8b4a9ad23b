"""Deep & Cross Network, both versions."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.cross import VectorCross
from xdeepint_ext.models.baselines.parts import DeepModel
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag

STRUCTURES = ("parallel", "stacked")


class CrossModel(DeepModel, abc.ABC):
    """Base of both: cross layers on the concatenated embeddings, beside the deep part or before it.

    Args:
      schema: a `Schema`.
      num_layers: L >= 1, cross layers.
      structure: `parallel`: the logit is linear in `[cross, deep]`; or `stacked`: the deep part is on the cross layers.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`.
    """

    def __init__(self, schema: Any, *, num_layers: int = 3, structure: str = "parallel", **kwargs: Any) -> None:
        super().__init__(schema, **kwargs)
        owner = type(self).__name__
        if num_layers < 1:
            raise ValueError(f"{owner}: num_layers must be >= 1, got {num_layers}")
        if structure not in STRUCTURES:
            raise ValueError(f"{owner}: structure must be one of {STRUCTURES}, got {structure!r}")
        self.num_layers = num_layers
        self.structure = structure

    @abc.abstractmethod
    def cross(self, x: tf.Tensor) -> tf.Tensor:
        """(B, F K) -> (B, F K)."""

    def vector(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        flat = tf.reshape(x, (-1, x.shape[1] * x.shape[2]))
        crossed = self.cross(flat)
        if self.structure == "stacked":
            return self.deep(crossed, training=training)
        return tf.concat([crossed, self.deep(flat, training=training)], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_layers": self.num_layers, "structure": self.structure}


@register
class DCN(CrossModel):
    """DCN: cross layers `x_l = x_0 (w_l . x_{l-1}) + b_l + x_{l-1}` beside a deep part.

    Args:
      schema: a `Schema`.
      num_layers: L, cross layers. xDeepInt's paper: 1 to 4; default 3, ours.
      structure: `parallel`, the paper's, or `stacked`.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = DCN(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Wang et al., Deep & Cross Network (arXiv 1708.05123), equations 3 to 5.
    """

    def __init__(self, schema: Any, **kwargs: Any) -> None:
        super().__init__(schema, **kwargs)
        self.crosses = VectorCross(self.num_layers, name="cross")

    def cross(self, x: tf.Tensor) -> tf.Tensor:
        return self.crosses(x)


@register
class DCNV2(CrossModel):
    """DCN-V2: cross layers `x_l = x_0 * (W_l x_{l-1} + b_l) + x_{l-1}` beside a deep part.

    The layer is tensorflow-recommenders' `Cross`.

    Args:
      schema: a `Schema`.
      num_layers: L, cross layers. Default 3, Lin et al.'s (arXiv 2403.14144).
      structure: `parallel` (default, DeepCTR's) or `stacked`; the paper chooses by data.
      projection_dim: rank r of `W = U V^T`; None = a full matrix.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = DCNV2(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Wang et al., DCN V2 (arXiv 2008.13535), equations 1 and 2.
    """

    def __init__(self, schema: Any, *, projection_dim: int | None = None, **kwargs: Any) -> None:
        super().__init__(schema, **kwargs)
        from tensorflow_recommenders.layers.feature_interaction import Cross  # only this model wants it

        self.projection_dim = projection_dim
        self.crosses = [Cross(projection_dim, name=f"cross_{layer}") for layer in range(self.num_layers)]

    def cross(self, x: tf.Tensor) -> tf.Tensor:
        crossed = x
        for layer in self.crosses:
            crossed = layer(x, crossed)
            for weight in layer.weights:
                tag(weight, "interaction")
        return crossed

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projection_dim": self.projection_dim}
