"""TF Serving's gRPC messages: arrays -> PredictRequest, PredictResponse -> arrays, and what a model takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

__all__ = ["Signature", "metadata_request", "metadata_signatures", "predict_request", "predict_response", "predicted"]

# What TF Serving calls the one kind of metadata that it has.
SIGNATURES = "signature_def"
# TensorFlow's own, of saving variables: not for clients.
HIDDEN = "__saved_model_init_op"


class Signature(NamedTuple):
    """What a signature takes and gives, by name.

    Attributes:
      inputs: name -> spec.
      outputs: name -> spec.
    """

    inputs: dict[str, tf.TensorSpec]
    outputs: dict[str, tf.TensorSpec]


def predict_request(
    inputs: Mapping[str, Any], signature: str = "serving_default", model: str = "", version: int | None = None
) -> predict_pb2.PredictRequest:
    """Arrays by name as the request of `PredictionService.Predict`.

    Args:
      inputs: name -> array; texts as bytes or str.
      signature: which one.
      model: name under which the server has it; "" where the request is not sent to one (warm-up).
      version: None = the server's choice, its newest.

    Example:
      >>> request = predict_request({"user": np.array([3, 5])}, "predict_raw", "clicks")
      >>> tf.make_ndarray(request.inputs["user"]).tolist()
      [3, 5]
    """
    request = predict_pb2.PredictRequest(inputs={name: _proto(value) for name, value in inputs.items()})
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if version is not None:
        request.model_spec.version.value = version
    return request


def predict_response(
    outputs: Mapping[str, Any], signature: str, model: str, version: int
) -> predict_pb2.PredictResponse:
    """The reply to a `predict_request`, as a server makes it."""
    response = predict_pb2.PredictResponse(outputs={name: _proto(value) for name, value in outputs.items()})
    response.model_spec.name, response.model_spec.signature_name = model, signature
    response.model_spec.version.value = version
    return response


def predicted(response: predict_pb2.PredictResponse) -> dict[str, np.ndarray]:
    """The arrays of a reply, by name; texts as arrays of bytes."""
    return {name: tf.make_ndarray(proto) for name, proto in sorted(response.outputs.items())}


def metadata_request(model: str, version: int | None = None) -> get_model_metadata_pb2.GetModelMetadataRequest:
    """The request of `PredictionService.GetModelMetadata` for a model's signatures."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[SIGNATURES])
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    return request


def metadata_signatures(response: get_model_metadata_pb2.GetModelMetadataResponse) -> dict[str, Signature]:
    """The signatures of a model, by name.

    Raises:
      ValueError: the reply has none.
    """
    found = get_model_metadata_pb2.SignatureDefMap()
    if SIGNATURES not in response.metadata or not response.metadata[SIGNATURES].Unpack(found):
        raise ValueError(f"the reply must have the metadata {SIGNATURES!r}, got {sorted(response.metadata)}")
    return {
        name: Signature(_specs(definition.inputs), _specs(definition.outputs))
        for name, definition in sorted(found.signature_def.items())
        if name != HIDDEN
    }


def _proto(value: Any) -> Any:
    array = np.asarray(value)
    return tf.make_tensor_proto(array, tf.string if array.dtype.kind in "OSU" else None)


def _specs(infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype))
        for name, info in sorted(infos.items())
    }
