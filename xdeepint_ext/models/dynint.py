"""DynInt: xDeepInt whose interaction parameters depend on the instance."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import DynamicActivationPIN, DynamicGeneratedPIN, DynamicWeightedPIN
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.registry import register

MODES = {
    "activation": DynamicActivationPIN,
    "generated": DynamicGeneratedPIN,
    "weighted": DynamicWeightedPIN,
}
"""The paper's DA, DGP and DWP."""


@register
class DynInt(RankingModel):
    """xDeepInt's logit on dynamic interaction layers: DynInt-DA, -DGP or -DWP by `mode`.

    Args:
      schema: a `Schema`; see `RankingModel`.
      mode: `activation` (DA), `generated` (DGP) or `weighted` (DWP). Default `weighted`, the paper's best on Criteo.
      width: K. Paper: 16.
      num_layers: L. Paper: 1 .. 4 on validation; default 3, its best on Avazu and iPinYou.
      num_subspaces: h, must divide K. Paper: 1 .. 16 on validation; default 4, its best on the same two.
      rank: R of `generated` (paper: 16 .. 128) and `weighted` (1 .. 4); None = the layers' defaults, 64 and 2, the best
        of its sweeps. Without effect for `activation`.
      reduction_ratio: of the generators. Paper: 2 .. 16; default 16.
      orthogonal_rate: of the penalty on the factors. Paper: 0 .. 0.8; default 0.
      layer_options: further arguments of the layer, such as `offset`, `sigma`, `shared_generator`.
      embedding_initializer: of the tables; see `FeatureEmbedding`.
      name: of the model.

    Raises:
      ValueError: mode is unknown, an argument of the layer is out of range, or the rank is above F h.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> schema = Schema([Feature("user", num_values=9), Feature("item", num_values=7)])
      >>> DynInt(schema, mode="activation")({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [0]])}).shape
      TensorShape([2, 1])

    Source: Yan and Li, DynInt (arXiv 2301.08139), §3 and Table 1.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        mode: str = "weighted",
        width: int = 16,
        num_layers: int = 3,
        num_subspaces: int = 4,
        rank: int | None = None,
        reduction_ratio: int = 16,
        orthogonal_rate: float = 0.0,
        layer_options: dict[str, Any] | None = None,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        if mode not in MODES:
            raise ValueError(f"DynInt: mode must be one of {sorted(MODES)}, got {mode!r}")
        if width % num_subspaces:
            raise ValueError(f"DynInt: num_subspaces must divide the embedding width {width}, got {num_subspaces}")
        self._options: dict[str, Any] = {
            "mode": mode,
            "num_layers": num_layers,
            "num_subspaces": num_subspaces,
            "rank": rank,
            "reduction_ratio": reduction_ratio,
            "orthogonal_rate": orthogonal_rate,
            "layer_options": dict(layer_options or {}),
        }
        ranked = {} if rank is None or mode == "activation" else {"rank": rank}
        self.pin: tf.keras.layers.Layer = MODES[mode](
            num_layers,
            num_subspaces,
            reduction_ratio=reduction_ratio,
            orthogonal_rate=orthogonal_rate,
            name="pin",
            **ranked,
            **(layer_options or {}),
        )
        rows = num_subspaces * (self.schema.num_fields if self.schema is not None else self.num_fields or 0)
        if getattr(self.pin, "rank", 0) > rows:
            raise ValueError(
                f"DynInt: rank must be at most F h = {rows}, the rows of the interaction layers; got {self.pin.rank}"
            )

    def interaction(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The dynamic interaction layers."""
        return self.pin(x, training=training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._options, "layer_options": dict(self._options["layer_options"])}
