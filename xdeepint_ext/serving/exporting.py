"""`export`: preprocessing, model and signatures as one SavedModel in TF Serving's layout."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext import __version__
from xdeepint_ext.data.manifest import DataError, Manifest, describe_tables
from xdeepint_ext.data.parsing import raw_signature as schema_signature
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving import warmup as warmup_
from xdeepint_ext.serving.calibration import Calibration
from xdeepint_ext.serving.compressed_tables import CompressedTables
from xdeepint_ext.serving.endpoints import Endpoints, columns_of_signature, parsing_of_columns, parsing_of_schema
from xdeepint_ext.serving.pruning import Pruned
from xdeepint_ext.serving.pruning import prune as prune_
from xdeepint_ext.serving.quantize import DTYPES
from xdeepint_ext.serving.servable import as_served, check_servable, silent
from xdeepint_ext.serving.tower_endpoints import TowerEndpoints, has_towers, write_facts
from xdeepint_ext.serving.version_folder import written_beside
from xdeepint_ext.serving.watching import UNKNOWN_IDS, unknown_ids, write_statistics


def export(
    model: Any,
    preprocessor: Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]],
    path: str | os.PathLike[str],
    prune: bool = True,
    version: int | None = None,
    warmup: Sequence[Mapping[str, Any]] | None = None,
    *,
    raw_signature: Mapping[str, tf.TensorSpec] | None = None,
    manifest: Manifest | None = None,
    table_dtype: str = "float32",
    calibration: Mapping[str, Calibration] | None = None,
    statistics_of: tuple[str | os.PathLike[str], str] | None = None,
    signatures: Mapping[str, Any] | None = None,
) -> str:
    """Writes raw values -> preprocessor -> model -> scores as a SavedModel, `path/<version>/`, for TF Serving.

    Signatures (docs/serving.md has the table): `serving_default` takes serialized tf.Examples as `examples`;
    `predict_raw` the raw columns by name; `rank` one row of the user's and context's columns and N of the others;
    `preprocess` gives what the model sees; two-tower models have signatures of their towers besides, and a
    `GroupRanker` has `user_codes`. The first three answer `probability` and `logit`, float32 (N, 1), with
    several tasks `probability/TASK` and `logit/TASK`. Beside the model: schema.pbtxt (the raw columns), manifest.json
    (what the ids mean), sample_rows.json, and assets.extra/tf_serving_warmup_requests.

    The model is traced anew, without XLA and with `training=False`; it need not have been called before, and is not
    changed.

    Args:
      model: a `RankingModel` with a schema.
      preprocessor: the `Preprocessor` whose ids the model was trained on, or anything callable in its place; one that
        holds tables or variables must be a tf.Module or a Keras layer.
      path: the model's base folder; made where it does not exist.
      prune: drop embedding rows that are zero; see `serving.prune`. Equal scores are proved, or nothing is written.
      version: a whole number; None = one more than the highest in `path`, 1 at first.
      warmup: raw rows, as `serving.query` takes them, of the requests that TF Serving replays when it loads the
        model, and of sample_rows.json. None = one row made up from the schema; () = no such files.
      raw_signature: raw column -> spec, (None,), (None, None) or (None, n) of string, int64 or float32: needed if and
        only if the preprocessor is not our `Preprocessor`.
      manifest: of the data that the model was trained on; goes into the export's manifest.json.
      table_dtype: of the embedding tables on disk and in the server's memory: `float32`; `float16` (half the bytes) or
        `int8` (1 byte, and 4 for every 16 numbers), both made float32 again as rows are looked up. What is rounded
        changes scores a little: manifest.json has the largest error of a number.
      calibration: task -> what is made of its logits, as `fit_calibration` finds it: `logit` is then the calibrated
        one, and `probability` its sigmoid, in all signatures.
      statistics_of: (prepared directory of raw records, split): statistics of its columns and scores are written to
        statistics.pbtxt, for `serving.skew`.
      signatures: further ones by name, each a tf.function with an input signature that gives a dict; what they use
        must be part of the preprocessor or the model.

    Returns:
      The version's folder.

    Raises:
      ValueError: model and preprocessor do not fit together, an operation cannot be served, or a number of a table
        does not fit in `table_dtype`.
      DataError: the manifest's tables are not the preprocessor's, or records for statistics do not fit.
      PruningError: pruning would change scores.
      FileExistsError: the version exists.
      OSError: the folder cannot be written. Nothing half-written is left.

    Example:
      >>> import pandas as pd, tempfile
      >>> from xdeepint_ext import data
      >>> from xdeepint_ext.models import XDeepInt
      >>> frame = pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "click": [0, 1]})
      >>> schema, dataset = data.from_pandas(frame, label="click")
      >>> export(XDeepInt(schema), dataset.preprocessor, tempfile.mkdtemp())[-2:]
      '/1'
    """
    schema = _schema_of(model)
    described = _describe(schema, preprocessor, manifest)
    columns, parsing = _columns(schema, preprocessor, raw_signature)
    model.build_from_schema()
    if table_dtype not in DTYPES:
        raise ValueError(f"table_dtype must be one of {DTYPES}, got {table_dtype!r}")
    _check_tasks(model, calibration)
    pruned = prune_(model, preprocessor) if prune else Pruned(model, preprocessor, {})
    tables = None if table_dtype == "float32" else CompressedTables(pruned.model, table_dtype)
    endpoints = Endpoints(pruned.model, pruned.preprocessor, columns, parsing, calibration)
    sample = [warmup_.sample_row(endpoints)] if warmup is None else list(warmup)
    described.notes["export"] = {
        "pruned_rows": {table: {"before": before, "after": after} for table, (before, after) in pruned.rows.items()},
        "xdeepint_ext": __version__,
        "tensorflow": tf.__version__,
        "table_dtype": table_dtype,
        "calibration": {task: found.describe() for task, found in (calibration or {}).items()},
        UNKNOWN_IDS: unknown_ids(pruned.preprocessor),
    }
    if tables is not None:
        sizes = {"before": tables.bytes_before, "after": tables.bytes_after}
        described.notes["export"] |= {"table_bytes": sizes, "largest_table_error": tables.largest_error}
    with written_beside(os.fspath(path), version) as (folder, final):
        towers = _write_model(endpoints, tables, folder, signatures or {})
        check_servable(folder)
        if towers:
            write_facts(folder, endpoints, table_dtype)
        schema.save(folder)
        described.save(folder)
        if sample:
            requests = warmup_.scoring_requests(endpoints, sample)
            warmup_.write_requests(folder, {**requests, **(warmup_.tower_requests(towers, sample) if towers else {})})
            warmup_.write_sample(folder, endpoints, sample)
        if statistics_of is not None:
            write_statistics(folder, *statistics_of)
    return final


def _schema_of(model: Any) -> Schema:
    schema = getattr(model, "schema", None)
    if not isinstance(schema, Schema) or not hasattr(model, "input_signature"):
        raise ValueError(
            f"model must be a RankingModel with a schema, got {type(model).__name__} with schema {schema!r}"
        )
    return schema


def _check_tasks(model: Any, calibration: Mapping[str, Calibration] | None) -> None:
    unknown = sorted(set(calibration or {}) - set(model.tasks))
    if unknown:
        raise ValueError(f"calibration: {unknown[0]!r} is no task of the model; it has {list(model.tasks)}")


def _describe(schema: Schema, preprocessor: Any, manifest: Manifest | None) -> Manifest:
    """The manifest of the export, once it is sure that the preprocessor's ids are the model's."""
    if isinstance(preprocessor, Preprocessor):
        ours, theirs = schema.inputs, preprocessor.schema.inputs
        if ours != theirs:
            differing = sorted({feature.name for feature in set(ours) ^ set(theirs)}) or "the order of the features"
            raise ValueError(f"model and preprocessor have different schemas; they differ in {differing}")
        tables = describe_tables(schema, preprocessor.vocabulary_dir or "")
    else:
        tables = {name: {"offset": t.offset, "rows": t.rows, "fingerprint": ""} for name, t in schema.tables.items()}
    if manifest is None:
        return Manifest("", {}, tables, schema.fingerprint())
    if isinstance(preprocessor, Preprocessor) and manifest.tables != tables:
        names = sorted(name for name in {*manifest.tables, *tables} if manifest.tables.get(name) != tables.get(name))
        raise DataError(f"manifest: its ids are not the preprocessor's; tables that differ: {names}")
    return Manifest(**{**vars(manifest), "notes": dict(manifest.notes)})


def _columns(
    schema: Schema, preprocessor: Any, raw_signature: Mapping[str, tf.TensorSpec] | None
) -> tuple[dict[str, tf.TensorSpec], dict[str, Any]]:
    """The raw tensors, and how they are parsed out of tf.Examples."""
    own = isinstance(preprocessor, Preprocessor)
    if own != (raw_signature is None):
        raise ValueError(
            f"raw_signature must be given if and only if the preprocessor is not xdeepint_ext.data.Preprocessor; got a "
            f"{type(preprocessor).__name__} and {raw_signature!r}"
        )
    if raw_signature is None:
        return schema_signature(schema), parsing_of_schema(schema)
    columns = columns_of_signature(raw_signature)
    return columns, parsing_of_columns(columns)


def _write_model(
    endpoints: Endpoints, tables: CompressedTables | None, folder: str, further: Mapping[str, Any]
) -> TowerEndpoints | None:
    """Writes the SavedModel; gives the signatures of towers that it has."""
    archive = tf.keras.export.ExportArchive()
    # Saving traces once more.
    with as_served(endpoints.model), silent(), tables.in_use() if tables else contextlib.nullcontext():
        towers = TowerEndpoints(endpoints) if has_towers(endpoints.model) else None
        of_towers = towers.functions() if towers else {}
        for name, function in {**further, **endpoints.functions(), **of_towers}.items():
            archive.add_endpoint(name, function)
        for part in (tables or endpoints.model, endpoints.preprocessor):
            if isinstance(part, tf.Module):
                archive.track(part)
        archive.write_out(folder)
    return towers if of_towers else None
