"""An exported two-tower model in the hands of a client: users and items in, representations and scores out.

Needs TensorFlow and the exported folder, and nothing of the training code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.serving.rows import typed
from xdeepint_ext.serving.version_folder import version_dir

FACTS = "towers.json"
REPRESENTATION, USER, ITEMS, SCORE = "representation", "user", "items", "score"
SIDES = ("user", "item")
TOWER = {side: f"{side}_tower" for side in SIDES}
EXAMPLES = {side: f"{side}_tower_examples" for side in SIDES}

Representations = dict[str, np.ndarray]
"""Task -> (N, ...) float32."""


class LoadedTowers:
    """The towers of an export.

    Args:
      model: folder of a SavedModel, or a base folder (the highest version in it).

    Raises:
      FileNotFoundError: no SavedModel there.
      ValueError: the model has no towers.

    Example:
      >>> towers = LoadedTowers("models/clicks")  # doctest: +SKIP
      >>> user = towers.users([{"user": 3, "age": None}])  # doctest: +SKIP
      >>> logits = towers.score(user, towers.items(examples))  # doctest: +SKIP
    """

    def __init__(self, model: str | os.PathLike[str]) -> None:
        self.folder = version_dir(os.fspath(model))
        file = os.path.join(self.folder, FACTS)
        if not os.path.exists(file):
            raise ValueError(f"the model at {self.folder} has no towers: no {FACTS}; export a two-tower model")
        with open(file, encoding="utf-8") as stream:
            facts = json.load(stream)
        self.fingerprint: str = facts["fingerprint"]
        self.tasks: tuple[str, ...] = tuple(facts["tasks"])
        self.item_id: Mapping[str, str] | None = facts["item_id"]
        self.product_scale: Mapping[str, float | None] = facts["product_scale"]
        self._loaded = tf.saved_model.load(self.folder)
        self._signatures = self._loaded.signatures

    def columns(self, side: str) -> dict[str, tf.TensorSpec]:
        """The raw columns of a side, `user` or `item`."""
        return dict(self._signatures[TOWER[side]].structured_input_signature[1])

    @property
    def module(self) -> Any:
        """The loaded SavedModel, to become part of another one."""
        return self._loaded

    def user_tower(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Raw tensors of users -> task -> representations, also inside a graph."""
        return self._by_task(self._signatures[TOWER["user"]](**raw))

    def users(self, rows: Sequence[Mapping[str, Any]], **options: Any) -> Representations:
        """Representations of users.

        Args:
          rows: column -> value; columns of items may be there or not.
          **options: see `xdeepint_ext.serving.rows.typed`.

        Raises:
          RowError: a row does not fit.
        """
        feed = typed(rows, self.columns("user"), **options)
        return _arrays(self.user_tower({name: tf.constant(array) for name, array in feed.items()}))

    def items(self, examples: Sequence[bytes] | np.ndarray) -> Representations:
        """Representations of items, from serialized tf.Examples that have their raw columns.

        Raises:
          tf.errors.InvalidArgumentError: an example lacks a column, or has one of another type.
        """
        return _arrays(self._by_task(self._signatures[EXAMPLES["item"]](examples=tf.constant(examples, tf.string))))

    def score(self, user: Mapping[str, Any], items: Mapping[str, Any]) -> Representations:
        """Logits of one user's representation, (1, ...) by task, and items', (N, ...): task -> (N,)."""
        feed = {self._name(USER, task): tf.constant(user[task]) for task in self.tasks}
        feed |= {self._name(ITEMS, task): tf.constant(items[task]) for task in self.tasks}
        outputs = self._signatures[SCORE](**feed)
        return {task: outputs[self._name("logit", task)].numpy()[:, 0] for task in self.tasks}

    def task(self, task: str | None) -> str:
        """The task of a name; without one the model's only task.

        Raises:
          ValueError: there is no such task, or the model has several and none was named.
        """
        if task is None and len(self.tasks) > 1:
            raise ValueError(f"task: the model has several, {list(self.tasks)}; name one")
        if task is not None and task not in self.tasks:
            raise ValueError(f"task must be one of {list(self.tasks)}, got {task!r}")
        return task or self.tasks[0]

    def _by_task(self, outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {task: outputs[self._name(REPRESENTATION, task)] for task in self.tasks}

    def _name(self, kind: str, task: str) -> str:
        return f"{kind}/{task}" if len(self.tasks) > 1 else kind


def as_towers(model: LoadedTowers | str | os.PathLike[str]) -> LoadedTowers:
    """The model of a folder; a loaded one as it is."""
    return model if isinstance(model, LoadedTowers) else LoadedTowers(model)


def _arrays(tensors: Mapping[str, tf.Tensor]) -> Representations:
    return {task: tensor.numpy() for task, tensor in tensors.items()}
