"""What the baselines share: a first-order part beside the embeddings, and a dense head on vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import MLP, SumHead
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.dtypes import at_least_float32, full_precision


class FirstOrderModel(RankingModel):
    """Base of the models with a weight for each id: its tables' columns stand behind those of the embeddings.

    Each task has a column of its own; the embeddings are shared.

    Args: as of `RankingModel`; the first-order weights start at 0.
    """

    def __init__(self, schema: Schema | str, **kwargs: Any) -> None:
        super().__init__(schema, **kwargs)
        self.linear: Any = self.make_embedding(len(self.tasks), initializer="zeros", name="linear")
        self.linear_heads = {task: SumHead(name=f"linear_head_{task}") for task in self.tasks}

    def embed(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """(B, F, K + tasks): the embeddings, then each task's first-order weight."""
        return tf.concat([self.embedding(features), self.linear(features)], axis=2)

    def split_wide(self, x: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """(field matrix, task -> `sum_f w[id_f] + b`)."""
        matrix, *columns = tf.split(x, [self.width, *[1] * len(self.tasks)], axis=2)
        return matrix, {task: self.linear_heads[task](column) for task, column in zip(self.tasks, columns, strict=True)}


class DeepModel(RankingModel):
    """Base of the models whose logit is `w . h + b` for a vector h of the field matrix.

    Args:
      schema: a `Schema`; see `RankingModel`.
      width: K. xDeepInt's paper: 16 for all its baselines.
      units: widths of the deep part. Default 400, 400, 400, DeepFM's; xDeepInt's paper: 1 to 4 layers of 128 to 1024.
      activation: of the deep part.
      dropout: behind its layers.
      kernel_l2: L2 penalty of the deep part's kernels. xDeepInt's paper: 1e-4 to 1e-3; default 0, ours.
      embedding_initializer: of the tables; see `FeatureEmbedding`.
      name: of the model.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 16,
        units: Sequence[int] = (400, 400, 400),
        activation: str = "relu",
        dropout: float = 0.0,
        kernel_l2: float = 0.0,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        self._deep_options: dict[str, Any] = {
            "units": list(units),
            "activation": activation,
            "dropout": dropout,
            "kernel_l2": kernel_l2,
        }
        self.deep: Any = self.make_deep(
            units,
            activation=activation,
            dropout=dropout,
            kernel_regularizer=tf.keras.regularizers.L2(kernel_l2) if kernel_l2 else None,
            name="deep",
        )

    def make_deep(self, units: Sequence[int], **options: Any) -> tf.keras.layers.Layer | None:
        """The deep part. A subclass may make another layer of the same options, or none."""
        return MLP(units, **options)

    def make_heads(self) -> dict[str, tf.keras.layers.Layer]:
        """One dense unit for each task."""
        return {task: tf.keras.layers.Dense(1, **full_precision({"name": f"head_{task}"})) for task in self.tasks}

    def vector(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(B, F, K) -> h, (B, n). By default the deep part alone."""
        return self.deep(x, training=training)

    def head(self, x: tf.Tensor, training: bool | None = None) -> Any:
        hidden = self.vector(x, training=training)
        return self.by_task({task: head(hidden) for task, head in self.heads.items()})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._deep_options, "units": list(self._deep_options["units"])}


def pairwise_products(matrix: tf.Tensor) -> tf.Tensor:
    """`sum_{f<g} <v_f, v_g>` of a field matrix, (B, 1), in O(F K): half of the square of the sum less the squares."""
    matrix = at_least_float32(matrix)  # a difference of squares
    square_of_sum = tf.square(tf.reduce_sum(matrix, axis=1))
    sum_of_squares = tf.reduce_sum(tf.square(matrix), axis=1)
    return 0.5 * tf.reduce_sum(square_of_sum - sum_of_squares, axis=1, keepdims=True)
