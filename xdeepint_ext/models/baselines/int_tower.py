"""IntTower."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import LightSE
from xdeepint_ext.models.towers import TowerModel, Towers, each_item, two_numbers
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.replicas import sum_over_replicas

CONTRAST_TEMPERATURE = 0.07


class NormalizedMLP(tf.keras.layers.Layer):
    """`relu(BN(x W + b))` and dropout, layer after layer; gives all its layers' inputs and the last one's output.

    `there`, (B,), says which rows enter the statistics of BN.
    """

    def __init__(self, units: Sequence[int], dropout: float, batch_norm: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not units or any(n < 1 for n in units):
            raise ValueError(f"IntTower: units must be widths > 0, got {list(units)}")
        self.dense = [tf.keras.layers.Dense(n, name=f"dense_{i}") for i, n in enumerate(units)]
        self.norms = [tf.keras.layers.BatchNormalization(name=f"norm_{i}") for i, _ in enumerate(units) if batch_norm]
        self.dropout = tf.keras.layers.Dropout(dropout)

    def call(self, inputs: tf.Tensor, there: tf.Tensor | None = None, training: bool | None = None) -> list[tf.Tensor]:
        found = [inputs]
        for number, dense in enumerate(self.dense):
            x = dense(found[-1])
            if self.norms:
                x = self.norms[number](x, training=training, mask=there)
            found.append(self.dropout(tf.nn.relu(x), training=training))
        return found


class InteractionTowers(Towers):
    """The dense part of an `IntTower`; arguments and formulas are there.

    Representations: users (U, L H_u, d), heads of every layer; items (N, H_i, d).
    """

    def __init__(
        self,
        num_heads: tuple[int, int],
        head_dim: int,
        units: Sequence[int],
        dropout: float,
        batch_norm: bool,
        contrast_weight: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        user_heads, item_heads = num_heads
        self.head_dim = head_dim
        self.contrast_weight = contrast_weight
        self.user_se, self.item_se = LightSE(name="user_se"), LightSE(name="item_se")
        self.user_mlp = NormalizedMLP(units, dropout, batch_norm, name="user_mlp")
        self.item_mlp = NormalizedMLP(units, dropout, batch_norm, name="item_mlp")
        self.user_maps = [
            tf.keras.layers.Dense(user_heads * head_dim, name=f"user_map_{i}") for i, _ in enumerate(units)
        ]
        self.item_map = tf.keras.layers.Dense(item_heads * head_dim, name="item_map")

    def build(self, input_shape: Any) -> None:
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")
        super().build(input_shape)

    def user(self, x: Any, training: bool | None = None) -> tf.Tensor:
        return self._user_heads(self._hidden(self.user_se, self.user_mlp, x, training))

    def item(self, x: Any, training: bool | None = None) -> tf.Tensor:
        return self._heads(self.item_map(self._hidden(self.item_se, self.item_mlp, x, training)[-1]))

    def score(self, user: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        products = at_least_float32(tf.einsum("upd,unqd->unpq", user, items))
        return tf.reduce_sum(tf.reduce_max(products, axis=3), axis=2) + tf.cast(self.bias, products.dtype)

    def call(self, inputs: tuple[Any, Any], labels: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        user, items = inputs
        there = None if labels is None else tf.reshape(labels >= 0, [-1])  # padding must not enter the statistics
        of_user = self._hidden(self.user_se, self.user_mlp, user, training)
        of_items = each_item(lambda x: self._hidden(self.item_se, self.item_mlp, x, training, there)[-1], items)
        if labels is not None and self.contrast_weight:
            self.add_loss(self.contrast_weight * contrast(of_user[-1], of_items, labels))
        item_heads = each_item(lambda x: self._heads(self.item_map(x)), of_items)
        return self.score(self._user_heads(of_user), item_heads)

    @staticmethod
    def _hidden(
        se: LightSE, mlp: NormalizedMLP, x: tf.Tensor, training: bool | None, there: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        weighted = se(x)
        return mlp(tf.reshape(weighted, (-1, x.shape[1] * x.shape[2])), there=there, training=training)

    def _user_heads(self, hidden: list[tf.Tensor]) -> tf.Tensor:
        """Inputs of all layers -> (U, L H_u, d)."""
        heads = [self._heads(linear(x)) for linear, x in zip(self.user_maps, hidden[:-1], strict=True)]
        return tf.concat(heads, axis=1)

    def _heads(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, (-1, x.shape[1] // self.head_dim, self.head_dim))


def contrast(user: tf.Tensor, items: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """InfoNCE: mean over positive pairs (u, i) of `-log(exp(cos(u, i) / t) / sum_j exp(cos(u, j) / t))`, t = 0.07.

    Args:
      user: (U, d).
      items: (U, n, d). All items of the batch but padding are j; of several replicas, all of one's.
      labels: (U, n): above 0 is positive, below 0 padding.

    Returns:
      A scalar; 0 without a positive.
    """
    # Vectors behind relu may be zeros, whose direction has no gradient.
    user, items = (tf.math.l2_normalize(at_least_float32(x), axis=-1, epsilon=1e-4) for x in (user, items))
    everyone = tf.reshape(items, (-1, items.shape[-1]))
    logits = tf.matmul(user, everyone, transpose_b=True) / CONTRAST_TEMPERATURE
    there = tf.reshape(labels >= 0, (1, -1))
    total = tf.reduce_logsumexp(tf.where(there, logits, logits.dtype.min), axis=1, keepdims=True)
    own = tf.einsum("ud,und->un", user, items) / CONTRAST_TEMPERATURE
    positive = tf.cast(labels > 0, own.dtype)
    loss, count = sum_over_replicas([tf.reduce_sum(positive * (total - own)), tf.reduce_sum(positive)])
    return tf.math.divide_no_nan(loss, count)


@register
class IntTower(TowerModel):
    """`logit = sum_l sum_p max_q <F_u^{l,p}, F_i^q> + b`: heads of every layer of the user's tower meet the item's.

    Both field matrices pass a `LightSE` and an MLP with batch normalisation. `F_u^l` is linear in the input of the l-th
    layer of the user's MLP, `F_i` in the output of the item's last.

    Args:
      schema: a `Schema` whose inputs have roles; see `TowerModel`.
      width: K. Our choice: 16, as for all models here; authors: 32.
      num_heads: H_u and H_i; one number for both, or two. Default: 4, the authors' on advertisements; 32 on MovieLens.
      head_dim: d. Default: 16, the authors' on advertisements; 64 on MovieLens.
      units: widths of both MLPs, L of them. Authors: 300, 300, 128.
      dropout: behind their layers. Our choice: none; authors: 0.3 and 0.5.
      batch_norm: authors: True. Items that labels mark as padding do not enter its statistics in training.
      contrast_weight: of the contrastive regulariser in training: see `contrast`; its form is our reading. Default 0:
        the authors' code has it and leaves it out.
      embedding_initializer, name: see `RankingModel`.

    Raises:
      ValueError: an argument is out of range, or see `TowerModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> schema = Schema([Feature("user", role="user", num_values=9), Feature("item", role="item", num_values=9)])
      >>> model = IntTower(schema, units=[8, 4])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Li et al., IntTower (arXiv 2210.09890), and the authors' code.
    """

    needs_labels = True

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 16,
        num_heads: int | Sequence[int] = 4,
        head_dim: int = 16,
        units: Sequence[int] = (300, 300, 128),
        dropout: float = 0.0,
        batch_norm: bool = True,
        contrast_weight: float = 0.0,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        self.num_heads = two_numbers("IntTower: num_heads", num_heads)
        self.units = list(units)
        for argument, value, least in (("head_dim", head_dim, 1), ("contrast_weight", contrast_weight, 0)):
            if value < least:
                raise ValueError(f"IntTower: {argument} must be >= {least}, got {value}")
        self._options: dict[str, Any] = {
            "head_dim": head_dim,
            "dropout": dropout,
            "batch_norm": batch_norm,
            "contrast_weight": contrast_weight,
        }
        self.add_towers(functools.partial(InteractionTowers, self.num_heads, units=self.units, **self._options))

    def get_config(self) -> dict[str, Any]:
        own = {"num_heads": list(self.num_heads), "units": list(self.units)}
        return {**super().get_config(), **own, **self._options}
