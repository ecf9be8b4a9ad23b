"""Asks a model in a running TF Serving, by gRPC or REST.

    python -m xdeepint_ext.serving.client --address=localhost:8500 --model=clicks --input=rows.json
    python -m xdeepint_ext.serving.client --address=http://localhost:8501 --model=clicks --input=rows.csv
    python -m xdeepint_ext.serving.client --address=localhost:8500 --model=clicks --signatures

Rows and answers are those of `serving.query`, which asks an exported folder. Needs TensorFlow and
tensorflow-serving-api, and nothing of the training code.
"""

from __future__ import annotations

import abc
import argparse
import functools
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import prediction_service_pb2_grpc

from xdeepint_ext.serving import messages, rest
from xdeepint_ext.serving.messages import Signature
from xdeepint_ext.serving.query import RAW, answer_lines, feed_of, unused_columns
from xdeepint_ext.serving.rows import SEPARATOR, read_text

__all__ = ["Client", "GrpcClient", "RestClient", "ServingError", "connect"]


class ServingError(RuntimeError):
    """The server refused, failed, or could not be reached; the message names it and has its own words."""


def connect(address: str, model: str, version: int | None = None, timeout: float = 60.0) -> Client:
    """The client for an address.

    Args:
      address: `http://HOST:PORT` or `https://...` for REST (port 8501 by custom), `HOST:PORT` for gRPC (8500).
      model: name under which the server has it.
      version: None = the server's choice, its newest.
      timeout: seconds that a request may take.

    Example:
      >>> client = connect("localhost:8500", "clicks")
      >>> client.predict({"user": [3], "item": [4]}, "predict_raw")  # doctest: +SKIP
      {'logit': array([[-1.2]], dtype=float32), 'probability': array([[0.23]], dtype=float32)}
    """
    kind = RestClient if address.startswith(("http://", "https://")) else GrpcClient
    return kind(address, model, version, timeout)


class Client(abc.ABC):
    """A model on a server.

    Args:
      address, model, version, timeout: see `connect`.

    Subclasses override:
      ask_signatures, ask: the two requests.
    """

    def __init__(self, address: str, model: str, version: int | None = None, timeout: float = 60.0) -> None:
        self.address, self.model, self.version, self.timeout = address, model, version, timeout

    @functools.cached_property
    def signatures(self) -> dict[str, Signature]:
        """What the model takes and gives, by name of the signature; asked once.

        Raises:
          ServingError: the server cannot be reached or has no such model.
        """
        return self.ask_signatures()

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Outputs of arrays, by name.

        Raises:
          ServingError: the server cannot be reached or refuses.
          ValueError: there is no such signature, or it takes other inputs.
        """
        wanted = self._signature(signature).inputs
        if set(wanted) != set(inputs):
            raise ValueError(f"signature {signature!r} takes {sorted(wanted)}, got {sorted(inputs)}")
        arrays = {
            name: np.asarray(
                value, object if wanted[name].dtype.name == "string" else wanted[name].dtype.as_numpy_dtype
            )
            for name, value in inputs.items()
        }
        return self.ask(arrays, signature)

    def query(
        self, rows: str | Sequence[dict[str, Any]], signature: str = RAW, separator: str = SEPARATOR
    ) -> dict[str, np.ndarray]:
        """Scores of raw rows: see `serving.query.query`.

        Raises:
          ServingError: the server cannot be reached or refuses.
          RowError: a row does not fit; names row and column.
          ValueError: no such signature.
        """
        self._signature(signature)
        inputs = {name: found.inputs for name, found in self.signatures.items()}
        return self.predict(feed_of(rows, inputs, signature, separator), signature)

    def _signature(self, name: str) -> Signature:
        if name not in self.signatures:
            raise ValueError(f"the model has no signature {name!r}; it has {sorted(self.signatures)}")
        return self.signatures[name]

    @abc.abstractmethod
    def ask_signatures(self) -> dict[str, Signature]:
        """The model's signatures, from the server."""

    @abc.abstractmethod
    def ask(self, inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        """Outputs of a signature, from the server."""


class GrpcClient(Client):
    """By gRPC, which has no digits to parse.

    Args:
      address, model, version, timeout: see `connect`.
      credentials: of TLS; None = without.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        timeout: float = 60.0,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        super().__init__(address, model, version, timeout)
        # gRPC's 4 MB would not hold a thousand rows of vectors; TF Serving has no limit of its own.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask_signatures(self) -> dict[str, Signature]:
        request = messages.metadata_request(self.model, self.version)
        return messages.metadata_signatures(self._call(self._service.GetModelMetadata, request))

    def ask(self, inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        request = messages.predict_request(inputs, signature, self.model, self.version)
        return messages.predicted(self._call(self._service.Predict, request))

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise ServingError(
                f"{self.address}, model {self.model!r}: {error.code().name}: {error.details()}"
            ) from None


class RestClient(Client):
    """By REST.

    Args:
      address, model, version, timeout: see `connect`.
      form: of requests; see `rest.predict_body`.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        timeout: float = 60.0,
        form: str = "inputs",
    ) -> None:
        super().__init__(address, model, version, timeout)
        self.form = form
        of_version = "" if version is None else f"/versions/{version}"
        self._url = f"{address.rstrip('/')}/v1/models/{model}{of_version}"

    def ask_signatures(self) -> dict[str, Signature]:
        return self._read(rest.reply_signatures, self._call(f"{self._url}/metadata"))

    def ask(self, inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        reply = self._call(f"{self._url}:predict", rest.predict_body(inputs, signature, self.form))
        outputs = self._signature(signature).outputs
        return self._read(lambda text: rest.reply_arrays(text, outputs), reply)

    def _call(self, url: str, body: str | None = None) -> str:
        request = urllib.request.Request(url, None if body is None else body.encode())
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                return reply.read().decode()
        except urllib.error.HTTPError as error:
            # An error's reply says it in its body.
            return error.read().decode() or json.dumps({"error": f"{error.code} {error.reason}"})
        except OSError as error:
            raise ServingError(f"{url}: {error}") from None

    def _read(self, read: Any, text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise ServingError(f"{self._url}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, or 1 after an error that the message on standard error explains."""
    parser = argparse.ArgumentParser(
        prog="python -m xdeepint_ext.serving.client", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--address", required=True, help="HOST:PORT for gRPC, http://HOST:PORT for REST")
    parser.add_argument("--model", required=True, help="name under which the server has it")
    parser.add_argument("--version", type=int, help="default: the server's newest")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that a request may take")
    parser.add_argument("--input", default="-", help="file of rows, - = standard input")
    parser.add_argument("--signature", default=RAW, help="one of the model's")
    parser.add_argument("--separator", default=SEPARATOR, help="between several values in a cell of CSV")
    parser.add_argument("--signatures", action="store_true", help="prints what the model takes and gives, no scores")
    options = parser.parse_args(arguments)
    try:
        client = connect(options.address, options.model, options.version, options.timeout)
        if options.signatures:
            print("\n".join(_described(client.signatures)))
            return 0
        rows = read_text(options.input)
        lines = answer_lines(client.query(rows, options.signature, options.separator))
        unused = unused_columns(rows, {name: s.inputs for name, s in client.signatures.items()}, options.signature)
    except (OSError, ValueError, ServingError) as error:
        print(f"client: {error}", file=sys.stderr)
        return 1
    if unused:
        print(f"columns that the model does not take: {unused}", file=sys.stderr)
    print("\n".join(lines))
    return 0


def _described(signatures: Mapping[str, Signature]) -> list[str]:
    lines = []
    for name, found in signatures.items():
        lines.append(name)
        for arrow, specs in (("->", found.inputs), ("<-", found.outputs)):
            lines += [f"  {arrow} {key}: {spec.dtype.name} {spec.shape}" for key, spec in specs.items()]
    return lines


if __name__ == "__main__":
    sys.exit(main())
