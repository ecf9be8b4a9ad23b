"""Multiply-adds of the parts of a model that routes its examples, and how often the routing needs each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.routing import Routed, Routing
from xdeepint_ext.utils.multiply_adds import multiply_adds

__all__ = ["Part", "expert_names", "parts_of"]


@dataclasses.dataclass(frozen=True)
class Part:
    """A gate, expert or estimator.

    Args:
      layer: 0 .. L - 1; None for the exit gate.
      name: such as `gate`, `cross` or `estimator`.
      counted: attribute of `Routing` that counts the records which need the part, and the place in it; None = all do.
      parameters: entries of its weights.
      multiply_adds: for one example that needs it; with the weighting of its output.
    """

    layer: int | None
    name: str
    counted: tuple[str, Any] | None
    parameters: int
    multiply_adds: float

    def share(self, routing: Routing) -> float:
        """Share of all records that need the part."""
        if self.counted is None:
            return 1.0
        attribute, place = self.counted
        return float(getattr(routing, attribute)[place] / len(routing.depths))

    def expected(self, routing: Routing) -> float:
        """Multiply-adds for an average record."""
        return self.share(routing) * self.multiply_adds


def parts_of(model: Routed, field_matrix: tf.TensorSpec) -> list[Part]:
    """The parts, in the order in which they compute; the sum of their costs is the dense form's.

    The expected cost is `exit gate + sum_l P(l is needed) gate_l + sum_le P(l is needed, e chosen) (expert_le + n) +
    sum_l P(leaves at l) (estimator_l + T)`: n and T multiplications weight an expert's output and a depth's T logits.

    Args:
      model: a built model.
      field_matrix: (B, F, K) with a static B.
    """
    exits, size = model.exits, field_matrix.shape[1:].num_elements()
    flat = tf.TensorSpec((field_matrix.shape[0], size), field_matrix.dtype)
    found = [_part(None, "exit gate", None, exits.gate, _inferring(exits.gate), flat)]
    for index, (layer, estimator) in enumerate(zip(exits.layers, exits.estimators, strict=True)):
        found.append(_part(index, "gate", ("reaches", index), layer.gate, _inferring(layer.gate), flat))
        for number, (name, expert) in enumerate(zip(expert_names(layer), layer.experts, strict=True)):
            called = functools.partial(_on_both, expert)
            found.append(_part(index, name, ("chosen", (index, number)), expert, called, field_matrix, size))
        outputs = estimator.compute_output_shape(field_matrix.shape)[-1]
        found.append(_part(index, "estimator", ("leaves", index), estimator, estimator, field_matrix, outputs))
    return found


def expert_names(layer: Any) -> list[str]:
    """Names of the experts of a layer, numbered where two are alike."""
    names = [expert.name for expert in layer.experts]
    return [n if names.count(n) == 1 else f"{n} {names[: i + 1].count(n)}" for i, n in enumerate(names)]


def _part(
    layer: int | None,
    name: str,
    counted: tuple[str, Any] | None,
    weights: tf.keras.layers.Layer,
    function: Callable[[tf.Tensor], tf.Tensor],
    spec: tf.TensorSpec,
    weighting: int = 0,
) -> Part:
    parameters = sum(weight.shape.num_elements() for weight in weights.weights)
    return Part(layer, name, counted, int(parameters), multiply_adds(function, spec) + weighting)


def _inferring(gate: tf.keras.layers.Layer) -> Callable[[tf.Tensor], tf.Tensor]:
    return functools.partial(gate, training=False)


def _on_both(expert: tf.keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
    return expert([x, x])
