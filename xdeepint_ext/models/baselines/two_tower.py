"""The plain two-tower model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import MLP, Temperature
from xdeepint_ext.models.towers import TowerModel, Towers
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.registry import register

SIMILARITIES = ("cosine", "dot")

LEAST_SQUARE = 1e-8
"""A shorter vector is divided by 1e-4 in place of its length: the gradient of a direction grows as 1 / length."""


class VectorTowers(Towers):
    """A vector for each side by an MLP, and their cosine over tau or their product.

    For the cosine, representations are unit vectors, so that an index of inner products finds the best items.
    """

    def __init__(
        self,
        units: Sequence[int],
        dropout: float,
        similarity: str,
        temperature: float,
        learnable_temperature: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.user_mlp = MLP(units, dropout=dropout, linear_output=True, name="user_mlp")
        self.item_mlp = MLP(units, dropout=dropout, linear_output=True, name="item_mlp")
        cosine = similarity == "cosine"
        self.scale = Temperature(temperature, learnable_temperature, name="temperature") if cosine else None

    def user(self, x: Any, training: bool | None = None) -> tf.Tensor:
        return self._vector(self.user_mlp(x, training=training))

    def item(self, x: Any, training: bool | None = None) -> tf.Tensor:
        return self._vector(self.item_mlp(x, training=training))

    def score(self, user: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        products = tf.einsum("ud,und->un", at_least_float32(user), at_least_float32(items))
        return products if self.scale is None else self.scale(products)

    def product_scale(self) -> float:
        return 1.0 if self.scale is None else 1.0 / float(self.scale.value)

    def _vector(self, x: tf.Tensor) -> tf.Tensor:
        x = at_least_float32(x)
        return x if self.scale is None else tf.math.l2_normalize(x, axis=1, epsilon=LEAST_SQUARE)


@register
class TwoTower(TowerModel):
    """`logit = cos(v_u, v_i) / tau`, or `<v_u, v_i>`: a vector for each side by an MLP on its field matrix.

    Args:
      schema: a `Schema` whose inputs have roles; see `TowerModel`.
      width: K. Our choice: 16, as for all models here.
      units: widths of each MLP; the last, without activation, is that of the vectors. Default: 300, 300, 128, those of
        IntTower's code; COLD's paper: 200, 200, 10.
      dropout: behind the other layers. Our choice: none.
      similarity: `cosine`, the default, IntTower's code; or `dot`, the vector-product model of COLD's paper.
      temperature: tau at the start. Our choice: 0.1, logits within 10 of 0.
      learnable_temperature: whether tau is trained. Our choice: True.
      embedding_initializer, name: see `RankingModel`.

    Raises:
      ValueError: an argument is out of range, or see `TowerModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> schema = Schema([Feature("user", role="user", num_values=9), Feature("item", role="item", num_values=9)])
      >>> model = TwoTower(schema, units=[8, 4])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])
      >>> model.item_tower({"item": tf.constant([[3], [4], [5]])}).shape
      TensorShape([3, 4])

    Source: Huang et al., DSSM (CIKM 2013); Covington, Adams and Sargin (RecSys 2016); COLD (arXiv 2007.16122), §2.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 16,
        units: Sequence[int] = (300, 300, 128),
        dropout: float = 0.0,
        similarity: str = "cosine",
        temperature: float = 0.1,
        learnable_temperature: bool = True,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        if similarity not in SIMILARITIES:
            raise ValueError(f"TwoTower: similarity must be one of {SIMILARITIES}, got {similarity!r}")
        self.units = list(units)
        self._options: dict[str, Any] = {
            "dropout": dropout,
            "similarity": similarity,
            "temperature": temperature,
            "learnable_temperature": learnable_temperature,
        }
        self.add_towers(functools.partial(VectorTowers, self.units, **self._options))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": list(self.units), **self._options}
