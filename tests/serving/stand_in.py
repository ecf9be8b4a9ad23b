"""A server that speaks TF Serving's two protocols as these are documented, for tests of clients.

What it knows of a model is in the folder's saved_model.pb; what computes is the caller's. It shares no code with the
package: requests are read, and replies written, by tensorflow-serving-api's messages and by json.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import os
import re
import threading

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving import c_api

PATH = re.compile(r"/v1/models/(?P<model>\w+)(/versions/(?P<version>\d+))?(?P<what>:predict|/metadata)$")


class Model:
    """One version of one model.

    Args:
      name: under which it is asked for.
      folder: a SavedModel, whose name is its version.
      compute: (signature, input -> array) -> output -> array.
    """

    def __init__(self, name, folder, compute):
        self.name, self.version, self.compute = name, int(os.path.basename(folder)), compute
        self.signatures = dict(c_api.meta_graph(folder).signature_def)

    def check(self, name, version):
        if name != self.name or version not in (None, self.version):
            raise LookupError(f"Servable not found for request: Specific({name}, {version})")

    def definitions(self):
        return get_model_metadata_pb2.SignatureDefMap(signature_def=self.signatures)

    def run(self, signature, inputs):
        if signature not in self.signatures:
            raise LookupError(f'Serving signature key "{signature}" not found.')
        return self.compute(signature, inputs)


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model):
        self.model = model

    def Predict(self, request, context):
        with refusing(context):
            spec = request.model_spec
            self.model.check(spec.name, spec.version.value if spec.HasField("version") else None)
            outputs = self.model.run(spec.signature_name, {k: tf.make_ndarray(v) for k, v in request.inputs.items()})
            response = predict_pb2.PredictResponse(outputs={k: tf.make_tensor_proto(v) for k, v in outputs.items()})
            response.model_spec.CopyFrom(spec)
            return response

    def GetModelMetadata(self, request, context):
        with refusing(context):
            self.model.check(request.model_spec.name, None)
            assert list(request.metadata_field) == ["signature_def"]
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.metadata["signature_def"].Pack(self.model.definitions())
            return response


@contextlib.contextmanager
def refusing(context):
    try:
        yield
    except LookupError as error:
        context.abort(grpc.StatusCode.NOT_FOUND, str(error.args[0]))


def handler_of(model):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply("/metadata")

        def do_POST(self):
            self.reply(":predict")

        def reply(self, what):
            try:
                found = PATH.match(self.path)
                if not found or found["what"] != what:
                    raise LookupError(f"Malformed request: {self.command} {self.path}")
                model.check(found["model"], found["version"] and int(found["version"]))
                status, body = 200, self.metadata() if what == "/metadata" else self.predict()
            except LookupError as error:
                status, body = 404, {"error": str(error.args[0])}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def metadata(self):
            definitions = json_format.MessageToDict(model.definitions(), preserving_proto_field_name=True)
            spec = {"name": model.name, "signature_name": "", "version": str(model.version)}
            return {"model_spec": spec, "metadata": {"signature_def": definitions}}

        def predict(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            definition = model.signatures[request["signature_name"]]
            columns = columns_of(request)
            inputs = {key: array_of(value, definition.inputs[key].dtype) for key, value in columns.items()}
            outputs = {k: json_of(v) for k, v in model.run(request["signature_name"], inputs).items()}
            single = len(outputs) == 1
            if "inputs" in request:
                return {"outputs": next(iter(outputs.values())) if single else outputs}
            rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
            return {"predictions": [next(iter(row.values())) for row in rows] if single else rows}

        def log_message(self, *_):
            pass

    return Handler


def columns_of(request):
    """The columns of a body of either form."""
    if "inputs" in request:
        return request["inputs"]
    return {key: [row[key] for row in request["instances"]] for key in request["instances"][0]}


def array_of(value, dtype):
    def decoded(x):
        if isinstance(x, list):
            return [decoded(element) for element in x]
        return base64.b64decode(x["b64"]) if isinstance(x, dict) else x.encode() if isinstance(x, str) else x

    dtype = tf.as_dtype(dtype)
    return np.array(decoded(value), object if dtype == tf.string else dtype.as_numpy_dtype)


def json_of(array):
    return json.loads(json.dumps(array.tolist(), default=lambda x: x.decode()))


@contextlib.contextmanager
def serving(model):
    """The addresses, for gRPC and for REST, of a server that has one model."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(model), server)
    port = server.add_insecure_port("localhost:0")
    web = http.server.ThreadingHTTPServer(("localhost", 0), handler_of(model))
    server.start()
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        yield f"localhost:{port}", f"http://localhost:{web.server_address[1]}"
    finally:
        web.shutdown()
        web.server_close()
        server.stop(None)
