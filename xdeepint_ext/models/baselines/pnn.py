"""Product-based neural network."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import InnerProduct, OuterProduct
from xdeepint_ext.models.baselines.parts import DeepModel
from xdeepint_ext.utils.registry import register


@register
class PNN(DeepModel):
    """`logit = w . MLP([z, p]) + b`: z is the concatenated embeddings, p their inner and outer products.

    The first layer of the MLP is the paper's `relu(l_z + l_p + b_1)`, as `W [z, p] = W_z z + W_p p`.

    Args:
      schema: a `Schema`.
      inner_products: whether p holds the inner products of the pairs (IPNN).
      outer_product: (OPNN) one of `OuterProduct`'s kinds; None = none. Default: the paper's `superposition`.
        xDeepInt's paper uses inner and outer products together, the default here.
      self_products: see `InnerProduct`.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`.

    Raises:
      ValueError: there is neither an inner nor an outer product, or outer_product is unknown.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = PNN(Schema([Feature("user", num_values=9), Feature("item", num_values=9)]), units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Qu et al., Product-based Neural Networks (arXiv 1611.00144), equations 1 to 6 and §III.
    """

    def __init__(
        self,
        schema: Any,
        *,
        inner_products: bool = True,
        outer_product: str | None = "superposition",
        self_products: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, **kwargs)
        if not inner_products and outer_product is None:
            raise ValueError("PNN: wants inner products, an outer product, or both; got False, None")
        self._product_options = {
            "inner_products": inner_products,
            "outer_product": outer_product,
            "self_products": self_products,
        }
        self.products: list[tf.keras.layers.Layer] = []
        if inner_products:
            self.products.append(InnerProduct(self_products, name="inner"))
        if outer_product is not None:
            self.products.append(OuterProduct(outer_product, name="outer"))

    def vector(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        flat = tf.reshape(x, (-1, x.shape[1] * x.shape[2]))
        return self.deep(tf.concat([flat, *(product(x) for product in self.products)], axis=1), training=training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._product_options}
