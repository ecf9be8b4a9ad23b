"""`export_recommender`: a retrieval model with its whole catalogue inside, as one SavedModel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest, describe_tables, vocabulary_file
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.servable import check_servable, silent
from xdeepint_ext.serving.version_folder import written_beside
from xdeepint_ext.serving.warmup import write_requests, zeros
from xdeepint_ext.utils.catalogue import Catalogue

__all__ = ["export_recommender"]

TOP_K = 100
ITEMS_AT_ONCE = 65536


def export_recommender(
    model: Any,
    preprocessor: Preprocessor,
    path: str | os.PathLike[str],
    *,
    top_k: int = TOP_K,
    remove_seen: bool = True,
    version: int | None = None,
    manifest: Manifest | None = None,
) -> str:
    """Writes raw users -> the best items of the catalogue as a SavedModel, `path/<version>/`, for TF Serving.

    Signatures, raw columns by name and (B, ...) each:

        serving_default  the user's columns -> `items` (B, K), raw ids, the best first, and `scores` (B, K), logits
        user_tower       the user's columns -> `vector` (B, d)
        item_tower       `item` (B,), raw ids -> `vector` (B, d); an unseen one has that of unseen items

    A logit is `gamma <user, item>`, so that an index of inner products over `item_tower` finds what `serving_default`
    finds. Search is exact: every item is scored. With `remove_seen` what stands in the request's history is left out (a
    model of ids alone has none in its requests); where fewer than K items are left, the rest have the score minus
    infinity. The vectors of the items are computed once, here: the catalogue is that of the vocabulary, which
    manifest.json names by its fingerprint. Warm-up requests of one unknown user and item lie beside the model.

    Args:
      model: a `RetrievalModel`.
      preprocessor: the one whose ids the model was trained on.
      path: the model's base folder; made where it does not exist.
      top_k: K.
      remove_seen: whether the history is left out.
      version: a whole number; None = one more than the highest in `path`, 1 at first.
      manifest: of the data that the model was trained on; goes into the export's manifest.json.

    Returns:
      The version's folder.

    Raises:
      ValueError: K is no number of the catalogue's items, or model and preprocessor do not fit together.
      DataError: the vocabulary is not the one that the manifest, and so the model, was made with.
      FileExistsError: the version exists.
      OSError: the folder cannot be written.

    Example:
      >>> export_recommender(model, preprocessor, "models/gowalla", top_k=50)  # doctest: +SKIP
      'models/gowalla/1'
    """
    catalogue = Catalogue.of(model.schema)
    if not 1 <= top_k <= catalogue.size:
        raise ValueError(f"top_k must be in 1 .. {catalogue.size}, the catalogue's size, got {top_k}")
    described = _described(model.schema, preprocessor, manifest)
    module = _Recommender(model, preprocessor, top_k, remove_seen)
    archive = tf.keras.export.ExportArchive()
    archive.track(module)
    users, items = module.user_columns(), module.item_columns()
    archive.add_endpoint("serving_default", module.best, [users])
    archive.add_endpoint("user_tower", module.user_vector, [users])
    archive.add_endpoint("item_tower", module.item_vector, [items])
    with written_beside(os.fspath(path), version) as (folder, final):
        with silent():
            archive.write_out(folder)
        check_servable(folder)
        model.schema.save(folder)
        described.save(folder)
        of_users, of_items = zeros(users), zeros(items)
        write_requests(folder, {"serving_default": of_users, "user_tower": of_users, "item_tower": of_items})
    return final


class _Recommender(tf.Module):
    """The functions behind the signatures; it holds the items' vectors and raw ids."""

    def __init__(self, model: Any, preprocessor: Preprocessor, top_k: int, remove_seen: bool) -> None:
        super().__init__()
        self.model, self.preprocessor = model, preprocessor
        self._catalogue = Catalogue.of(model.schema)
        self._top_k, self._remove_seen = top_k, remove_seen and self._catalogue.history is not None
        schema: Schema = preprocessor.schema
        item = self._catalogue.item
        self._user_side = Schema(f for f in schema.inputs if f.name in model.user_features)
        # A raw item comes alone, and not in the column of those to be found.
        alone = {"kind": "categorical", "source": None, "max_length": None}
        self._item_side = Schema([schema[item.name].replace(**alone)])
        ids = np.arange(self._catalogue.first, self._catalogue.first + self._catalogue.size)
        parts = [ids[i : i + ITEMS_AT_ONCE, np.newaxis] for i in range(0, len(ids), ITEMS_AT_ONCE)]
        vectors = np.concatenate([model.item_tower({item.name: tf.constant(part)}).numpy() for part in parts])
        self.vectors = tf.Variable(vectors, trainable=False, name="item_vectors")
        self.raw_ids = tf.Variable(_raw_ids(preprocessor, self._catalogue), trainable=False, name="item_ids")

    def user_columns(self) -> dict[str, tf.TensorSpec]:
        """Raw columns of the user, by name."""
        return raw_signature(self._user_side)

    def item_columns(self) -> dict[str, tf.TensorSpec]:
        """Raw column of the item."""
        return raw_signature(self._item_side)

    def best(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """See `export_recommender`."""
        features = self._of_user(raw)
        scores = self.model.gamma * tf.matmul(self.model.user_tower(features), self.vectors, transpose_b=True)
        if self._remove_seen:
            scores = self._without(scores, features[self._catalogue.history.name])  # type: ignore[union-attr]
        scores, places = tf.math.top_k(scores, self._top_k)
        return {"items": tf.gather(self.raw_ids, places), "scores": scores}

    def user_vector(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """See `export_recommender`."""
        return {"vector": self.model.user_tower(self._of_user(raw))}

    def item_vector(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """See `export_recommender`."""
        return {"vector": self.model.item_tower(self.preprocessor.part(raw, self._item_side))}

    def _of_user(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self.preprocessor.part(raw, self._user_side)

    def _without(self, scores: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        places = history - self._catalogue.first
        here = tf.logical_and(places >= 0, places < self._catalogue.size)
        index = tf.where(here)
        cells = tf.stack([index[:, 0], tf.boolean_mask(places, here)], axis=1)
        return tf.tensor_scatter_nd_update(scores, cells, tf.fill([tf.shape(cells)[0]], -np.inf))


def _raw_ids(preprocessor: Preprocessor, catalogue: Catalogue) -> np.ndarray:
    """(N,): what the items are called, in the order of their ids."""
    item = catalogue.item
    if not item.uses_vocabulary:
        raise ValueError(f"the items of feature {item.name!r} have no names: lookup {item.lookup!r} has no vocabulary")
    with open(vocabulary_file(preprocessor.vocabulary_dir or VOCABULARY, item.table_name), "rb") as stream:
        names = stream.read().split(b"\n")[:-1]
    return np.array([int(name) for name in names], np.int64) if item.dtype == "int" else np.array(names, object)


def _described(schema: Schema, preprocessor: Preprocessor, manifest: Manifest | None) -> Manifest:
    """The export's manifest, once it is sure that model, preprocessor and vocabulary belong together."""
    theirs: Sequence[Any] = preprocessor.schema.inputs
    unknown = [feature.name for feature in schema.inputs if feature not in theirs]
    if unknown:
        raise ValueError(f"model and preprocessor have different schemas; they differ in {unknown}")
    tables = describe_tables(preprocessor.schema, preprocessor.vocabulary_dir or "")
    if manifest is None:
        return Manifest("", {}, tables, schema.fingerprint())
    names = sorted(
        name for name in tables if manifest.tables.get(name, {}).get("fingerprint") != tables[name]["fingerprint"]
    )
    if names:
        raise DataError(f"the catalogue has changed: vocabularies that are not those of the training data: {names}")
    return Manifest(**{**vars(manifest), "notes": dict(manifest.notes)})
