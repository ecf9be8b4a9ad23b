"""`TwoLogitRanker`: a model of two logits, one for each class, as joint ranking and calibration wants it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.losses import JRCLoss
from xdeepint_ext.models.wrapped_model import WrappedModel
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.signatures import items_a_list


@register
class TwoLogitRanker(WrappedModel):
    """A backbone with a logit for each class, f_0 and f_1: its loss sees both, all others see `f_1 - f_0`.

    `sigmoid(f_1 - f_0)` is the probability of class 1. The compiled loss, `JRCLoss` where none is given, gets logits
    (B, 2); calls, `predict`, metrics and what is served have the difference (B, 1), as of any other model.

    Args:
      schema: a `Schema` (or its JSON text).
      backbone: what makes a `RankingModel` of a schema, such as a class: it is given this one with two labels in the
        place of each, `LABEL_0` and `LABEL_1`. None: `DCNV2`.
      name: of the model.

    Call arguments:
      features: see `RankingModel`.
      training: whether dropout acts.
      pairs: whether both logits are returned, (B, 2), of lists (U, n, 2).

    Returns:
      `f_1 - f_0`, (B, 1), of lists (U, n); or a dict of it by task where the schema has several labels.

    Example:
      >>> from xdeepint_ext.models import XDeepInt
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = TwoLogitRanker(Schema([Feature("user", num_values=9)]), backbone=XDeepInt)
      >>> [model({"user": tf.constant([[1], [2]])}, pairs=pairs).shape[1] for pairs in (False, True)]
      [1, 2]

    Source: Sheng et al., Joint Optimization of Ranking and Calibration (arXiv 2208.06164), section 3.
    """

    @classmethod
    def backbone_schema(cls, schema: Schema) -> Schema:
        """The schema with a label for each class of a label."""
        inputs = [feature for feature in schema if feature not in schema.labels]
        tasks = schema.tasks or ("label",)
        return Schema([*inputs, *(Feature(name, "numeric", "label") for task in tasks for name in _classes(task))])

    def call(self, features: Any, training: bool | None = None, pairs: bool = False) -> Any:
        logits = self.as_lists(features, self.through_trunk(self.embed(features), training))
        by_task = {task: [logits[name] for name in _classes(task)] for task in self.tasks}
        if not pairs:
            return self.by_task({task: second - first for task, (first, second) in by_task.items()})
        of_lists = self.schema is not None and items_a_list(self.schema, features) is not None
        join = tf.stack if of_lists else tf.concat
        return self.by_task({task: join(both, axis=-1) for task, both in by_task.items()})

    def compile(self, optimizer: Any = None, loss: Any = None, *args: Any, **kwargs: Any) -> None:
        """Configures training; see `RankingModel.compile`. The loss sees two logits; default: `JRCLoss`."""
        super().compile(optimizer, JRCLoss() if loss is None else loss, *args, **kwargs)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Keras's step, in which the loss sees both logits and the metrics their difference."""
        x, y, sample_weight = tf.keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            pairs = self(x, training=True, pairs=True)
            loss = self.compute_loss(x, y, pairs, sample_weight)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return self.compute_metrics(x, y, _differences(pairs), sample_weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Keras's step of an evaluation, likewise."""
        x, y, sample_weight = tf.keras.utils.unpack_x_y_sample_weight(data)
        pairs = self(x, training=False, pairs=True)
        self.compute_loss(x, y, pairs, sample_weight)
        return self.compute_metrics(x, y, _differences(pairs), sample_weight)


def _classes(task: str) -> tuple[str, str]:
    return f"{task}_0", f"{task}_1"


def _differences(pairs: Any) -> Any:
    """(..., 2) -> class 1 less class 0, (B, 1) of rows and (U, n) of lists."""

    def difference(pair: tf.Tensor) -> tf.Tensor:
        return pair[:, 1:] - pair[:, :1] if pair.shape.rank == 2 else pair[..., 1] - pair[..., 0]

    return tf.nest.map_structure(difference, pairs)
