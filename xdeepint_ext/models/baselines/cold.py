"""COLD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import tensorflow as tf

from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.models.baselines.parts import DeepModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.registry import register


@register
class COLD(DeepModel):
    """`logit = w . MLP([s_1 v_1 .. s_F v_F]) + b` of user and item together, `s = sigmoid(W [v_1 .. v_F] + b)`.

    One network that sees every pair as a whole: nothing of it can be kept for an item. In the paper the s choose the
    features: train, take `importance`, keep the best, and train anew with `keep`.

    Args:
      schema: a `Schema`.
      keep: names of the inputs that the model uses, others are not looked up; None = all.
      units: widths of the MLP. Default: 1024, 512, 256, 128, 64, IntTower's implementation.
      width, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`. IntTower's implementation: 16
        columns.

    Raises:
      ValueError: keep names no input, or one that there is not.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = COLD(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Wang et al., COLD (arXiv 2007.16122), §3.2.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        keep: Sequence[str] | None = None,
        units: Sequence[int] = (1024, 512, 256, 128, 64),
        **kwargs: Any,
    ) -> None:
        if keep is not None and not keep:
            raise ValueError("COLD: keep must name at least one input, or be None")
        self._kept = None if keep is None else tuple(keep)
        super().__init__(schema, units=units, **kwargs)
        fields = self.num_fields if self.embedding is None else self.embedding.schema.num_fields
        self.gate = tf.keras.layers.Dense(fields, "sigmoid", name="gate")

    def make_embedding(self, width: int, **kwargs: Any) -> FeatureEmbedding:
        if self._kept is None or self.schema is None:
            return super().make_embedding(width, **kwargs)
        inputs = [feature.name for feature in self.schema.inputs]
        unknown = sorted(set(self._kept) - set(inputs))
        if unknown:
            raise ValueError(f"COLD: keep must name inputs, {inputs}; got {unknown}")
        options = {"initializer": self.embedding_initializer, **kwargs}
        return FeatureEmbedding(self.schema.select(list(self._kept)), width, **options)

    def vector(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.deep(x * self.gates(x)[:, :, tf.newaxis], training=training)

    def gates(self, x: tf.Tensor) -> tf.Tensor:
        """Field matrix (B, F, K) -> s, (B, F)."""
        return self.gate(tf.reshape(x, (-1, x.shape[1] * x.shape[2])))

    def importance(self, features: Mapping[str, tf.Tensor]) -> dict[str, float]:
        """Field -> the mean of its s over a batch; see `keep`."""
        self.build_from_schema()
        means = tf.reduce_mean(tf.cast(self.gates(self.embed(features)), tf.float32), axis=0)
        names = self.embedding.schema.field_names if self.embedding is not None else range(self.gate.units)
        return {str(name): float(mean) for name, mean in zip(names, means, strict=True)}

    def user_tower(self, features: Mapping[str, tf.Tensor]) -> NoReturn:
        """There is none: see the error."""
        self._has_no("user_tower")

    def item_tower(self, features: Mapping[str, tf.Tensor]) -> NoReturn:
        """There is none: see the error."""
        self._has_no("item_tower")

    def score(self, user: tf.Tensor, items: tf.Tensor) -> NoReturn:
        """There is none: see the error."""
        self._has_no("score")

    def _has_no(self, part: str) -> NoReturn:
        raise TypeError(
            f"COLD has no {part}: its one network sees user and item together, so nothing can be kept for either; call "
            "the model itself"
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "keep": None if self._kept is None else list(self._kept)}
