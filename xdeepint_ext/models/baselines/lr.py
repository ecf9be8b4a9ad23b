"""Logistic regression on the schema's ids and numbers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import SumHead
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.registry import register


@register
class LR(RankingModel):
    """Logistic regression: `logit = sum_f w[id_f] + b`, one weight an id (or a number's coefficient), one table a task.

    Args:
      schema: a `Schema`.
      embedding_initializer: of the weights. Our choice: zeros, the usual start of a convex problem.
      name: of the model.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = LR(Schema([Feature("user", num_values=9)]))
      >>> model({"user": tf.constant([[1], [2]])}).shape
      TensorShape([2, 1])
    """

    def __init__(
        self, schema: Schema | str, *, embedding_initializer: Any = "zeros", name: str | None = None, **kwargs: Any
    ) -> None:
        if schema is None:
            raise ValueError("LR has tables of its own: it needs a schema")
        schema = Schema.from_json(schema) if isinstance(schema, str) else schema
        options = {**kwargs, "width": max(len(schema.tasks), 1), "embedding_initializer": embedding_initializer}
        super().__init__(schema, name=name, **options)

    def make_heads(self) -> dict[str, tf.keras.layers.Layer]:
        """A sum over the fields for each task."""
        return {task: SumHead(name=f"head_{task}") for task in self.tasks}

    def head(self, x: tf.Tensor, training: bool | None = None) -> Any:
        """Column t of the (B, F, tasks) weights is task t's."""
        columns = tf.split(x, len(self.tasks), axis=2)
        return self.by_task({task: self.heads[task](column) for task, column in zip(self.tasks, columns, strict=True)})
