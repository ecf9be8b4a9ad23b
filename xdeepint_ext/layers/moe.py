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
        chosen = tf.not_equal(gates, 0)  # a gate that is NaN chooses too, so that the output shows it
        weights = gates if self.combine == "weighted" else tf.where(tf.math.is_nan(gates), gates, tf.ones_like(gates))
        dispatch = self.dispatch
        if dispatch == "auto":
            dispatch = "dense" if in_xla() else "gather"
        if dispatch == "dense":
            weights = tf.where(chosen, weights, tf.zeros_like(weights))
            return self._dense(x, start, weights)
        parts = [
            self._gathered(expert, x, start, weights[:, index], *self._rows(chosen[:, index], dispatch))
            for index, expert in enumerate(self.experts)
        ]
        if self.overflow is not None and is_recording():
            placed = tf.add_n([tf.reduce_sum(tf.cast(used, tf.float32)) for _, _, used in parts])
            wanted = tf.reduce_sum(tf.cast(chosen, tf.float32))
            self.overflow.update_state(1 - tf.math.divide_no_nan(placed, wanted), wanted)
        rows, outputs = (tf.concat([part[index] for part in parts], axis=0) for index in range(2))
        return tf.ensure_shape(tf.math.unsorted_segment_sum(outputs, rows, tf.shape(x)[0]), x.shape)

    def _dense(self, x: tf.Tensor, start: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return tf.add_n(
            [
                self._output(expert, x, start) * _column(weights[:, index], x)
                for index, expert in enumerate(self.experts)
            ]
        )

    def _rows(self, chosen: tf.Tensor, dispatch: str) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Rows that an expert gets, and which of its places are used; None = all."""
        if dispatch == "gather":
            return tf.where(chosen)[:, 0], None
        batch = tf.shape(chosen)[0]
        used, rows = tf.math.top_k(tf.cast(chosen, tf.int32), self._capacity(batch))  # of equals the first rows
        return rows, tf.cast(used, tf.bool)

    def _capacity(self, batch: tf.Tensor) -> tf.Tensor:
        k = self.gate.k if isinstance(self.gate.k, int) else self.gate.k[-1][1]
        share = tf.cast(batch, tf.float32) * (self.capacity_factor * k / len(self.experts))
        return tf.minimum(batch, tf.cast(tf.math.ceil(share - 1e-4), tf.int32))

    def _gathered(
        self,
        expert: tf.keras.layers.Layer,
        x: tf.Tensor,
        start: tf.Tensor,
        weights: tf.Tensor,
        rows: tf.Tensor,
        used: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Rows, what the expert adds to them, and for each whether it was chosen."""
        own, own_start = (tf.ensure_shape(tf.gather(t, rows), (None, *t.shape[1:])) for t in (x, start))
        own_weights = tf.gather(weights, rows)
        if used is None:
            used = tf.ones_like(rows, tf.bool)
        else:
            own_weights = tf.where(used, own_weights, tf.zeros_like(own_weights))
        return rows, self._output(expert, own, own_start) * _column(own_weights, own), used

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
