"""Whether a SavedModel can run where there is neither Python nor a compiler."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from xdeepint_ext.utils.recording import recording_off

_PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_XLA_ATTRIBUTE = "_XlaMustCompile"


def check_servable(saved_model_dir: str) -> None:
    """Checks that no operation calls Python or the XLA compiler, which images of TF Serving may lack.

    Raises:
      ValueError: one does; names operations and functions.
    """
    saved_model = saved_model_pb2.SavedModel()
    with open(os.path.join(saved_model_dir, "saved_model.pb"), "rb") as stream:
        saved_model.ParseFromString(stream.read())
    problems = sorted({problem for graph in saved_model.meta_graphs for problem in _problems(graph.graph_def)})
    if problems:
        raise ValueError(f"TF Serving could not run this model: {'; '.join(problems)}")


@contextlib.contextmanager
def as_served(model: Any) -> Iterator[None]:
    """A `RankingModel` whose trunk is not compiled, and whose layers' metrics stay as they are, inside the block."""
    jit_trunk, model.jit_trunk = model.jit_trunk, False
    try:
        with recording_off():
            yield
    finally:
        model.jit_trunk = jit_trunk


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keeps Keras from printing the folder, which is not yet the final one."""
    talks = tf.keras.utils.is_interactive_logging_enabled()
    tf.keras.utils.disable_interactive_logging()
    try:
        yield
    finally:
        if talks:
            tf.keras.utils.enable_interactive_logging()


def _problems(graph: Any) -> Iterator[str]:
    for function in graph.library.function:
        if function.attr[_XLA_ATTRIBUTE].b:
            yield (
                f"function {function.signature.name} is to be compiled by XLA (a tf.function with jit_compile=True "
                "inside the model or the preprocessor)"
            )
        yield from _problem_nodes(function.node_def, function.signature.name)
    yield from _problem_nodes(graph.node, "the graph")


def _problem_nodes(nodes: Any, where: str) -> Iterator[str]:
    for node in nodes:
        if node.op in _PYTHON_OPS:
            yield f"{node.op} {node.name!r} in {where} calls Python (tf.py_function or tf.numpy_function)"
        elif node.op.startswith("Xla"):
            yield f"{node.op} {node.name!r} in {where} needs the XLA compiler"
