"""The bodies of TF Serving's REST interface: arrays -> JSON, JSON -> arrays."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from xdeepint_ext.serving.messages import SIGNATURES, Signature, metadata_signatures

__all__ = ["FORMS", "predict_body", "reply_arrays", "reply_signatures"]

FORMS = ("inputs", "instances")
BASE64 = "b64"


def predict_body(inputs: Mapping[str, Any], signature: str = "serving_default", form: str = "inputs") -> str:
    """Arrays by name as the body of `POST .../v1/models/NAME:predict`.

    Args:
      inputs: name -> array. Text that JSON can have is text, other bytes (a serialized tf.Example) are base64.
      signature: which one.
      form: `inputs`, by column, for every signature; `instances`, by row, where all columns are of the same length (not
        those of `rank`).

    Raises:
      ValueError: no such form, or columns of different lengths by row.

    Example:
      >>> predict_body({"user": np.array([3, 5])}, "predict_raw")
      '{"signature_name": "predict_raw", "inputs": {"user": [3, 5]}}'
      >>> predict_body({"user": np.array([3, 5])}, "predict_raw", "instances")
      '{"signature_name": "predict_raw", "instances": [{"user": 3}, {"user": 5}]}'
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, got {form!r}")
    columns = {name: _plain(np.asarray(value)) for name, value in inputs.items()}
    if form == "inputs":
        return json.dumps({"signature_name": signature, "inputs": columns})
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"form=instances takes columns of one length, got {lengths}; form=inputs takes these")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps({"signature_name": signature, "instances": rows})


def reply_arrays(text: str, outputs: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
    """The arrays of a reply, by name.

    Args:
      text: body of the reply, to either form.
      outputs: the signature's, which say the names and types that JSON leaves out.

    Raises:
      ValueError: the reply is no such one, or says an error.
    """
    found = _json(text)
    if "outputs" in found:
        columns = found["outputs"] if len(outputs) > 1 else dict.fromkeys(outputs, found["outputs"])
    elif "predictions" in found:
        rows = found["predictions"]
        columns = {name: [row[name] if len(outputs) > 1 else row for row in rows] for name in outputs}
    else:
        raise ValueError(f"a reply must have 'outputs' or 'predictions', got {sorted(found)}")
    if set(columns) != set(outputs):
        raise ValueError(f"the reply must have the outputs {sorted(outputs)}, got {sorted(columns)}")
    return {name: _array(columns[name], outputs[name]) for name in sorted(outputs)}


def reply_signatures(text: str) -> dict[str, Signature]:
    """The signatures in the reply to `GET .../v1/models/NAME/metadata`.

    Raises:
      ValueError: the reply is no such one, or says an error.
    """
    signatures = _json(text).get("metadata", {}).get(SIGNATURES)
    if signatures is None:
        raise ValueError(f"a reply about a model must have metadata.{SIGNATURES}, got {text[:200]!r}")
    found = json_format.ParseDict(signatures, get_model_metadata_pb2.SignatureDefMap(), ignore_unknown_fields=True)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.metadata[SIGNATURES].Pack(found)
    return metadata_signatures(response)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the reply is not JSON: {error}; it begins {text[:200]!r}") from None
    if not isinstance(found, dict):
        raise ValueError(f"a reply must be a JSON object, got {text[:200]!r}")
    if "error" in found:
        raise ValueError(str(found["error"]))
    return found


def _plain(array: np.ndarray) -> Any:
    """An array as JSON's lists: numbers in their shortest form, NaN as the token `NaN`, which TF Serving reads."""
    if array.ndim:
        return [
            _plain(element) if isinstance(element, np.ndarray) else _plain(np.asarray(element)) for element in array
        ]
    value = array[()]
    if isinstance(value, bytes | str):
        return _text(tf.compat.as_bytes(value))
    return float(str(value)) if array.dtype.kind == "f" else value.item()


def _text(value: bytes) -> Any:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    return text if text.isprintable() else {BASE64: base64.b64encode(value).decode()}


def _array(value: Any, spec: tf.TensorSpec) -> np.ndarray:
    if spec.dtype != tf.string:
        return np.array(value, spec.dtype.as_numpy_dtype)
    array = np.empty(np.shape(_without_objects(value)), object)
    array[...] = _bytes(value)
    return array


def _without_objects(value: Any) -> Any:
    return [_without_objects(element) for element in value] if isinstance(value, list) else 0


def _bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_bytes(element) for element in value]
    return base64.b64decode(value[BASE64]) if isinstance(value, dict) else value.encode()
