"""`rank_users`: a retrieval model's best items of a whole catalogue for the users of a split."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.sequences import Catalogue, Sequences
from xdeepint_ext.experiments.retrieval_predictions import AT, RetrievalPredictions
from xdeepint_ext.metrics import best_items, hits_of, retrieval_scores
from xdeepint_ext.models import RetrievalModel

__all__ = ["Ranker", "item_vectors"]

USERS_AT_ONCE, ITEMS_AT_ONCE = 2048, 65536


def item_vectors(model: RetrievalModel, catalogue: Catalogue) -> np.ndarray:
    """(N, d) float32: the vectors of all items, in the catalogue's order."""
    return np.concatenate([part for part in _item_parts(model, catalogue)])


def _item_parts(model: RetrievalModel, catalogue: Catalogue) -> list[np.ndarray]:
    last = catalogue.first + catalogue.size
    ids = [
        tf.range(i, min(i + ITEMS_AT_ONCE, last), dtype=tf.int64) for i in range(catalogue.first, last, ITEMS_AT_ONCE)
    ]
    return [model.item_tower({catalogue.item.name: some[:, tf.newaxis]}).numpy().astype(np.float32) for some in ids]


class Ranker:
    """Ranks the users of a split; its graph of users is traced once.

    Args:
      model: built.
      catalogue: of its items.
      remove_seen: whether what is in a user's history is left out.
    """

    def __init__(self, model: RetrievalModel, catalogue: Catalogue, remove_seen: bool) -> None:
        self._model, self._catalogue, self._remove_seen = model, catalogue, remove_seen
        self._at = tuple(n for n in AT if n <= catalogue.size)
        self._users = tf.function(model.user_tower, reduce_retracing=True)

    def vectors(self, sequences: Sequences) -> np.ndarray:
        """(U, d) float32."""
        starts = range(0, len(sequences), USERS_AT_ONCE)
        parts = [sequences.take(i, min(i + USERS_AT_ONCE, len(sequences))).features() for i in starts]
        return np.concatenate([self._users(part).numpy().astype(np.float32) for part in parts])

    def __call__(self, sequences: Sequences) -> RetrievalPredictions:
        """Every user's metrics. Targets that the catalogue lacks, or that are left out as seen, are never found."""
        first, size = self._catalogue.first, self._catalogue.size
        seen = (sequences.items.astype(np.int64) - first, sequences.item_splits) if self._remove_seen else (None, None)
        best = best_items(self.vectors(sequences), item_vectors(self._model, self._catalogue), max(self._at), *seen)
        numbers = np.diff(sequences.target_splits)
        hits = hits_of(best.items, sequences.targets.astype(np.int64) - first, sequences.target_splits)
        counts = {
            "unknown_targets": int((sequences.targets < first).sum()),
            "repeated_targets": sequences.repeated_targets,
            "users_without_history": int((np.diff(sequences.item_splits) == 0).sum()),
        }
        if self._remove_seen:
            counts["targets_seen_before"] = _seen_before(sequences, size + first)
        return RetrievalPredictions(numbers, retrieval_scores(hits, numbers, self._at), counts)


def _seen_before(sequences: Sequences, num_ids: int) -> int:
    """Known targets that are in their user's history."""
    keys = []
    for flat, splits in ((sequences.targets, sequences.target_splits), (sequences.items, sequences.item_splits)):
        rows = np.repeat(np.arange(len(sequences)), np.diff(splits))
        known = flat >= sequences.catalogue.first
        keys.append(rows[known] * num_ids + flat[known])
    return int(np.isin(*keys).sum())
