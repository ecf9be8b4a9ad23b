"""A small data set with every kind of feature, and models of it."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from xdeepint_ext import data
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.schema import Feature, Schema

ROWS = 96

FEATURES = (
    Feature("user", "categorical", "user", dtype="int"),
    Feature("country", "categorical", "user", required=False, missing="bucket"),
    Feature("history", "sequence", "user", table="video", max_length=4, min_count=3),
    Feature("age", "numeric", "user", required=False),
    Feature("hour", "categorical", "context", dtype="int", lookup="identity", num_values=24),
    Feature("video", "categorical", "item", table="video", min_count=3),
    Feature("tags", "multi", "item", max_length=3, weights="tag_weights", combiner="mean"),
    Feature("price", "numeric", "item", binning="quantile", num_bins=5),
    Feature("stars", "numeric", "item", scaling="log"),
    Feature("picture", "vector", "item", dimension=3),
    Feature("slot", "categorical", dtype="int", lookup="hash", num_values=11),
)


def frame() -> pd.DataFrame:
    """Rows of every kind: text, integers, lists, missing values, values below the vocabulary's cut-off."""
    random = np.random.default_rng(0)

    def words(prefix: str, count: int, longest: int) -> list[list[str]]:
        return [
            [f"{prefix}{i}" for i in random.integers(0, count, random.integers(0, longest + 1))] for _ in range(ROWS)
        ]

    tags = words("tag ", 7, 3)
    table = pd.DataFrame(
        {
            "user": random.integers(100, 110, ROWS),
            "country": [None if i % 9 == 0 else f"c{i % 4}" for i in range(ROWS)],
            "history": words("v", 40, 6),
            "tags": tags,
            "tag_weights": [random.uniform(0.5, 2.0, len(row)).round(3).tolist() for row in tags],
            "age": [np.nan if i % 7 == 0 else float(i) for i in range(ROWS)],
            "hour": random.integers(0, 24, ROWS),
            "video": [f"v{i}" for i in random.integers(0, 40, ROWS)],
            "price": random.lognormal(size=ROWS).round(3),
            "stars": random.integers(0, 6, ROWS).astype(float),
            "picture": list(random.normal(size=(ROWS, 3)).round(3)),
            "slot": random.integers(0, 1000, ROWS),
        }
    )
    table["click"] = (random.random(ROWS) < 0.4).astype(float)
    table["like"] = (random.random(ROWS) < 0.2).astype(float)
    return table


@dataclasses.dataclass
class Case:
    """A schema, its preprocessor, a batch of model inputs with labels, and the raw rows that they were made of."""

    schema: Schema
    preprocessor: data.Preprocessor
    features: dict[str, tf.Tensor]
    labels: Any
    rows: list[dict[str, Any]]

    def model(self, cls: type = XDeepInt, **options: Any) -> Any:
        """A model with random weights, biases included; it was never called."""
        made = cls(self.schema, **{"width": 8, **options})
        random = np.random.default_rng(1)
        for weight in made.weights:
            weight.assign(random.normal(scale=0.3, size=weight.shape))
        return made

    def scores(self, model: Any) -> dict[str, np.ndarray]:
        """The model's outputs under the names of the signatures."""
        logits = model(self.features, training=False)
        by_name = {f"/{task}": x for task, x in logits.items()} if isinstance(logits, dict) else {"": logits}
        found = {f"logit{name}": x.numpy().astype(np.float64) for name, x in by_name.items()}
        return found | {name.replace("logit", "probability"): 1 / (1 + np.exp(-x)) for name, x in found.items()}


def case(
    label: str | list[str] = "click", features: tuple[Feature, ...] = FEATURES, renamed: dict[str, str] | None = None
) -> Case:
    """The columns of the features and labels through `from_pandas`, as one batch.

    Args:
      label: one task or several.
      features: made of the frame's columns, by their new names.
      renamed: column -> new name.
    """
    table = frame().rename(columns=renamed or {})
    labels = [label] if isinstance(label, str) else label
    columns = {column for f in features for column in (f.raw_name, f.weights)} | set(labels)
    table = table[[name for name in table.columns if name in columns]]
    schema, dataset = data.from_pandas(table, label=label, batch_size=ROWS, features=features)
    batch = next(iter(dataset))
    return Case(schema, dataset.preprocessor, batch[0], batch[1], raw_rows(table, schema))


def raw_rows(table: pd.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    """The frame's rows as a client would send them: JSON's types, None for what is missing."""
    return [{name: _plain(row[name]) for name in raw_signature(schema)} for _, row in table.iterrows()]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if value is None or value != value:
        return None
    return value.item() if isinstance(value, np.generic) else value
