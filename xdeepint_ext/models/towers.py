"""`TowerModel`: the frame of models whose users and items meet only in their representations."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.all_pairs import ITEMS_AT_ONCE, score_all_pairs
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.schema import INPUT_ROLES, Schema
from xdeepint_ext.utils.signatures import items_a_list

LABELS = "labels:"
"""The key under which the features of a training step hold the labels, for towers that `need_labels`: no feature's."""


class Towers(tf.keras.layers.Layer, abc.ABC):
    """The dense part of a `TowerModel`: a representation of each side alone, and a score of two of them.

    Call arguments:
      inputs: (users (U, F_u, K), items (U, n, F_i, K)), field matrices, or what the model's `embed_user` and
        `embed_items` give in their place.
      labels: (U, n) below 0 where padding, in training of towers that `need_labels`; else None.
      training: whether dropout acts and losses are added.

    Returns:
      Logits (U, n).
    """

    @abc.abstractmethod
    def user(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """(U, F_u, K) -> a representation (U, ...)."""

    @abc.abstractmethod
    def item(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """(N, F_i, K) -> a representation (N, ...)."""

    @abc.abstractmethod
    def score(self, user: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Representations (U, ...) and (U, n, ...) -> logits (U, n)."""

    def product_scale(self) -> float | None:
        """The c of logits that are `c <user, item>` of vectors, which an index of products can find; else None."""
        return None

    def call(self, inputs: tuple[Any, Any], labels: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        user, items = inputs
        return self.score(self.user(user, training), each_item(lambda x: self.item(x, training), items))


class TowerModel(RankingModel, abc.ABC):
    """Base of the two-tower models: `score(user_tower(user features), item_tower(item features))`.

    Roles in the schema divide the features: those of `user` and `context` belong to the user tower, those of `item` to
    the item tower. Towers share tables, as a history and an item id do, and nothing else. Several labels in the schema
    are several tasks, each with towers of its own on the shared tables, our choice; then representations and logits are
    dicts by task.

    The model is called with rows, a user and an item each, as all models here, or with lists: see `RankingModel`. A
    user's tower is computed once a list.

    Args:
      schema: a `Schema` whose inputs all have roles; see `RankingModel`.
      width, embedding_initializer, name: see `RankingModel`.

    Subclasses override:
      make_towers: the `Towers` of a task.
      embed_user, embed_items: where the towers want more than field matrices.
      needs_labels: whether the towers want the labels in training.

    Raises:
      ValueError: an input has no role of one tower, or a tower has no input.
    """

    needs_labels = False

    def __init__(self, schema: Schema | str | None, **kwargs: Any) -> None:
        super().__init__(schema, **kwargs)
        if self.schema is None:
            raise ValueError(f"{type(self).__name__} divides features by their roles: it needs a schema")
        self.user_features, self.item_features = sides_of(self.schema, type(self).__name__)
        self.towers: dict[str, Towers] = {}

    def make_heads(self) -> dict[str, tf.keras.layers.Layer]:
        """None: the towers give logits."""
        return {}

    def add_towers(self, make_towers: Callable[..., Towers]) -> None:
        """Makes the towers of all tasks; a subclass's constructor ends with it."""
        self.towers = {task: make_towers(name=f"towers_{task}") for task in self.tasks}

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> Any:
        """Features -> what the user tower takes; by default the field matrix (U, F_u, K)."""
        return self.embedding(features, only=self.user_features)

    def embed_items(self, features: Mapping[str, tf.Tensor]) -> Any:
        """Features, (N, length) or lists (U, n, length) -> what the item tower takes: by default (N, F_i, K)."""
        return self.embedding(features, only=self.item_features)

    def trunk(self, x: Any, training: bool | None = None) -> Any:
        """(users, items (U, n, ...), labels by task) -> logits (U, n)."""
        user, items, labels = x
        return self.by_task(
            {
                task: towers((user, items), labels=labels.get(task), training=training)
                for task, towers in self.towers.items()
            }
        )

    def call(self, features: Any, training: bool | None = None) -> Any:
        items = self._items(features)
        user, embedded = self.embed_user(features), self.embed_items(features)
        one_user = self.embedding.repeats_single_rows and tf.nest.flatten(user)[0].shape[0] == 1
        length = items if items is not None else 1 if not one_user else tf.shape(tf.nest.flatten(embedded)[0])[0]
        labels = self._labels(features, length) if training else {}
        logits = self.through_trunk((user, _in_lists(embedded, length), labels), training)
        return logits if items is not None else tf.nest.map_structure(lambda x: tf.reshape(x, (-1, 1)), logits)

    def user_tower(self, features: Mapping[str, tf.Tensor]) -> Any:
        """Representations of users, which no item enters.

        Args:
          features: those of user and context, (U, length).

        Returns:
          (U, ...), or a dict by task.
        """
        self.build_from_schema()
        x = self.embed_user(features)
        return self.by_task({task: towers.user(x, training=False) for task, towers in self.towers.items()})

    def item_tower(self, features: Mapping[str, tf.Tensor]) -> Any:
        """Representations of items, which no user enters.

        Args:
          features: those of items, (N, length), or lists (U, n, length).

        Returns:
          (N, ...) or (U, n, ...), or a dict by task.
        """
        self.build_from_schema()
        items = self._items(features)
        x = self.embed_items(features)
        found = {task: towers.item(x, training=False) for task, towers in self.towers.items()}
        return self.by_task(found if items is None else {task: _in_lists(y, items) for task, y in found.items()})

    def score(self, user: Any, items: Any) -> Any:
        """Logits of representations: all that has to be computed when a request comes.

        Args:
          user: (U, ...) of `user_tower`.
          items: (U, n, ...) of `item_tower`: n for each user.

        Returns:
          (U, n), or a dict by task.
        """
        self.build_from_schema()
        if len(self.tasks) == 1:
            return self.towers[self.tasks[0]].score(user, items)
        return {task: towers.score(user[task], items[task]) for task, towers in self.towers.items()}

    def score_all_pairs(
        self, user: tf.Tensor, items: tf.Tensor, users_at_once: int = 1, items_at_once: int = ITEMS_AT_ONCE
    ) -> Any:
        """Logits of all users with all items, in bounded memory.

        Args:
          user: (U, ...) of `user_tower`.
          items: (N, ...) of `item_tower`.
          users_at_once: see `xdeepint_ext.layers.score_all_pairs`; more than 1 repeats the items for each.
          items_at_once: see there.

        Returns:
          (U, N), or a dict by task.
        """
        self.build_from_schema()
        several = len(self.tasks) > 1

        def of_task(task: str) -> tf.Tensor:
            def score(some: tf.Tensor, chunk: tf.Tensor) -> tf.Tensor:
                shape = tf.concat([tf.shape(some)[:1], tf.shape(chunk)], axis=0)
                return self.towers[task].score(some, tf.broadcast_to(chunk[tf.newaxis], shape))

            own = (user[task], items[task]) if several else (user, items)
            return score_all_pairs(score, *own, users_at_once, items_at_once)

        return self.by_task({task: of_task(task) for task in self.tasks})

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Keras's step, with the labels among the features where the towers want them."""
        if self.needs_labels:
            x, y, sample_weight = tf.keras.utils.unpack_x_y_sample_weight(data)
            data = ({**x, LABELS: y}, y, sample_weight)
        return super().train_step(data)

    def _items(self, features: Mapping[str, tf.Tensor]) -> int | tf.Tensor | None:
        """N of lists, None for rows; once it is sure that exactly the items' features are lists."""
        assert self.schema is not None
        for name in self.user_features:
            if name in features and len(features[name].shape) > 2:
                raise ValueError(
                    f"{self.name}: feature {name!r} is of the user or the context, so it must have shape (lists, "
                    f"length), got {features[name].shape}"
                )
        ranks = {name: len(features[name].shape) for name in self.item_features if name in features}
        if 3 in ranks.values() and set(ranks.values()) != {3}:
            raise ValueError(f"{self.name}: all features of items must be lists, or none; their ranks are {ranks}")
        return items_a_list(self.schema, features, [*ranks])

    def _labels(self, features: Mapping[str, Any], length: Any) -> dict[str, tf.Tensor]:
        labels = features.get(LABELS)
        if labels is None:
            return {}
        by_task = labels if isinstance(labels, Mapping) else {task: labels for task in self.tasks}
        return {task: tf.reshape(tf.cast(by_task[task], tf.float32), (-1, length)) for task in self.tasks}


def sides_of(schema: Schema, owner: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(features of user and context, features of items), names in the schema's order.

    Args:
      schema: the schema.
      owner: begins the message.

    Raises:
      ValueError: a feature belongs to neither or both, or a side has none.
    """
    sides: dict[str, list[str]] = {"user": [], "item": []}
    for feature in schema.inputs:
        roles = set(feature.roles) & set(INPUT_ROLES)
        if not roles or (roles != {"item"} and "item" in roles):
            raise ValueError(
                f"{owner}: every input must belong to one tower, by its role user or context, or item; feature "
                f"{feature.name!r} has {sorted(roles) or 'none of them'}"
            )
        sides["item" if "item" in roles else "user"].append(feature.name)
    for side, names in sides.items():
        if not names:
            raise ValueError(f"{owner}: the schema has no input of role {side}; its features: {schema!r}")
    return tuple(sides["user"]), tuple(sides["item"])


def two_numbers(argument: str, value: int | Sequence[int]) -> tuple[int, int]:
    """(of the user, of the item) from one number for both, or two.

    Raises:
      ValueError: there are not two, or one is below 1.
    """
    numbers = (value, value) if isinstance(value, int) else tuple(value)
    if len(numbers) != 2 or any(number < 1 for number in numbers):
        raise ValueError(f"{argument} must be a number >= 1, or two for user and item; got {value}")
    return numbers[0], numbers[1]


def each_item(function: Callable[[Any], tf.Tensor], items: Any) -> tf.Tensor:
    """`function`, (N, ...) -> (N, ...), of the items of lists, (U, n, ...) each."""
    flat = tf.nest.map_structure(lambda x: tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0)), items)
    flat = tf.nest.map_structure(lambda y, x: tf.ensure_shape(y, [None, *x.shape[2:]]), flat, items)
    return _in_lists(function(flat), tf.nest.flatten(items)[0].shape[1] or tf.shape(tf.nest.flatten(items)[0])[1])


def _in_lists(x: Any, length: Any) -> Any:
    """(U n, ...) -> (U, n, ...) of all tensors of a nest."""
    return tf.nest.map_structure(lambda y: tf.reshape(y, [-1, length, *y.shape[1:]]), x)
