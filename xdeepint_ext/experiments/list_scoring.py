"""Ranks lists with a model: their own items, and the whole catalogue in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.lists.read import STAGES
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.experiments.list_batches import batch_signature, trimmed
from xdeepint_ext.experiments.list_predictions import ITEMS, POSITIVES, SETS, ListPredictions
from xdeepint_ext.metrics import NDCGAtK, RecallAtK
from xdeepint_ext.metrics.ranked_lists import Lists, ranked
from xdeepint_ext.models import RankingModel
from xdeepint_ext.models.towers import TowerModel

__all__ = ["CATALOGUE_LISTS", "ListRanker"]

CATALOGUE_LISTS = 2000
"""Lists of a split for which the whole catalogue is ranked, drawn once and for all models. Our choice: models without
towers score every pair anew."""
CATALOGUE = "catalogue"
_ITEMS_AT_ONCE = 8192
# So many pairs at a time, compiled, take 0.4 of the time of one user and 4096 items, not compiled (RankTower, CPU).
_USERS_AT_ONCE, _ITEMS_A_USER = 16, 256


class ListRanker:
    """Makes `ListPredictions` of batches of lists; its graphs are traced once.

    Args:
      model: a built model of one task.
      read_catalogue: gives features of every item (N, length), with `item_ids`; called where they are needed.
    """

    def __init__(self, model: RankingModel, read_catalogue: Callable[[], Mapping[str, tf.Tensor]]) -> None:
        self._model, self._read_catalogue = model, read_catalogue
        self._measures = {name: _Measure(found.ks) for name, found in SETS.items()}
        self._of_batch: Any = None

    def __call__(self, batches: Iterable[Any], with_catalogue: bool = False) -> ListPredictions:
        """Ranks the lists of a split.

        Args:
          batches: (features, labels) of all its lists, in their order; gone through twice with the catalogue.
          with_catalogue: whether `CATALOGUE_LISTS` of them are ranked against the catalogue, too.
        """
        parts, users = [], []
        first = 0
        for features, labels, *_ in batches:
            if self._of_batch is None:
                spec = batch_signature(features, labels)
                self._of_batch = tf.function(self._measure_batch, input_signature=spec)
            parts.append({name: values.numpy() for name, values in self._of_batch(features, labels).items()})
            ids = features.get("group_ids")
            users.append(np.arange(first, first + len(labels)) if ids is None else np.ravel(ids.numpy()))
            first += len(labels)
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if with_catalogue:
            values |= self._rank_catalogue(batches, first)
        return ListPredictions(np.concatenate(users), values)

    def _measure_batch(self, features: Mapping[str, tf.Tensor], labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Metrics of the test sets that are parts of the lists."""
        features, labels = trimmed(features, labels)
        logits = self._model(features, training=False)
        found: dict[str, tf.Tensor] = {}
        for name, test_set in SETS.items():
            if not test_set.stages:
                continue
            wanted = [features["stages"] == STAGES.index(stage) for stage in test_set.stages]
            of_set = tf.where(tf.reduce_any(tf.stack(wanted), axis=0), labels, -tf.ones_like(labels))
            measure = self._measures[name]
            values = measure(ranked(name, measure.columns, measure.wide(of_set, -1.0), measure.wide(logits), None))
            values |= {
                ITEMS: tf.reduce_sum(tf.cast(of_set >= 0, tf.float64), axis=1),
                POSITIVES: tf.reduce_sum(tf.cast(of_set > 0, tf.float64), axis=1),
            }
            inside = _can_be_ordered(of_set) if name == "impressions" else values[POSITIVES] > 0
            found |= {f"{name}.{metric}": _where(inside, x) for metric, x in values.items()}
        return found

    def _rank_catalogue(self, batches: Iterable[Any], size: int) -> dict[str, np.ndarray]:
        """Metrics of some lists against the catalogue, NaN for the others."""
        catalogue = dict(self._read_catalogue())
        items = catalogue.pop("item_ids").numpy()
        order = np.argsort(items, kind="stable")
        chosen = np.zeros(size, bool)
        chosen[np.random.default_rng(0).permutation(size)[:CATALOGUE_LISTS]] = True
        measure = self._measures[CATALOGUE]
        found = {name: np.full(size, np.nan) for name in (*measure.names, ITEMS, POSITIVES)}
        names = [name for name in self._model.input_signature() if name not in catalogue]
        rank: Any = None
        first = 0
        for features, labels, *_ in batches:
            rows = np.flatnonzero(chosen[first : first + len(labels)] & (labels.numpy() > 0).any(axis=1))
            for some in np.split(rows, range(_USERS_AT_ONCE, len(rows), _USERS_AT_ONCE)):
                if not len(some):
                    continue
                full = np.resize(some, _USERS_AT_ONCE)  # one shape, so that it is compiled once
                places, grades = _positives(features["item_ids"].numpy()[full], labels.numpy()[full], items, order)
                user = {name: tf.gather(features[name], full) for name in names}
                rank = rank or self._catalogue_ranker(catalogue, user)
                for name, x in rank(user, places, grades).items():
                    found[name][first + some] = x.numpy()[: len(some)]
                found[ITEMS][first + some] = len(items)
                found[POSITIVES][first + some] = (grades > 0).sum(axis=1)[: len(some)]
            first += len(labels)
        return {f"{CATALOGUE}.{name}": values for name, values in found.items()}

    def _catalogue_ranker(self, catalogue: Mapping[str, tf.Tensor], user: dict[str, tf.Tensor]) -> Any:
        """(features of users, places of positives (u, P), grades (u, P)) -> metric -> (u,)."""
        scores, measure = _catalogue_scores(self._model, catalogue), self._measures[CATALOGUE]

        def rank(user: Any, places: tf.Tensor, grades: tf.Tensor) -> dict[str, tf.Tensor]:
            return measure(_of_positives(scores(user), places, grades, measure))

        pairs = [tf.TensorSpec((None, None), dtype) for dtype in (tf.int32, tf.float64)]
        specs = {name: tf.TensorSpec(x.shape, x.dtype) for name, x in user.items()}
        return tf.function(rank, input_signature=[specs, *pairs])


class _Measure:
    """Recall@K and NDCG@K of each list.

    Args:
      ks: K.
    """

    def __init__(self, ks: tuple[int, ...]) -> None:
        self.columns = max(ks)
        self._metrics = {f"{m.__name__[:-3].lower()}_at_{k}": m(k) for k in ks for m in (RecallAtK, NDCGAtK)}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the metrics."""
        return tuple(self._metrics)

    def wide(self, x: tf.Tensor, value: float = 0.0) -> tf.Tensor:
        """(U, n) with as many columns as the largest K at least."""
        missing = tf.maximum(self.columns - tf.shape(x)[1], 0)
        return tf.pad(x, [(0, 0), (0, missing)], constant_values=tf.cast(value, x.dtype))

    def __call__(self, lists: Lists) -> dict[str, tf.Tensor]:
        return {name: metric.measure(lists)[0] + lists.broken for name, metric in self._metrics.items()}


def _catalogue_scores(model: RankingModel, catalogue: Mapping[str, tf.Tensor]) -> Callable[[Any], tf.Tensor]:
    """Features of users -> logits (u, N). Towers compute the items once, other models every pair."""
    size = int(next(iter(catalogue.values())).shape[0])
    chunks = [
        {name: x[start : start + _ITEMS_AT_ONCE] for name, x in catalogue.items()}
        for start in range(0, size, _ITEMS_AT_ONCE)
    ]
    if isinstance(model, TowerModel):
        items = tf.concat([model.item_tower(chunk) for chunk in chunks], axis=0)

        @tf.function(jit_compile=True)
        def score(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
            return model.score_all_pairs(users, items, _USERS_AT_ONCE, _ITEMS_A_USER)

        return lambda user: score(model.user_tower(user), items)

    def of_one(user: Any) -> tf.Tensor:
        rows = tf.nest.map_structure(lambda x: x[tf.newaxis], user)
        of_chunks = [
            model({**rows, **{name: x[tf.newaxis] for name, x in chunk.items()}}, training=False) for chunk in chunks
        ]
        return tf.concat(of_chunks, axis=1)[0]

    # One after the other: memory is what this is about.
    return lambda users: tf.map_fn(of_one, users, fn_output_signature=tf.float32, parallel_iterations=1)


def _of_positives(scores: tf.Tensor, places: tf.Tensor, grades: tf.Tensor, measure: _Measure) -> Lists:
    """Ranks of the positives among all items, which is all that the metrics need; the other items have no grade."""
    own = tf.gather(scores, places, batch_dims=1)[:, :, tf.newaxis]
    others = scores[:, tf.newaxis]
    above, upto = (tf.reduce_sum(tf.cast(better, tf.float64), axis=2) for better in (others > own, others >= own))
    there = tf.cast(grades > 0, tf.float64)
    broken = tf.reduce_sum(tf.cast(scores, tf.float64) * 0.0, axis=1)  # NaN where a score is no number
    grades, there, above, upto = (measure.wide(x) for x in (grades * there, there, above, upto))
    return Lists(grades, there, above, tf.maximum(upto, above + 1), broken)


def _positives(
    item_ids: np.ndarray, labels: np.ndarray, items: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(places in the catalogue, grades) of the lists' positives, (U, P); grade 0 where a list has fewer."""
    positive = labels > 0
    found = order[np.minimum(np.searchsorted(items, item_ids, sorter=order), len(items) - 1)]
    wrong = np.argwhere(positive & (items[found] != item_ids))
    if len(wrong):
        raise DataError(f"a list has item {item_ids[tuple(wrong[0])]}, which the catalogue has not")
    first = np.argsort(~positive, axis=1, kind="stable")[:, : int(positive.sum(axis=1).max())]
    places, grades = (np.take_along_axis(x, first, axis=1) for x in (found, np.where(positive, labels, 0.0)))
    return places.astype(np.int32), grades.astype(np.float64)


def _can_be_ordered(labels: tf.Tensor) -> tf.Tensor:
    """Whether a list has items of two grades, one of them above 0."""
    there = labels >= 0
    highest = tf.reduce_max(tf.where(there, labels, tf.zeros_like(labels)), axis=1)
    lowest = tf.reduce_min(tf.where(there, labels, tf.fill(tf.shape(labels), labels.dtype.max)), axis=1)
    return highest > lowest


def _where(inside: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return tf.where(inside, values, tf.fill(tf.shape(values), tf.constant(float("nan"), values.dtype)))
