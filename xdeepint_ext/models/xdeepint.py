"""xDeepInt: polynomial interaction network on sub-spaces, with an optional deep part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import MLP, PIN, MultiHeadPIN
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.dtypes import full_precision
from xdeepint_ext.utils.registry import register


@register
class XDeepInt(RankingModel):
    """Logit `sum_k (w X_L + b)_k`, where `X_l = X_{l-1} * (W_{l-1} X_0 + 1)` on h sub-spaces; see `PIN`.

    Args:
      schema: a `Schema`; see `RankingModel`.
      width: K. Paper: 16.
      num_layers: L. Paper: 1 .. 4 on validation; our default 3 is the best of its Table 2 on Avazu and iPinYou.
      num_subspaces: h, must divide K. Paper: 1 .. 16 on validation; our default 4 is the best of its Table 3 on the
        same two.
      activation: of the aggregated map. Paper: linear.
      dropout: see `PIN`. Authors: none.
      residual: see `PIN`. Paper: True.
      dnn_units: widths of a deep part on the same embeddings, whose logit is added ("xDeepInt+", Table 7: three
        layers). How the two join is our reading.
      dnn_dropout: its dropout.
      heads: one mapping of `PIN` arguments per head: a `MultiHeadPIN` in place of the one PIN (authors' code only);
        num_layers, num_subspaces, activation, dropout and residual are then without effect.
      head_width: columns of a head; default: width.
      kernel_initializer: of the interaction kernels. Authors: Glorot uniform.
      kernel_regularizer: of the interaction kernels. Authors: none in effect.
      embedding_initializer: of the tables; see `FeatureEmbedding`.
      name: of the model.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = XDeepInt(Schema([Feature("user", num_values=9), Feature("item", num_values=7)]), num_layers=2)
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [0]])}).shape
      TensorShape([2, 1])

    Source: Yan and Li, xDeepInt (arXiv 2301.01089), §3 and Tables 2-7.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 16,
        num_layers: int = 3,
        num_subspaces: int = 4,
        activation: Any = None,
        dropout: float | Sequence[float] = 0.0,
        residual: bool = True,
        dnn_units: Sequence[int] = (),
        dnn_dropout: float = 0.0,
        heads: Sequence[Mapping[str, Any]] | None = None,
        head_width: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        if heads is None and width % num_subspaces:
            raise ValueError(f"XDeepInt: num_subspaces must divide the embedding width {width}, got {num_subspaces}")
        self._options = {
            "num_layers": num_layers,
            "num_subspaces": num_subspaces,
            "activation": activation,
            "dropout": dropout,
            "residual": residual,
            "kernel_initializer": kernel_initializer,
            "kernel_regularizer": kernel_regularizer,
        }
        self._deep_options: dict[str, Any] = {"dnn_units": list(dnn_units), "dnn_dropout": dnn_dropout}
        self._head_width = head_width
        if heads is None:
            self.pin: tf.keras.layers.Layer = PIN(**self._options, name="pin")
        else:
            self.pin = MultiHeadPIN(heads, head_width or width, kernel_initializer, name="multi_head_pin")
        self.deep = MLP(dnn_units, dropout=dnn_dropout, name="deep") if dnn_units else None
        self.deep_heads = (
            {task: tf.keras.layers.Dense(1, **full_precision({"name": f"deep_head_{task}"})) for task in self.tasks}
            if dnn_units
            else {}
        )

    def interaction(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The polynomial interaction layers."""
        return self.pin(x, training=training)

    def trunk(self, x: tf.Tensor, training: bool | None = None) -> Any:
        """The interaction part's logits plus, where there is one, the deep part's."""
        logits = super().trunk(x, training=training)
        if self.deep is None:
            return logits
        hidden = self.deep(x, training=training)
        deep = self.by_task({task: head(hidden) for task, head in self.deep_heads.items()})
        return tf.nest.map_structure(tf.add, logits, deep)

    def get_config(self) -> dict[str, Any]:
        pin = PIN(**self._options).get_config()
        options = {key: pin[key] for key in self._options}
        deep = {**self._deep_options, "dnn_units": list(self._deep_options["dnn_units"])}
        heads = self.pin.get_config()["heads"] if isinstance(self.pin, MultiHeadPIN) else None
        return {**super().get_config(), **options, **deep, "heads": heads, "head_width": self._head_width}
