"""A sparse mixture of experts that computes only what was chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.graph import in_xla
from xdeepint_ext.utils.recording import is_recording
from xdeepint_ext.utils.registry import register

COMBINES = ("weighted", "sum")
DISPATCHES = ("auto", "gather", "capacity", "dense")


@register
class SparseMoE(tf.keras.layers.Layer):
    """`sum_{e: g_e > 0} g_e E_e(x_l, x_0)` with gates `g = gate(stop_gradient(x_0))`; only chosen experts compute.

    Args:
      experts: layers that are called with `[x_l, x_0]` and return x_l's shape.
      gate: a layer from (B, n) to gates (B, E), zeros where an expert is not chosen, such as `TopKGate`.
      combine: `weighted`, the sum above, by which the gate learns from the task, our reading; or `sum`, without the
        factor g_e, as in the authors' code, where it learns from its own losses alone.
      dispatch: `gather`: each expert gets the rows that chose it, and its shapes follow the data; `dense`: every expert
        computes all rows, what was not chosen counts 0: the same numbers in static shapes; `capacity`: every expert
        gets a fixed number of rows, for XLA and TPUs; `auto`: `gather`, and `dense` where XLA compiles, which cannot
        have shapes that follow the data.
      capacity_factor: with `capacity`, an expert has ceil(capacity_factor * B * k / E) places, at most B, k being what
        `gate.k` says, at the end of its schedule. The first rows of the batch get them; for the others the expert adds
        0, and the metric `overflow` has their share. Default 1.25 (Fedus et al. 2021, Switch Transformers).

    Call arguments:
      inputs: [x_l, x_0], both (B, ...) with static shapes behind B.

    Returns:
      As x_l.

    Raises:
      ValueError: there is no expert, the gate's number of experts differs, an argument is out of range, or an expert's
        output has another shape than x_l.

    Example:
      >>> from xdeepint_ext.layers import CrossExpert, GatedDenseExpert, TopKGate
      >>> moe = SparseMoE([CrossExpert(), GatedDenseExpert()], TopKGate(2, k=1))
      >>> moe([tf.ones((8, 10, 16)), tf.ones((8, 10, 16))]).shape
      TensorShape([8, 10, 16])

    Source: Yan and Li, AdaEnsemble (arXiv 2301.08353), the authors' code; the paper's text was not at hand.
    """

    def __init__(
        self,
        experts: Sequence[tf.keras.layers.Layer],
        gate: tf.keras.layers.Layer,
        combine: str = "weighted",
        dispatch: str = "auto",
        capacity_factor: float = 1.25,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        number = getattr(gate, "num_experts", len(experts))
        if not experts or number != len(experts):
            raise ValueError(f"SparseMoE: experts must be as many as the gate's {number}, got {len(experts)}")
        if combine not in COMBINES:
            raise ValueError(f"SparseMoE: combine must be one of {COMBINES}, got {combine!r}")
        if dispatch not in DISPATCHES:
            raise ValueError(f"SparseMoE: dispatch must be one of {DISPATCHES}, got {dispatch!r}")
        if dispatch == "capacity" and not hasattr(gate, "k"):
            raise ValueError("SparseMoE: dispatch='capacity' needs a gate with an attribute k, experts an example")
        if not 0 < capacity_factor < math.inf:
            raise ValueError(f"SparseMoE: capacity_factor must be positive and finite, got {capacity_factor}")
        self.experts = list(experts)
        self.gate = gate
        self.combine = combine
        self.dispatch = dispatch
        self.capacity_factor = capacity_factor
        self.overflow = tf.keras.metrics.Mean("overflow") if dispatch == "capacity" else None

    def build(self, input_shape: Any) -> None:
        first, start = (tf.TensorShape(shape) for shape in input_shape)
        for shape in (first, start):
            if shape.rank is None or shape.rank < 2 or not shape[1:].is_fully_defined():
                raise ValueError(f"SparseMoE: inputs must be [x_l, x_0] of shapes (batch, ...), static; got {shape}")
        super().build(input_shape)

    def call(self, inputs: Sequence[tf.Tensor], training: bool | None = None) -> tf.Tensor:
        x, start = inputs
        blocked = tf.reshape(tf.stop_gradient(start), (-1, start.shape[1:].num_elements()))
        gates = self.gate(blocked, training=training)
        # 1, 0 or NaN in the plain sum: a gate that is NaN shows in the output.
        weights = gates if self.combine == "weighted" else tf.stop_gradient(tf.math.divide_no_nan(gates, gates))
        columns = tf.unstack(weights, axis=1)
        if self.dispatch == "dense" or (self.dispatch == "auto" and in_xla()):
            pairs = zip(self.experts, columns, strict=True)
            return tf.add_n([self._output(expert, x, start) * _column(column, x) for expert, column in pairs])
        chosen = [tf.not_equal(column, 0) for column in columns]
        if self.dispatch == "capacity":
            rows = self._placed(chosen)
        else:
            rows = [tf.where(of_expert)[:, 0] for of_expert in chosen]
        outputs = []
        for expert, column, own in zip(self.experts, columns, rows, strict=True):
            x_own, start_own = (tf.ensure_shape(tf.gather(t, own), (None, *t.shape[1:])) for t in (x, start))
            outputs.append(self._output(expert, x_own, start_own) * _column(tf.gather(column, own), x))
        total = tf.math.unsorted_segment_sum(tf.concat(outputs, axis=0), tf.concat(rows, axis=0), tf.shape(x)[0])
        return tf.ensure_shape(total, x.shape)

    def _placed(self, chosen: list[tf.Tensor]) -> list[tf.Tensor]:
        """The rows of each expert's places: first those that chose it, in the batch's order, then any others."""
        batch = tf.shape(chosen[0])[0]
        k = self.gate.k if isinstance(self.gate.k, int) else self.gate.k[-1][1]
        share = tf.cast(batch, tf.float32) * (self.capacity_factor * k / len(self.experts))
        places = tf.minimum(batch, tf.cast(tf.math.ceil(share - 1e-4), tf.int32))
        numbers = [tf.cast(of_expert, tf.int32) for of_expert in chosen]
        if self.overflow is not None and is_recording():
            wanted = tf.reduce_sum(tf.stack(numbers), axis=1)
            total = tf.cast(tf.reduce_sum(wanted), tf.float32)
            without = tf.cast(tf.reduce_sum(tf.nn.relu(wanted - places)), tf.float32)
            self.overflow.update_state(tf.math.divide_no_nan(without, total), total)
        return [tf.math.top_k(number, places).indices for number in numbers]  # of equals the first

    def _output(self, expert: tf.keras.layers.Layer, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        output = expert([x, start])
        if output.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"SparseMoE: expert {expert.name!r} must return the shape of x_l, (batch, {tuple(x.shape[1:])}), "
                f"got (batch, {tuple(output.shape[1:])})"
            )
        return tf.cast(output, x.dtype)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "experts": [tf.keras.layers.serialize(expert) for expert in self.experts],
            "gate": tf.keras.layers.serialize(self.gate),
            "combine": self.combine,
            "dispatch": self.dispatch,
            "capacity_factor": self.capacity_factor,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SparseMoE:
        experts = [tf.keras.layers.deserialize(expert) for expert in config["experts"]]
        return cls(**{**config, "experts": experts, "gate": tf.keras.layers.deserialize(config["gate"])})


def _column(weights: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """(b,) -> (b, 1, ...), to multiply with."""
    return tf.reshape(tf.cast(weights, like.dtype), (-1, *[1] * (like.shape.rank - 1)))
