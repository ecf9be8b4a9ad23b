"""The retrieval models: what a user's vector is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import CausalSelfAttention, RecencyPooling
from xdeepint_ext.models.retrieval import RetrievalModel, as_schema
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.registry import register

POOLINGS = ("mean", "recency")


@register
class MatrixFactorization(RetrievalModel):
    """A row for each user and each item: `logit = gamma cos(p_u, q_i)`.

    Args:
      schema: users with their items; a history in it is left out.
      **options: see `RetrievalModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> item = Feature("item", "multi", "item", max_length=1, num_values=9)
      >>> model = MatrixFactorization(Schema([Feature("user", role="user", num_values=9), item]), width=4)
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Rendle et al. (arXiv 1205.2618), §4.3.1; with cosines SimpleX's MF-CCL (arXiv 2109.12613), §3.
    """

    def __init__(self, schema: Schema | str | None, **options: Any) -> None:
        super().__init__(as_schema(schema, "MatrixFactorization", "history"), **options)
        self.add_encoder()

    def make_encoder(self) -> tf.keras.layers.Layer:
        return _Row(name="encoder")

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> Any:
        return {"user": self.embedding(features, only=self.user_features)[:, 0]}


@register
class PooledHistory(RetrievalModel):
    """The user's vector is linear in the mean of his items' rows, and in a row of his own where the schema has his id.

    Args:
      schema: users with their items, and their histories.
      pooling: `mean`, the paper's; `recency`: weighted by learned weights of the places from the end.
      project: whether the mean goes through a square matrix, with offset; the repository's "DNN". False needs a schema
        without the user's id.
      dropout: of the items' rows. CROLoss: 0.
      **options: see `RetrievalModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> items = Feature("items", "sequence", "user", table="item", max_length=3, num_values=9)
      >>> item = Feature("item", "multi", "item", max_length=1, num_values=9)
      >>> model = PooledHistory(Schema([items, item]), width=4)
      >>> model({"items": tf.constant([[1, 2, 0]]), "item": tf.constant([[3]])}).shape
      TensorShape([1, 1])

    Source: CROLoss (arXiv 2208.02971), §4.1, and the authors' code; Covington, Adams and Sargin (RecSys 2016).
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        pooling: str = "mean",
        project: bool = True,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(schema, **options)
        if pooling not in POOLINGS:
            raise ValueError(f"PooledHistory: pooling must be one of {POOLINGS}, got {pooling!r}")
        if self.catalogue.history is None:
            raise ValueError("PooledHistory: the schema has no history; MatrixFactorization needs none")
        if not project and self.catalogue.user is not None:
            raise ValueError("PooledHistory: project=False needs a schema without the user's id")
        self.pooling, self.project, self.dropout = pooling, project, dropout
        self.add_encoder()

    def make_encoder(self) -> tf.keras.layers.Layer:
        history = self.catalogue.history
        assert history is not None
        pooling = RecencyPooling(self.pooling == "recency", history.length, name="pooling")
        return _Pooled(pooling, self.width if self.project else None, self.dropout, name="encoder")

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> Any:
        return embed_history(self, features, padded=False)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooling": self.pooling, "project": self.project, "dropout": self.dropout}


@register
class SelfAttentiveHistory(RetrievalModel):
    """The user's vector is what blocks of causal self-attention make of the last place of his history.

    As no place sees a later one, a history trains the model at all of its places: `draw=windows`.

    Args:
      schema: users with their items, and their histories; a user's id in it is left out.
      num_blocks: of attention. SASRec: 2.
      num_heads: of a block, a divisor of the width. SASRec: 1; ours: 2.
      dropout: in the blocks, and of the items' rows. SASRec: 0.2 on dense, 0.5 on sparse sets; ours: 0.2.
      **options: see `RetrievalModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> items = Feature("items", "sequence", "user", table="item", max_length=3, num_values=9)
      >>> item = Feature("item", "multi", "item", max_length=1, num_values=9)
      >>> model = SelfAttentiveHistory(Schema([items, item]), width=4)
      >>> model({"items": tf.constant([[1, 2, 0]]), "item": tf.constant([[3]])}).shape
      TensorShape([1, 1])

    Source: Kang and McAuley, SASRec (arXiv 1808.09781); what differs is in `CausalSelfAttention`.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        num_blocks: int = 2,
        num_heads: int = 2,
        dropout: float = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(as_schema(schema, "SelfAttentiveHistory", "user"), **options)
        if num_blocks < 1:
            raise ValueError(f"SelfAttentiveHistory: num_blocks must be >= 1, got {num_blocks}")
        self.num_blocks, self.num_heads, self.dropout = num_blocks, num_heads, dropout
        self.add_encoder()

    def make_encoder(self) -> tf.keras.layers.Layer:
        return _Attentive(self.num_blocks, self.num_heads, self.dropout, name="encoder")

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> Any:
        return embed_history(self, features)

    def get_config(self) -> dict[str, Any]:
        names = ("num_blocks", "num_heads", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def embed_history(
    model: RetrievalModel, features: Mapping[str, tf.Tensor], padded: bool = True
) -> dict[str, tf.Tensor]:
    """`items`, `length` (U,), and the `user` (U, K) where the schema has his id.

    Items are (U, H, K), or not `padded`, (sum of lengths, K), one history after the other: most places of most
    histories are empty, and neither looked up nor trained then.
    """
    history, user = model.catalogue.history, model.catalogue.user
    assert history is not None
    ids = tf.reshape(features[history.name], (-1, history.length))
    length = tf.reduce_sum(tf.cast(ids > 0, tf.int32), axis=1)
    if padded:
        items = model.embedding(features, only=(history.name,))
    else:
        there = tf.boolean_mask(ids, tf.sequence_mask(length, history.length))
        item = model.catalogue.item.name  # in whose table histories are
        items = model.embedding({item: there[:, tf.newaxis]}, only=(item,))[:, 0]
    found = {"items": items, "length": length}
    if user is not None:
        found["user"] = model.embedding(features, only=(user.name,))[:, 0]
    return found


class _Row(tf.keras.layers.Layer):
    """The user's own row."""

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        return inputs["user"]


class _Pooled(tf.keras.layers.Layer):
    """See `PooledHistory`."""

    def __init__(self, pooling: RecencyPooling, units: int | None, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pooling = pooling
        self.dense = tf.keras.layers.Dense(units, name="projection") if units else None
        self.drop = tf.keras.layers.Dropout(dropout)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        pooled = self.pooling([self.drop(inputs["items"], training=training), inputs["length"]])
        joined = tf.concat([inputs["user"], pooled], axis=1) if "user" in inputs else pooled
        return joined if self.dense is None else self.dense(joined)


class _Attentive(tf.keras.layers.Layer):
    """See `SelfAttentiveHistory`."""

    def __init__(self, num_blocks: int, num_heads: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = [CausalSelfAttention(num_heads, dropout=dropout, name=f"block_{i}") for i in range(num_blocks)]
        self.norm = tf.keras.layers.LayerNormalization(epsilon=1e-6, name="norm")
        self.drop = tf.keras.layers.Dropout(dropout)

    def everywhere(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """(U, H, K): the vector at every place."""
        x = self.drop(inputs["items"], training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.norm(x)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        length = inputs["length"]
        last = tf.gather(self.everywhere(inputs, training), tf.maximum(length - 1, 0), batch_dims=1)
        return tf.where(length[:, tf.newaxis] > 0, last, tf.zeros_like(last))
