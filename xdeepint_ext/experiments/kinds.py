"""What is measured, shown and compared of a run: of single examples one thing, of lists another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.data.sequences.records import are_users
from xdeepint_ext.experiments import comparing, list_predictions, mseqa_config, retrieval_predictions, scores
from xdeepint_ext.experiments.list_predictions import SETS, ListPredictions
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.retrieval_predictions import AT, RetrievalPredictions

__all__ = ["CRITERIA", "LISTS", "ROWS", "USERS", "Criterion", "Kind", "dataset_of", "kind_of", "stopping_value"]


@dataclasses.dataclass(frozen=True)
class Criterion:
    """What may stop training, choose settings, and choose a table's reference.

    Args:
      metric: of a split.
      sign: 1 where more is better, -1 where less is.
      name: in a table.
    """

    metric: str
    sign: int
    name: str


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of records.

    Args:
      records: what they are called.
      criteria: name, as `--early_stopping` and `--choose_by` have it -> criterion; the first is the usual one.
      shown: metrics that a finished run shows.
      columns: metrics that a table shows, and its picture the first of them.
      more: heading -> metrics of a further table below.
      compared: metrics whose differences from the reference a table shows; files have those of all.
      drawn_whole: what the bootstrap draws, in words.
      predictions: class of a split's predictions, with `load`, `save` and `take`.
      score: predictions (, notes, where) -> metrics.
      compare: predictions of two models -> metric -> difference.
      ensembles: whether the mean of several seeds' predictions is compared, too.
    """

    records: str
    criteria: Mapping[str, Criterion]
    shown: tuple[str, ...]
    columns: tuple[str, ...]
    compared: tuple[str, ...]
    drawn_whole: str
    predictions: Any
    score: Callable[..., dict[str, float]]
    compare: Callable[[Any, Any], dict[str, Any]]
    ensembles: bool
    more: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def usual(self) -> str:
        """The criterion where none is named."""
        return next(iter(self.criteria))

    def judged_by(self, criterion: str) -> Kind:
        """This kind where `criterion` chooses: measures at its N come first, with their differences."""
        n = criterion.partition("_at_")[2]
        first = tuple(found.metric for name, found in self.criteria.items() if name.endswith(f"_at_{n}"))
        if not first:
            return self
        return dataclasses.replace(self, columns=tuple(dict.fromkeys((*first, *self.columns))), compared=first)

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics of tables."""
        return tuple(dict.fromkeys((*self.columns, *(name for names in self.more.values() for name in names))))


ROWS = Kind(
    records="examples",
    criteria={
        "auc": Criterion("auc", 1, "AUC"),
        "gauc": Criterion("gauc", 1, "GAUC"),
        "logloss": Criterion("logloss", -1, "log loss"),
    },
    shown=("auc", "logloss"),
    columns=("auc", "gauc", "logloss"),
    compared=("auc", "gauc"),
    drawn_whole="records (GAUC: over groups)",
    predictions=Predictions,
    score=scores.score,
    compare=comparing.compare,
    ensembles=True,
)
LISTS = Kind(
    records="lists",
    criteria={
        "ndcg": Criterion("candidates.ndcg_at_10", 1, "NDCG@10 on impressions and candidates"),
        "recall": Criterion("candidates.recall_at_10", 1, "Recall@10 on impressions and candidates"),
    },
    shown=("candidates.ndcg_at_10", "candidates.recall_at_10"),
    columns=(
        "candidates.ndcg_at_10",
        "candidates.recall_at_10",
        "catalogue.ndcg_at_50",
        "catalogue.recall_at_50",
        "impressions.ndcg_at_2",
        "multiply_adds_online",
    ),
    compared=("candidates.ndcg_at_10", "catalogue.ndcg_at_50"),
    drawn_whole="users",
    predictions=ListPredictions,
    score=list_predictions.score,
    compare=list_predictions.compare,
    ensembles=False,
    more={
        f"{name.capitalize()}: {found.what}": tuple(f"{name}.{metric}" for metric in found.metrics)
        for name, found in SETS.items()
    },
)
USERS = Kind(
    records="targets",
    criteria={
        f"{metric}_at_{n}": Criterion(f"{metric}_at_{n}", 1, f"{name}@{n}")
        for n in sorted(AT, key=lambda n: n != 20)
        for metric, name in (("recall", "Recall"), ("ndcg", "NDCG"))
    },
    shown=("recall_at_20", "ndcg_at_20"),
    columns=(
        "recall_at_20",
        "ndcg_at_20",
        "recall_at_10",
        "ndcg_at_10",
        *(f"recall_at_{n}" for n in (50, 100, 200, 500)),
    ),
    compared=("recall_at_20", "ndcg_at_20"),
    drawn_whole="users",
    predictions=RetrievalPredictions,
    score=retrieval_predictions.score,
    compare=retrieval_predictions.compare,
    ensembles=False,
)
CRITERIA: dict[str, Criterion] = {**ROWS.criteria, **LISTS.criteria, **USERS.criteria}
"""Of all kinds, by name."""
STOPPING: dict[str, Criterion] = {
    **CRITERIA,
    **{name: Criterion(name, 1, name) for name in mseqa_config.STOPPING if name != "none"},
}
"""Those, and the measures of answers, which stop training but are in no comparison of models."""


def kind_of(manifest: Manifest) -> Kind:
    """The kind of a directory's records."""
    return LISTS if manifest.lists is not None else USERS if are_users(manifest) else ROWS


def stopping_value(values: Mapping[str, float], name: str) -> float:
    """The value of a criterion that decides when training stops, larger is better: of several tasks their mean."""
    metric = STOPPING[name].metric
    return STOPPING[name].sign * values[f"mean.{metric}" if f"mean.{metric}" in values else metric]


def dataset_of(manifest: Manifest) -> str:
    """The name under which settings and results of a directory's records stand: `kuairand`, `kuairand_lists`."""
    return manifest.dataset if manifest.lists is None else f"{manifest.dataset}_lists"
