"""Proof that a pruned model and preprocessor score as the unpruned ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.parsing import DTYPES, MISSING, raw_signature
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.servable import as_served
from xdeepint_ext.serving.tables import embeddings, values, vocabulary_lines

MOST_IDS = 16_384
BATCH_SIZE = 4096
VALUES = 65_536
TOLERANCE = 1e-6
SEED = 0

NewIds = Mapping[str, np.ndarray]


class PruningError(ValueError):
    """A model cannot be pruned, or would score differently."""


def check_rows(model: Any, smaller: Any, new_ids: NewIds, waiting: Mapping[str, slice]) -> None:
    """Every id of every table gives the same vector as its new id, in every layer; those that wait for values apart.

    Raises:
      PruningError: one does not; names table and id.
    """
    for old_layer, new_layer in zip(embeddings(model), embeddings(smaller), strict=True):
        of_old, of_new = values(old_layer), values(new_layer)
        for name, old in of_old.items():
            old, new = (
                np.concatenate([np.zeros_like(rows[:1], shape=(1, rows.shape[1])), rows])
                for rows in (old, of_new[name])
            )
            ids = new_ids.get(name, np.arange(len(old)))
            same = np.all(old == new[ids], axis=1)
            same[waiting.get(name, slice(0))] = True
            differing = np.flatnonzero(~same)
            if len(differing):
                raise PruningError(
                    f"prune: id {differing[0]} of table {name!r} has another vector as id {ids[differing[0]]}"
                )


def check_ids(preprocessor: Preprocessor, renumbered: Any, new_ids: NewIds) -> None:
    """Every vocabulary value of the tables with new ids, an unseen and a missing one, gets the new id of its old one.

    Raises:
      PruningError: one does not; names feature and value.
    """
    looked_up = [f for f in preprocessor.schema.inputs if f.uses_vocabulary and f.table_name in new_ids]
    for raw in _every_value(preprocessor, looked_up):
        old, new = preprocessor(raw), renumbered(raw)
        for feature in looked_up:
            expected = new_ids[feature.table_name][old[feature.name][:, 0].numpy()]
            differing = np.flatnonzero(expected != new[feature.name][:, 0].numpy())
            if len(differing):
                value, wanted = raw[feature.raw_name].numpy().ravel()[differing[0]], expected[differing[0]]
                raise PruningError(f"prune: value {value!r} of feature {feature.name!r} gets another id than {wanted}")


def check_scores(model: Any, smaller: Any, new_ids: NewIds, waiting: Mapping[str, slice]) -> None:
    """Both models give the same logits on a walk through the ids, but those that wait for values.

    Raises:
      PruningError: they do not; gives the largest difference.
    """
    worst = 0.0
    with as_served(model), as_served(smaller):
        for features in _walk(model.schema):
            renumbered = dict(features)
            for feature in model.schema.inputs:
                if feature.is_ids and feature.table_name in new_ids:
                    ids, out = features[feature.name], waiting.get(feature.table_name, slice(0))
                    ids = np.where((ids >= (out.start or 0)) & (ids < out.stop), 0, ids)
                    features[feature.name], renumbered[feature.name] = ids, new_ids[feature.table_name][ids]
            for old, new in zip(*(_logits(m, x) for m, x in ((model, features), (smaller, renumbered))), strict=True):
                worst = max(worst, float(np.max(np.abs(old - new) / (1 + np.abs(old)))))
    if not worst <= TOLERANCE:
        raise PruningError(
            f"prune: scores differ by up to {worst:g} (allowed: {TOLERANCE:g}): {type(model).__name__} uses ids or "
            "weights in a way that its get_config and FeatureEmbedding layers do not show. Export with prune=False"
        )


def _every_value(preprocessor: Preprocessor, looked_up: list[Feature]) -> Iterator[dict[str, tf.Tensor]]:
    """Batches of raw columns: all values of the features' vocabularies, an unseen and a missing one."""
    signature = raw_signature(preprocessor.schema)
    found: dict[str, list[Any]] = {name: [] for name in signature}
    for table, column in {(feature.table_name, feature.raw_name): None for feature in looked_up}:
        lines = vocabulary_lines(preprocessor, table)
        text = signature[column].dtype == tf.string
        found[column] += [*lines, b"\x00 never seen \x00"] if text else [*map(int, lines), tf.int64.max]
    count = 1 + max(map(len, found.values()))
    for start in range(0, count, VALUES):
        raw = {}
        for name, spec in signature.items():
            missing = next(MISSING[kind] for kind, dtype in DTYPES.items() if dtype == spec.dtype)
            values = found[name][start : start + VALUES]
            values = tf.constant(values + [missing] * (min(VALUES, count - start) - len(values)), spec.dtype)
            raw[name] = values if spec.shape.rank == 1 else tf.repeat(values[:, tf.newaxis], spec.shape[1] or 1, axis=1)
        yield raw


def _walk(schema: Schema) -> Iterator[dict[str, np.ndarray]]:
    """Batches in which every id of a table (of a large one, evenly spaced ones) occurs; some of several are empty."""
    random = np.random.default_rng(SEED)
    sizes = {name: table.rows for name, table in schema.tables.items()}
    count = min(max(sizes.values(), default=1), MOST_IDS)
    for start in range(0, count, BATCH_SIZE):
        steps = np.arange(start, min(start + BATCH_SIZE, count))
        batch: dict[str, np.ndarray] = {}
        for feature in schema.inputs:
            shape = (len(steps), feature.length)
            if feature.is_ids:
                size = sizes[feature.table_name]
                ids = (steps * size // count if size > count else steps % size)[:, np.newaxis]
                ids = (ids + 7919 * np.arange(feature.length)) % size
                several = feature.length > 1
                batch[feature.name] = np.where(random.random(shape) < 0.25 * several, 0, ids)
            else:
                batch[feature.name] = random.normal(size=shape).astype(np.float32)
            if feature.weights_name:
                batch[feature.weights_name] = random.uniform(0.1, 2.0, shape).astype(np.float32)
        yield batch


def _logits(model: Any, features: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    logits = model({name: tf.constant(value) for name, value in features.items()}, training=False)
    return [tf.cast(logit, tf.float64).numpy() for logit in tf.nest.flatten(logits)]
