"""Runs signatures of a SavedModel as TF Serving does: through TensorFlow's C library, without TensorFlow's Python.

`run_signatures` starts a Python process (`c_api_process.py`) that has NumPy and ctypes alone: neither this package
nor Keras nor `tensorflow` can be imported there. It loads the folder with `TF_LoadSessionFromSavedModel` and the tag
`serve`, which is the C++ loader that TF Serving calls.
"""

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

PROCESS = pathlib.Path(__file__).with_name("c_api_process.py")
TIMEOUT_S = 300


class CApiError(RuntimeError):
    """The C library refused to load or to run; the message is its own."""


def run_signature(
    saved_model_dir: str | os.PathLike[str], signature: str, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Output name -> array of one signature, run on named arrays (strings: arrays of `bytes` or `str`)."""
    return run_signatures([(saved_model_dir, signature, inputs)])[0]


def run_signatures(
    requests: Sequence[tuple[str | os.PathLike[str], str, Mapping[str, np.ndarray]]],
) -> list[dict[str, np.ndarray]]:
    """As `run_signature`, for several requests: the library is loaded once, and each folder once.

    Raises:
      KeyError: a folder has no such signature, or the inputs are not the signature's.
      CApiError: loading or running failed.
    """
    return _answers([_call(directory, signature, inputs) for directory, signature, inputs in requests])


def time_signatures(
    requests: Sequence[tuple[str | os.PathLike[str], str, Mapping[str, np.ndarray]]], seconds: float
) -> list[np.ndarray]:
    """Seconds of each run of each request, for about so long a request; inputs are made before, once."""
    calls = [_call(directory, signature, inputs) for directory, signature, inputs in requests]
    return _answers([{**call, "seconds": seconds} for call in calls])


def _answers(calls: Sequence[Mapping[str, object]]) -> list[Any]:
    """What the process says to the calls."""
    libraries = [os.path.join(tf.sysconfig.get_lib(), name) for name in _libraries()]
    with tempfile.TemporaryDirectory() as scratch:
        job, answer = pathlib.Path(scratch, "job"), pathlib.Path(scratch, "answer")
        job.write_bytes(pickle.dumps({"libraries": libraries, "calls": calls}))
        # -I: no PYTHONPATH, no current folder; -S: no site-packages. NumPy's folder comes as an argument.
        numpy_folder = pathlib.Path(np.__file__).parents[1]
        command = [sys.executable, "-I", "-S", *map(str, (PROCESS, job, answer, numpy_folder))]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "PATH": os.environ.get("PATH", "")}
        timeout = TIMEOUT_S + sum(3 * call.get("seconds", 0) for call in calls)  # type: ignore[operator, misc]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise CApiError(done.stderr[-4000:])
        return pickle.loads(answer.read_bytes())


def meta_graph(saved_model_dir: str | os.PathLike[str]):
    """The one MetaGraphDef of a SavedModel, which has the tag `serve`."""
    saved_model = saved_model_pb2.SavedModel.FromString(pathlib.Path(saved_model_dir, "saved_model.pb").read_bytes())
    (found,) = [graph for graph in saved_model.meta_graphs if list(graph.meta_info_def.tags) == ["serve"]]
    return found


def _call(directory: str | os.PathLike[str], name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, object]:
    signatures = meta_graph(directory).signature_def
    if name not in signatures:
        raise KeyError(f"{directory} has no signature {name!r}, only {sorted(signatures)}")
    definition = signatures[name]
    if set(definition.inputs) != set(inputs):
        raise KeyError(f"signature {name!r} takes {sorted(definition.inputs)}, got {sorted(inputs)}")
    feeds = {}
    for key, info in definition.inputs.items():
        dtype = tf.as_dtype(info.dtype)
        array = np.asarray(inputs[key])
        if dtype == tf.string:
            array = np.vectorize(tf.compat.as_bytes, otypes=[object])(array) if array.size else array.astype(object)
        feeds[info.name] = (info.dtype, array if dtype == tf.string else array.astype(dtype.as_numpy_dtype))
    return {
        "directory": os.fspath(directory),
        "feeds": feeds,
        "fetches": {key: info.name for key, info in definition.outputs.items()},
    }


def _libraries() -> list[str]:
    """File names of the wheel's framework library and of the C API, in the order in which they must be loaded."""
    suffix = "2.dylib" if sys.platform == "darwin" else "so.2"
    return [f"libtensorflow_framework.{suffix}", f"libtensorflow_cc.{suffix}"]
