"""How many multiplications (each with its addition) a function makes for an example, read off its graph."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

__all__ = ["multiply_adds"]

# One multiplication for each element of the output.
ELEMENTWISE = {"Mul", "MulNoNan", "Square", "SquaredDifference", "FusedBatchNormV3"}
CALLS = {"PartitionedCall": "f", "StatefulPartitionedCall": "f"}
BRANCHES = {
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "While": ("cond", "body"),
    "StatelessWhile": ("cond", "body"),
    "Case": ("branches",),
    "StatelessCase": ("branches",),
}
# Their outputs say nothing about the values that come in.
CONSTANT = {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"}
PRODUCTS = re.compile("MatMul|Conv|Einsum|Dot|RNN|LSTM|GRU")


def multiply_adds(function: Callable[..., Any], *inputs: Any) -> float:
    """Multiply-adds of one example: `output elements x contracted size` of every product, over the batch size.

    Counted are matrix products, einsums and convolutions, and 1 for each element that a multiplication, square, squared
    difference or batch normalisation makes, where the result depends on the inputs and is floating. Not counted: sums,
    activations, divisions, look-ups, and what depends on weights alone, as a whole batch shares it.

    Args:
      function: such as a built layer, or a model's `trunk`; called once with symbolic tensors.
      *inputs: its arguments as `tf.TensorSpec`s (or nests of them) with static shapes; the first axis is the batch.

    Returns:
      The count.

    Raises:
      ValueError: a product's shape is not static, its kind is not known, or how often it is made depends on the data.
        The message names the operation.

    Example:
      >>> layer = tf.keras.layers.Dense(5)
      >>> layer.build((None, 3))
      >>> multiply_adds(layer, tf.TensorSpec((8, 3)))
      15.0
    """
    batch = tf.nest.flatten(inputs)[0].shape[0]
    if not batch:
        raise ValueError(f"inputs must have a static batch size, got {inputs}")
    traced = tf.function(function).get_concrete_function(*inputs)
    given = {tensor.ref() for tensor in traced.inputs[: len(tf.nest.flatten(inputs))]}
    return _count(traced.graph, given)[0] / batch


def _count(graph: Any, depends: set[Any]) -> tuple[int, set[Any]]:
    """(multiply-adds of a graph, its tensors that depend on the given ones)."""
    total = 0
    for operation in graph.get_operations():
        if not any(tensor.ref() in depends for tensor in operation.inputs) or operation.type in CONSTANT:
            continue
        outputs = operation.outputs
        if operation.type in CALLS:
            called = _function(operation, CALLS[operation.type])
            entering = zip(called.inputs, operation.inputs, strict=True)
            count, inside = _count(called, {inner.ref() for inner, outer in entering if outer.ref() in depends})
            leaving = zip(called.outputs, outputs, strict=True)
            outputs = [outer for inner, outer in leaving if inner.ref() in inside]
            total += count
        elif operation.type in BRANCHES:
            _check_branches(operation)
        elif any(output.dtype.is_floating for output in outputs):
            total += _products(operation)
        depends |= {output.ref() for output in outputs}
    return total, depends


def _function(operation: Any, attribute: str) -> Any:
    return operation.graph._get_function(operation.get_attr(attribute).name).graph


def _check_branches(operation: Any) -> None:
    """Branches and loops are fine as long as they multiply nothing."""
    for attribute in BRANCHES[operation.type]:
        found = operation.get_attr(attribute)
        for one in found if isinstance(found, list) else [found]:
            graph = operation.graph._get_function(one.name).graph
            if _count(graph, {tensor.ref() for tensor in graph.inputs})[0]:
                raise ValueError(
                    f"{operation.name} ({operation.type}): there are products in its branch {one.name}, and how often "
                    "they are made depends on the data; count a dense form of the model"
                )


def _products(operation: Any) -> int:
    kind = operation.type
    if kind in ELEMENTWISE:
        return _size(operation.outputs[0].shape, operation)
    if not PRODUCTS.search(kind):
        return 0
    if kind == "Einsum":
        return _einsum(operation)
    output = _size(operation.outputs[0].shape, operation)
    left, right = (tensor.shape for tensor in list(operation.inputs)[:2])
    if kind == "MatMul":
        return output * _size(left[:1] if operation.get_attr("transpose_a") else left[1:], operation)
    if kind in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        return output * _size(left[-2:-1] if operation.get_attr("adj_x") else left[-1:], operation)
    if kind in ("Conv2D", "Conv3D"):
        return output * _size(right[:-1], operation)
    if kind == "DepthwiseConv2dNative":
        return output * _size(right[:2], operation)
    raise ValueError(f"{operation.name}: the products of a {kind} cannot be counted")


def _einsum(operation: Any) -> int:
    """The product of the sizes of all labels, without those that only one operand has and that are summed first."""
    if len(operation.inputs) < 2:
        return 0
    operands, result = operation.get_attr("equation").decode().split("->")
    sizes: list[dict[str, int]] = []
    for labels, tensor in zip(operands.split(","), operation.inputs, strict=True):
        _size(tensor.shape, operation)
        sizes.append(dict(zip(_labels(labels, tensor.shape.rank), tensor.shape.as_list(), strict=True)))
    left, right = sizes
    kept = set(_labels(result, operation.outputs[0].shape.rank)) | (set(left) & set(right))
    return math.prod(max(left.get(label, 1), right.get(label, 1)) for label in kept)


def _labels(text: str, rank: int) -> Sequence[str]:
    """The labels of each axis; the axes of `...` are `-1`, `-2` from the right."""
    named = text.replace("...", "")
    before, separator, after = text.partition("...")
    broadcast = [str(-n) for n in range(rank - len(named), 0, -1)] if separator else []
    return [*before, *broadcast, *after]


def _size(shape: Any, operation: Any) -> int:
    if not shape.is_fully_defined():
        raise ValueError(f"{operation.name} ({operation.type}): its shape {shape} must be static to be counted")
    return math.prod(shape.as_list())
