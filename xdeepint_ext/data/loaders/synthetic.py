"""Synthetic clicks with a planted polynomial interaction, so that the best reachable AUC is known."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xdeepint_ext.data.raw import Block
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import RandomSplit, hash_rows, row_keys, uniform
from xdeepint_ext.schema import Feature, Schema

__all__ = ["Synthetic", "best_scores"]

_BLOCK_ROWS = 16_384


@dataclasses.dataclass(frozen=True)
class Synthetic:
    r"""Categorical fields and a label whose log-odds are a polynomial of hidden values of the ids.

    Field f has `ids_per_field` ids, drawn from Zipf's law with exponent `zipf`; id i has a hidden value u_f[i] with
    mean `offset` and variance 1 over the records. With S_1, S_2 ... the groups of interacting fields,

        p(label = 1) = sigmoid(z / temperature),   z = (sum_j prod_{f in S_j} u_f - its mean) / its standard deviation.

    With `offset=0` the products have no lower-order part, and a linear model learns nothing at all; the default
    leaves a little, which gives gradient descent a direction to start in. The best reachable AUC and log loss are
    those of p itself on the test records; they are in the manifest's notes as `best_auc` and `best_logloss`. All
    choices are ours.
    """

    rows: int = option(200_000, "records in all")
    fields: int = option(10, "number of fields")
    ids_per_field: int = option(50, "ids of a field")
    order: int = option(3, "fields that are multiplied with one another")
    interactions: int = option(2, "how many such products are summed; they are over other fields each")
    zipf: float = option(1.1, "exponent of the ids' frequencies; 0 = equally frequent")
    offset: float = option(0.5, "mean of the ids' hidden values")
    temperature: float = option(0.4, "noise: 0 = the label is certain")
    valid_fraction: float = option(0.1, "share of the validation split")
    test_fraction: float = option(0.1, "share of the test split")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`; nothing is read."""
        self._check(raw_dir)
        split = RandomSplit(self.valid_fraction, self.test_fraction, seed)
        names = [f"field_{i:02d}" for i in range(self.fields)]
        return Source(
            schema=Schema([*(Feature(name) for name in names), Feature("label", "numeric", "label")]),
            blocks=functools.partial(_blocks, self.rows),
            parse=_Generator(self, seed, split),
            splits=split.splits,
            size=self.rows * self.fields * 10,
            finish=best_scores,
            notes={"interacting_fields": [[names[f] for f in group] for group in self.groups()]},
        )

    def _check(self, raw_dir: str | None) -> None:
        if raw_dir is not None:
            raise ValueError(f"synthetic data has no raw files, got raw_dir={raw_dir!r}")
        for name in ("rows", "fields", "ids_per_field", "order", "interactions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.order * self.interactions > self.fields:
            raise ValueError(
                f"order * interactions must be <= fields, got {self.order} * {self.interactions} > {self.fields}"
            )
        if self.zipf < 0 or self.temperature < 0:
            raise ValueError(f"zipf and temperature must be >= 0, got {self.zipf} and {self.temperature}")

    def groups(self) -> list[list[int]]:
        """The fields of each product."""
        return [list(range(j * self.order, (j + 1) * self.order)) for j in range(self.interactions)]


def _blocks(rows: int) -> Iterator[Block]:
    for start in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - start)
        yield Block("synthetic", start + 1, count, done=(start + count) / rows)


class _Generator:
    """Makes the records of a block; each value is a hash of (seed, record, field), so blocks are independent."""

    def __init__(self, config: Synthetic, seed: int, split: RandomSplit) -> None:
        self._config, self._seed, self._split = config, seed, split
        weights = np.arange(1, config.ids_per_field + 1, dtype=np.float64) ** -config.zipf
        weights /= weights.sum()
        self._cumulative = np.cumsum(weights)
        hidden = np.random.default_rng(seed).standard_normal((config.fields, config.ids_per_field))
        if config.ids_per_field > 1:
            hidden -= (hidden @ weights)[:, None]
            hidden /= np.sqrt(hidden**2 @ weights)[:, None]
        self._hidden = hidden + config.offset
        # The product of independent values with mean m and variance 1.
        second = (1 + config.offset**2) ** config.order
        self._mean = config.interactions * config.offset**config.order
        self._deviation = math.sqrt(config.interactions * (second - config.offset ** (2 * config.order)))

    def __call__(self, block: Block) -> Rows:
        config = self._config
        numbers = np.arange(block.number, block.number + block.count)
        keys = row_keys(block.index, numbers)
        ids = np.stack([self._ids(keys, field) for field in range(config.fields)], 1)
        values = self._hidden[np.arange(config.fields), ids]
        score = sum(values[:, group].prod(1) for group in config.groups())
        score = (score - self._mean) / self._deviation
        if config.temperature:
            probability = 1 / (1 + np.exp(-np.clip(score / config.temperature, -500, 500)))
        else:
            probability = (score > 0).astype(np.float64)
        labels = uniform(hash_rows(keys, self._seed, "label")) < probability
        columns: dict[str, Sequence[bytes]] = {
            f"field_{f:02d}": list(map(b"%d".__mod__, ids[:, f].tolist())) for f in range(config.fields)
        }
        columns["label"] = list(map((b"0", b"1").__getitem__, labels.astype(int).tolist()))
        return Rows(numbers, keys, self._split(keys), columns, extra={"probability": probability, "label": labels})

    def _ids(self, keys: np.ndarray, field: int) -> np.ndarray:
        drawn = uniform(hash_rows(keys, self._seed, f"field {field}"))
        return np.minimum(np.searchsorted(self._cumulative, drawn, side="right"), len(self._cumulative) - 1)


def best_scores(test: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """AUC and log loss of the true probabilities.

    Args:
      test: `probability` (n,) and `label` (n,) of the test records.

    Returns:
      `best_auc` and `best_logloss`; empty where there are no test records, and without AUC where all labels are equal.
    """
    if not test:
        return {}
    probability, label = test["probability"], test["label"].astype(bool)
    positives = int(label.sum())
    negatives = len(label) - positives
    likelihood = np.where(label, probability, 1 - probability)
    found: dict[str, Any] = {"best_logloss": float(-np.log(np.maximum(likelihood, 1e-300)).mean())}
    if positives and negatives:
        _, ranks, counts = np.unique(probability, return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - (counts - 1) / 2
        found["best_auc"] = float(
            (middle[ranks][label].sum() - positives * (positives + 1) / 2) / (positives * negatives)
        )
    return found
