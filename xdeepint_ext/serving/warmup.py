"""Sample rows, and the requests that TF Serving replays when it loads a model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.schema import Feature
from xdeepint_ext.serving import rows as rows_
from xdeepint_ext.serving.endpoints import USER_CODES, Endpoints, gives_codes, own_preprocessor
from xdeepint_ext.serving.loaded_towers import EXAMPLES, SCORE, SIDES, TOWER
from xdeepint_ext.serving.tower_endpoints import TowerEndpoints
from xdeepint_ext.serving.version_folder import SAMPLE_ROWS

EXTRA_FOLDER = "assets.extra"
REQUESTS = "tf_serving_warmup_requests"

Requests = Mapping[str, Mapping[str, np.ndarray]]


def sample_row(endpoints: Endpoints) -> dict[str, Any]:
    """A raw row that the model knows something about: the first value of a vocabulary, the mean of a number.

    For somebody else's preprocessor, whose values are not known, "", 0 and 0.0.
    """
    own = own_preprocessor(endpoints.preprocessor)
    by_column: dict[str, Feature] = {}
    for feature in own.schema.inputs if own else ():
        by_column.setdefault(feature.raw_name, feature)
    row: dict[str, Any] = {}
    for name, spec in endpoints.columns.items():
        value: Any = {tf.string: "", tf.int64: 0, tf.float32: 0.0}[spec.dtype]
        if own is not None and name in by_column:
            value = _known_value(own, by_column[name], value)
        if spec.shape.rank == 2:
            value = [value] * (spec.shape[1] or 1)
        row[name] = value
    return row


def _known_value(preprocessor: Preprocessor, feature: Feature, neutral: Any) -> Any:
    if feature.uses_vocabulary and feature.num_values:
        file = vocabulary_file(preprocessor.vocabulary_dir or "", feature.table_name)
        with open(file, encoding="utf-8") as stream:
            first = stream.readline().rstrip("\n")
        return int(first) if feature.dtype == "int" else first
    if feature.mean is not None:
        return type(neutral)(feature.mean)
    return neutral


def write_sample(folder: str, endpoints: Endpoints, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the model's columns of the rows as JSON, for `serving.query`."""
    sample = [{name: row[name] for name in endpoints.columns} for row in rows]
    with open(os.path.join(folder, SAMPLE_ROWS), "w", encoding="utf-8") as stream:
        json.dump(sample, stream, indent=1, default=_plain, ensure_ascii=False)
        stream.write("\n")


def _plain(value: Any) -> Any:
    """NumPy's values and bytes as JSON's."""
    return value.decode() if isinstance(value, bytes) else value.tolist()


def scoring_requests(endpoints: Endpoints, rows: Sequence[Mapping[str, Any]]) -> Requests:
    """Signature -> inputs of a request to it, for the signatures that every model has, and for `user_codes`.

    Raises:
      RowError: a row does not fit the model.
    """
    requests: dict[str, Mapping[str, np.ndarray]] = {
        "serving_default": {"examples": rows_.examples(rows, endpoints.columns)},
        "predict_raw": rows_.typed(rows, endpoints.columns),
        # One candidate: with --enable_batching TF Serving refuses columns of different lengths, and then the model.
        "rank": rows_.typed(rows[:1], endpoints.rank_columns()),
    }
    if gives_codes(endpoints.model):
        requests[USER_CODES] = rows_.typed(rows, endpoints.code_columns())
    return requests


def tower_requests(towers: TowerEndpoints, rows: Sequence[Mapping[str, Any]]) -> Requests:
    """The same for the signatures of towers; representations are all zero."""
    requests: dict[str, Mapping[str, np.ndarray]] = {}
    for side in SIDES:
        columns = towers.columns(side)
        requests[TOWER[side]] = rows_.typed(rows, columns)
        requests[EXAMPLES[side]] = {"examples": rows_.examples(rows, columns)}
    return requests | {SCORE: zeros(towers.score_inputs())}


def zeros(specs: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
    """Zeros of the specs' shapes, 1 where these leave a size open; strings are empty."""
    shapes = {name: [size or 1 for size in spec.shape] for name, spec in specs.items()}
    return {
        name: np.full(shapes[name], b"", object)
        if spec.dtype == tf.string
        else np.zeros(shapes[name], spec.dtype.as_numpy_dtype)
        for name, spec in specs.items()
    }


def write_requests(folder: str, requests: Requests) -> None:
    """Writes `assets.extra/tf_serving_warmup_requests`: a TFRecord of one PredictionLog for each signature."""
    from tensorflow_serving.apis import prediction_log_pb2

    from xdeepint_ext.serving.messages import predict_request

    os.makedirs(os.path.join(folder, EXTRA_FOLDER), exist_ok=True)
    with tf.io.TFRecordWriter(os.path.join(folder, EXTRA_FOLDER, REQUESTS)) as writer:
        for signature, inputs in requests.items():
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=predict_request(inputs, signature))
            )
            writer.write(log.SerializeToString())
