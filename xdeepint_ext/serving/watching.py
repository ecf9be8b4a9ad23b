"""Statistics of an exported version: its raw columns, values that it does not know, and its scores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.column_statistics import CATEGORICAL, NUMERIC, ColumnCollector
from xdeepint_ext.serving.endpoints import PROBABILITY, own_preprocessor
from xdeepint_ext.serving.remap import RemappedPreprocessor
from xdeepint_ext.serving.served_records import Raw, files_of, present, raw_batches
from xdeepint_ext.serving.statistics_file import STATISTICS, save_statistics

__all__ = ["PREDICTION", "WatchedVersion", "unknown_ids", "write_statistics"]

PREDICTION = "prediction:"
"""Before the name of an output, in the name of its column of statistics."""
MOST_RECORDS = 200_000
UNKNOWN_IDS = "unknown_ids"
"""Note of an export's manifest: feature -> the ids of values that the model has no vector of their own for."""
_DTYPES = {tf.string: "string", tf.int64: "int", tf.float32: "float"}


def unknown_ids(preprocessor: Any) -> dict[str, list[int]] | None:
    """Feature -> ids of what the model has no vector for: missing, out-of-vocabulary and pruned values.

    None for somebody else's preprocessor, of which this is not known.
    """
    own = own_preprocessor(preprocessor)
    if own is None:
        return None
    found = {}
    for feature in own.schema.inputs:
        if not feature.is_ids or feature.binning is not None or feature.lookup == "hash":
            continue
        ids = np.arange(1 + feature.num_oov)
        remap = preprocessor.remap(feature.name) if isinstance(preprocessor, RemappedPreprocessor) else None
        if remap is not None:
            pooled = np.flatnonzero(np.bincount(remap) > 1)  # where several ids went
            ids = np.union1d(remap[ids], pooled)
        found[feature.name] = ids.tolist()
    return found


class WatchedVersion:
    """An exported version in memory, and what its statistics are of.

    Args:
      folder: of the version.

    Attributes:
      columns: the raw columns that it takes.
      schema: fingerprint of its schema.

    Raises:
      DataError: it was exported by something else.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        signatures = tf.saved_model.load(folder).signatures
        if not {"predict_raw", "preprocess"} <= set(signatures):
            raise DataError(f"{folder} has no signatures predict_raw and preprocess, but {sorted(signatures)}")
        self._score, self._preprocess = signatures["predict_raw"], signatures["preprocess"]
        self.columns: dict[str, tf.TensorSpec] = dict(self._score.structured_input_signature[1])
        schema = Schema.load(folder, overlay="")
        self.schema = schema.fingerprint()
        notes: Mapping[str, Any] = Manifest.load(folder).notes.get("export", {})
        ids: Mapping[str, list[int]] | None = notes.get(UNKNOWN_IDS)
        self._inputs = [f for f in schema.inputs if f.raw_name in self.columns] if ids is not None else []
        # Several features of one column look the same values up: the first of them speaks for it.
        looked_up = {f.raw_name: f for f in reversed(self._inputs) if ids is not None and f.name in ids}
        self._looked_up = [(f, np.array(ids[f.name])) for f in looked_up.values() if ids is not None]

    def collect(self, batches: Iterable[Raw]) -> dict[str, ColumnCollector]:
        """Gathers raw columns and scores.

        Raises:
          DataError: a score is not finite, or there is no record.
        """
        counted = {feature.raw_name for feature, _ in self._looked_up}
        found = {
            name: ColumnCollector(name, _DTYPES[spec.dtype], self._kind(name), name in counted)
            for name, spec in self.columns.items()
        }
        rows = 0
        for raw in batches:
            rows += len(next(iter(raw.values())))
            tensors = {name: tf.constant(values, self.columns[name].dtype) for name, values in raw.items()}
            for name, values in raw.items():
                found[name].add(values, present(values))
            if self._looked_up:
                features = self._preprocess(**tensors)
                for feature, ids in self._looked_up:
                    here = present(raw[feature.raw_name])
                    here = here.sum(axis=tuple(range(1, here.ndim)))
                    known = (~np.isin(features[feature.name].numpy(), ids)).sum(axis=1)
                    used = np.minimum(here, feature.length)
                    found[feature.raw_name].add_unknown(int((used - known)[used > 0].sum()), int(used.sum()))
            for name, output in self._score(**tensors).items():
                if name.split("/")[0] == PROBABILITY:
                    _add_scores(found, PREDICTION + name, output.numpy()[:, 0])
        if not rows:
            raise DataError("there is no record to make statistics of")
        return found

    def _kind(self, column: str) -> str:
        """Numbers are compared as numbers, unless the schema makes ids of them one by one."""
        kinds = {feature.kind for feature in self._inputs if feature.raw_name == column}
        if kinds:
            return NUMERIC if kinds & {"numeric", "vector"} else CATEGORICAL
        return CATEGORICAL if self.columns[column].dtype == tf.string else NUMERIC


def _add_scores(found: dict[str, ColumnCollector], name: str, scores: np.ndarray) -> None:
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        raise DataError(f"{wrong} of {len(scores)} scores {name.removeprefix(PREDICTION)!r} are not finite")
    found.setdefault(name, ColumnCollector(name, "float", NUMERIC)).add(scores, np.ones(len(scores), bool))


def write_statistics(folder: str, data: str | os.PathLike[str], split: str) -> None:
    """Writes statistics.pbtxt into a version's folder: of a split, or of about 200,000 records evenly taken from it.

    Args:
      folder: of the version.
      data: a prepared directory of raw records.
      split: which part of it; the latest that there is, as requests come after it.

    Raises:
      DataError: the records do not fit the version, or a score is not finite.
    """
    version = WatchedVersion(folder)
    files = files_of([os.fspath(data)], [split])
    collected = version.collect(raw_batches(files, version.columns, {}, MOST_RECORDS))
    columns = {name: column.finish() for name, column in collected.items()}
    save_statistics(os.path.join(folder, STATISTICS), columns, version.schema)
