"""The user's rows of a field matrix: which they are, and a projection of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.models.wrapped_model import WrappedModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag


class UserFields:
    """Takes the user's rows out of a field matrix, and puts others in their place.

    Args:
      schema: of the features that the matrix's rows are made of.
      names: the user's features. None: those with the role user and without the role item; what is of the context, or
        has no role, is not the user's, as in the paper, which has it beside the items.
      owner: begins the message.

    Raises:
      ValueError: a name is no input, or there is none.
    """

    def __init__(self, schema: Schema, names: Sequence[str] | None, owner: str) -> None:
        inputs = [feature.name for feature in schema.inputs]
        if names is None:
            names = [f.name for f in schema.inputs if "user" in f.roles and "item" not in f.roles]
        unknown = sorted(set(names) - set(inputs))
        if unknown or not names:
            raise ValueError(
                f"{owner}: user_features must name at least one of the inputs {inputs} (default: those of role user); "
                f"got {unknown or list(names)}"
            )
        self.names = tuple(name for name in inputs if name in names)
        rows = [(feature.name in names, feature.num_rows) for feature in schema.inputs]
        # Neighbours together: each part of a split has a gradient as large as itself.
        runs = itertools.groupby(rows, key=lambda row: row[0])
        self._runs = [(is_user, sum(number for _, number in run)) for is_user, run in runs]
        self._lengths = [number for _, number in self._runs]
        self._user_lengths = [number for is_user, number in self._runs if is_user]

    def split(self, x: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Field matrix (B, F, K) -> (the user's rows side by side (B, F_u K), the other rows, in pieces).

        Raises:
          ValueError: the matrix has not a row for each field.
        """
        if x.shape[1] != sum(self._lengths):
            raise ValueError(f"the field matrix must have a row for each of {sum(self._lengths)} fields, got {x.shape}")
        parts = tf.split(x, self._lengths, axis=1)
        own = [part for part, (is_user, _) in zip(parts, self._runs, strict=True) if is_user]
        others = [part for part, (is_user, _) in zip(parts, self._runs, strict=True) if not is_user]
        return tf.reshape(tf.concat(own, axis=1), (-1, sum(self._user_lengths) * x.shape[2])), others

    def join(self, user: tf.Tensor, others: Sequence[tf.Tensor]) -> tf.Tensor:
        """The inverse of `split`."""
        rows = sum(self._user_lengths)
        own = iter(tf.split(tf.reshape(user, (-1, rows, user.shape[1] // rows)), self._user_lengths, axis=1))
        rest = iter(others)
        return tf.concat([next(own) if is_user else next(rest) for is_user, _ in self._runs], axis=1)


class Bottleneck(tf.keras.layers.Layer):
    """`x P Q`: (B, n) -> (B, n) by `units` numbers. Its weights are of the optimizer group `default`."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        size = int(input_shape[-1])
        self.down = tag(self.add_weight(name="down", shape=(size, self.units), initializer="glorot_uniform"), "default")
        self.up = tag(self.add_weight(name="up", shape=(self.units, size), initializer="glorot_uniform"), "default")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.matmul(inputs, self.down), self.up)


@register
class UserProjection(WrappedModel):
    """A model in which the user's fields are `[v_1 .. v_{F_u}] P Q`, d numbers a user, in the place of themselves.

    The linear encoder of a user, as an option for every model alike: with `backbone=UserProjection(schema, backbone=f)`
    a `GroupRanker` quantises its output, and `UserProjection(schema, backbone=f)` is the competitor.

    Args:
      schema: a `Schema` with roles.
      backbone: see `GroupRanker`.
      units: d. Our choice: 32, the specification's 16 to 32.
      user_features: see `GroupRanker`.
      name: of the model.

    Example:
      >>> from xdeepint_ext.models import XDeepInt
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> schema = Schema([Feature("user", role="user", num_values=9), Feature("item", role="item", num_values=7)])
      >>> model = UserProjection(schema, backbone=XDeepInt, units=4)
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [0]])}).shape
      TensorShape([2, 1])

    Source: GroupCE (arXiv 2506.12756) does not say what encodes a user; our reading.
    """

    def __init__(
        self,
        schema: Schema | str,
        *,
        backbone: Any = None,
        units: int = 32,
        user_features: Sequence[str] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, backbone=backbone, name=name, **kwargs)
        if units < 1:
            raise ValueError(f"UserProjection: units must be >= 1, got {units}")
        self.fields = UserFields(self.embedding.schema, user_features, "UserProjection")
        self.user_features = None if user_features is None else list(user_features)
        self.bottleneck = Bottleneck(units, name="user_projection")

    def embed(self, features: Any) -> tf.Tensor:
        """The backbone's field matrix with the user's rows projected."""
        user, others = self.fields.split(super().embed(features))
        return self.fields.join(self.bottleneck(user), others)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.bottleneck.units, "user_features": self.user_features}
