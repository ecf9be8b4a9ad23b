"""RankTower: gated heads of both sides, cross-attention between them, maximum similarity."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import GatedCrossAttention, MaxSim, MultiHeadGate
from xdeepint_ext.models.towers import TowerModel, Towers, two_numbers
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.registry import register


class RankTowers(Towers):
    """The dense part of a `RankTower`; arguments and formulas are there.

    A representation is what attention needs of a side, (..., heads, 5 d) or 4 d without the residual; without attention
    the heads, (..., heads, d).
    """

    def __init__(
        self,
        heads: tuple[int, int],
        head_dim: int,
        gate: dict[str, Any],
        attention: bool,
        residual: bool,
        temperature: float,
        learnable_temperature: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        user_heads, item_heads = heads
        self.user_heads = MultiHeadGate(user_heads, head_dim, **gate, name="user_heads")
        self.item_heads = MultiHeadGate(item_heads, head_dim, **gate, name="item_heads")
        self.attention = GatedCrossAttention(head_dim, residual, name="attention") if attention else None
        self.max_sim = MaxSim(temperature, learnable_temperature, name="max_sim")

    def build(self, input_shape: Any) -> None:
        if self.attention is not None:  # its parts are called one by one, so Keras would not build it
            with tf.name_scope(self.attention.name):
                user, items = (h.compute_output_shape((None,)) for h in (self.user_heads, self.item_heads))
                self.attention.build((user, tf.TensorShape([None]).concatenate(items)))
        super().build(input_shape)

    def user(self, x: Any, training: bool | None = None) -> tf.Tensor:
        heads = self.user_heads(x, training=training)
        return heads if self.attention is None else self.attention.project_user(heads)

    def item(self, x: Any, training: bool | None = None) -> tf.Tensor:
        heads = self.item_heads(x, training=training)
        return heads if self.attention is None else self.attention.project_items(heads)

    def score(self, user: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        pair = (user[:, tf.newaxis], items) if self.attention is None else self.attention.attend(user, items)
        return self.max_sim(pair)


@register
class RankTower(TowerModel):
    """`logit = sum_p max_q cos(e_u^p, e_i^q) / tau`, of heads that see each other by gated cross-attention.

    Each tower is a `MultiHeadGate` on its field matrix; `GatedCrossAttention` and `MaxSim` do the rest. What attention
    needs of an item depends on the item alone, so that `item_tower` can be computed once and kept; `score` is the part
    that needs both. The paper trains it with `HybridRankTowerLoss` on lists; see docs/losses.md.

    Args:
      schema: a `Schema` whose inputs have roles; see `TowerModel`.
      width: K. Our choice: 16, as for all models here.
      num_heads: H_u and H_i; one number for both, or two. Our choice: 4.
      head_dim: d. Our choice: 16.
      units: widths of each tower's MLP. Default: 300, 300, 128, IntTower's code.
      gate_input: see `MultiHeadGate`. Our reading: `hidden`.
      dropout: behind the MLP's layers. Our choice: none.
      attention: False leaves cross-attention out.
      residual: see `GatedCrossAttention`. Our reading: True.
      temperature: tau at the start. Our choice: 0.1, logits within 40 of 0.
      learnable_temperature: see `MaxSim`. Paper: True.
      embedding_initializer, name: see `RankingModel`.

    The paper publishes none of its hyper-parameters.

    Raises:
      ValueError: an argument is out of range, or see `TowerModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> schema = Schema([Feature("user", role="user", num_values=9), Feature("item", role="item", num_values=9)])
      >>> model = RankTower(schema, units=[8])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])
      >>> items = model.item_tower({"item": tf.constant([[3], [4], [5]])})
      >>> model.score(model.user_tower({"user": tf.constant([[1]])}), items[tf.newaxis]).shape
      TensorShape([1, 3])

    Source: Yan and Li, RankTower (arXiv 2407.12385); equation 1 is `MaxSim`, the other blocks are our reading.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 16,
        num_heads: int | Sequence[int] = 4,
        head_dim: int = 16,
        units: Sequence[int] = (300, 300, 128),
        gate_input: str = "hidden",
        dropout: float = 0.0,
        attention: bool = True,
        residual: bool = True,
        temperature: float = 0.1,
        learnable_temperature: bool = True,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        self.num_heads, self.units = two_numbers("RankTower: num_heads", num_heads), list(units)
        self._options: dict[str, Any] = {
            "head_dim": head_dim,
            "attention": attention,
            "residual": residual,
            "temperature": temperature,
            "learnable_temperature": learnable_temperature,
        }
        self._gate_options: dict[str, Any] = {"gate_input": gate_input, "dropout": dropout}
        gate = {"units": list(units), **self._gate_options}
        self.add_towers(functools.partial(RankTowers, self.num_heads, gate=gate, **self._options))

    def get_config(self) -> dict[str, Any]:
        own = {"num_heads": list(self.num_heads), "units": list(self.units)}
        return {**super().get_config(), **own, **self._gate_options, **self._options}
