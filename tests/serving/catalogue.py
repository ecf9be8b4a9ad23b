"""An exported two-tower model with users and items, for the tests of caches and what stands on them."""

import dataclasses
import functools
import json
from typing import Any

import numpy as np
import tensorflow as tf

from tests.serving import cases
from tests.serving.test_towers import FEATURES
from xdeepint_ext import serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.serving.loaded_towers import LoadedTowers
from xdeepint_ext.serving.rows import examples, typed

ITEMS = 40


@dataclasses.dataclass
class Catalogue:
    """A model, its export, and rows of users and of items (unique ids).

    Args:
      folder: the export.
      logits: (users, items) of the model itself.
    """

    model: Any
    folder: str
    users: list[dict[str, Any]]
    items: list[dict[str, Any]]
    logits: np.ndarray

    @functools.cached_property
    def towers(self) -> LoadedTowers:
        return LoadedTowers(self.folder)

    @property
    def ids(self) -> list[str]:
        return [item["video"] for item in self.items]

    def examples(self, items: list[dict[str, Any]] | None = None) -> list[bytes]:
        specs = self.towers.columns("item")
        return examples(self.items if items is None else items, specs).tolist()

    def check_best(self, user: int, among: list[str], k: int, items: list[str], logits: np.ndarray) -> None:
        """Asserts that these are the user's best k of some items, with their logits, by the model itself.

        Items of equal features have logits that differ by rounding, if at all; their order is left open.
        """
        by_id = dict(zip(self.ids, self.logits[user], strict=True))
        assert len(set(items)) == len(items) == min(k, len(among)) and set(items) <= set(among)
        np.testing.assert_allclose(logits, [by_id[item] for item in items], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(logits, sorted((by_id[i] for i in among), reverse=True)[:k], rtol=1e-6, atol=1e-6)

    def write_items(self, path: Any, items: list[dict[str, Any]] | None = None) -> str:
        """The items as one JSON object a line."""
        rows = self.items if items is None else items
        path.write_text("".join(json.dumps(item) + "\n" for item in rows))
        return str(path)


def catalogue(cls: type, folder: Any, **options: Any) -> Catalogue:
    """A model of the class, exported."""
    case = cases.case(features=FEATURES)
    model = case.model(cls, **options)
    users = case.rows[:3]
    random = np.random.default_rng(2)
    names = [f"v{i}" for i in range(ITEMS)]
    random.shuffle(names)
    items = []
    for name in names:
        tags = [f"tag {i}" for i in random.choice(7, random.integers(0, 4), replace=False)]
        items.append(
            {"video": name, "tags": tags, "tag_weights": random.uniform(0.5, 2.0, len(tags)).round(3).tolist()}
        )
    exported = serving.export(model, case.preprocessor, folder, prune=False, warmup=users)
    return Catalogue(model, exported, users, items, _logits(case, model, users, items))


def _logits(case: cases.Case, model: Any, users: list[dict], items: list[dict]) -> np.ndarray:
    """By the whole model, on rows of every pair."""
    pairs = [{**user, **item} for user in users for item in items]
    raw = {name: tf.constant(x) for name, x in typed(pairs, raw_signature(case.schema)).items()}
    return model(case.preprocessor(raw), training=False).numpy().reshape(len(users), len(items))
