"""xDeepFM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import CIN
from xdeepint_ext.models.baselines.wide_deep import WideDeep
from xdeepint_ext.utils.registry import register


@register
class XDeepFM(WideDeep):
    """`logit = sum_f w[id_f] + w_c . CIN(X) + w_d . MLP(X) + b`: Wide & Deep and a compressed interaction network.

    Args:
      schema: a `Schema`.
      cin_units: rows of the CIN's layers; see `CIN`.
      split_half: see `CIN`.
      cin_activation: of the CIN. Paper: identity, None.
      width, units, activation, dropout, kernel_l2, embedding_initializer, name: see `DeepModel`. Paper: 10 columns,
        layers of 400.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> schema = Schema([Feature("user", num_values=9), Feature("item", num_values=9)])
      >>> model = XDeepFM(schema, cin_units=[4], units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Lian et al., xDeepFM (arXiv 1803.05170), equation 15.
    """

    def __init__(
        self,
        schema: Any,
        *,
        cin_units: Sequence[int] = (100, 100, 100),
        split_half: bool = False,
        cin_activation: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, **kwargs)
        self.cin = CIN(cin_units, split_half, cin_activation, name="cin")

    def vector(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return tf.concat([self.cin(x), self.deep(x, training=training)], axis=1)

    def get_config(self) -> dict[str, Any]:
        cin = self.cin.get_config()
        own = {"cin_units": cin["units"], "split_half": cin["split_half"], "cin_activation": cin["activation"]}
        return {**super().get_config(), **own}
