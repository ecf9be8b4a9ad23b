"""A stack of layers that each example leaves at a depth of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.graph import in_xla
from xdeepint_ext.utils.recording import is_recording
from xdeepint_ext.utils.registry import register

MODES = ("soft", "hard")
DISPATCHES = ("auto", "gather", "dense")


@register
class EarlyExit(tf.keras.layers.Layer):
    """`sum_d pi_d logit_d` with `logit_d = estimator_d(x_{d+1})`, `x_{d+1} = x_d + layer_d(x_d, x_0)`.

    The gates `pi = gate(stop_gradient(x_0))` are made before the first layer, and deeper layers than an example needs
    are not computed for it. In training the gates mix depths; in inference an example takes its most probable depth
    alone.

    Args:
      layers: L layers, called with `[x_d, x_0]`, that return x_d's shape, such as `SparseMoE`.
      estimators: L layers from x_d to logits (B, T), of one T.
      gate: a layer from (B, n) to gates (B, L), zeros where an example does not leave, such as `TopKGate`.
      residual: whether x_d is added to a layer's output. Authors: True.
      mode: training is `soft`, the mixture above, which the gate learns from, our reading; or `hard`, the authors'
        code: `sum_{d: pi_d > 0} logit_d`, by which the gate learns from its own losses alone, in inference too.
      dispatch: `gather`: a layer computes the rows that are left, and its shapes follow the data; `dense`: every layer
        computes all rows, the same numbers in static shapes; `auto`: `gather`, and `dense` where XLA compiles.

    Weights:
      of the layers, estimators and gate.

    Metrics:
      expected_depth: mean of `sum_d pi_d (d + 1)` over examples.

    Call arguments:
      inputs: x_0, (B, ...) with static shapes behind B, or [x_0].

    Returns:
      Logits (B, T).

    Raises:
      ValueError: the numbers of layers, estimators and exits of the gate differ, an argument is none of its choices,
        or a layer's output has another shape than its input.

    Example:
      >>> from xdeepint_ext.layers import CrossExpert, TopKGate
      >>> estimators = [tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(1)]) for _ in range(2)]
      >>> EarlyExit([CrossExpert(), CrossExpert()], estimators, TopKGate(2, k=1))(tf.ones((8, 10, 16))).shape
      TensorShape([8, 1])

    Source: Yan and Li, AdaEnsemble (arXiv 2301.08353), the authors' code; the paper's text was not at hand.
    """

    def __init__(
        self,
        layers: Sequence[tf.keras.layers.Layer],
        estimators: Sequence[tf.keras.layers.Layer],
        gate: tf.keras.layers.Layer,
        residual: bool = True,
        mode: str = "soft",
        dispatch: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        exits = getattr(gate, "num_experts", len(layers))
        if not layers or len({len(layers), len(estimators), exits}) > 1:
            raise ValueError(
                "EarlyExit: layers, estimators and the gate's exits must be equally many, one at least; got "
                f"{len(layers)}, {len(estimators)} and {exits}"
            )
        if mode not in MODES:
            raise ValueError(f"EarlyExit: mode must be one of {MODES}, got {mode!r}")
        if dispatch not in DISPATCHES:
            raise ValueError(f"EarlyExit: dispatch must be one of {DISPATCHES}, got {dispatch!r}")
        self.layers = list(layers)
        self.estimators = list(estimators)
        self.gate = gate
        self.residual = residual
        self.mode = mode
        self.dispatch = dispatch
        self.expected_depth = tf.keras.metrics.Mean("expected_depth")

    def call(self, inputs: tf.Tensor | Sequence[tf.Tensor], training: bool | None = None) -> tf.Tensor:
        start = inputs[0] if isinstance(inputs, list | tuple) else inputs
        weights = self.exits(start, training=training)
        if is_recording():
            depths = tf.range(1, len(self.layers) + 1, dtype=weights.dtype)
            self.expected_depth.update_state(tf.linalg.matvec(weights, depths) / tf.reduce_sum(weights, axis=1))
        gathers = self.dispatch == "gather" or (self.dispatch == "auto" and not in_xla())
        return self._gathered(start, weights) if gathers else self._dense(start, weights)

    def exits(self, start: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(B, L): how much each depth's logit counts; zero where an example does not leave."""
        flat = tf.reshape(tf.stop_gradient(start), (-1, start.shape[1:].num_elements()))
        gates = self.gate(flat, training=training)
        if self.mode == "hard":
            return tf.stop_gradient(tf.math.divide_no_nan(gates, gates))  # 1, 0, or NaN
        if training:
            return gates
        best = tf.one_hot(tf.argmax(gates, axis=1), len(self.layers), dtype=gates.dtype)
        return best + (gates - gates)  # 0, but NaN where a gate is NaN

    def _dense(self, start: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        x, logits = start, []
        for layer, estimator, weight in zip(self.layers, self.estimators, tf.unstack(weights, axis=1), strict=True):
            x = self._deeper(layer, x, start)
            logit = estimator(x)
            weight = tf.cast(weight, logit.dtype)[:, tf.newaxis]
            logits.append(tf.where(tf.equal(weight, 0), tf.zeros_like(logit), weight * logit))
        return tf.add_n(logits)

    def _gathered(self, start: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        batch = tf.shape(start, out_type=tf.int64)[0]
        rows, x, logits = tf.range(batch), start, []
        for depth, (layer, estimator) in enumerate(zip(self.layers, self.estimators, strict=True)):
            if depth:
                stay = tf.where(tf.reduce_any(tf.not_equal(weights[:, depth:], 0), axis=1))[:, 0]
                rows, weights, x, start = _take(stay, rows, weights, x, start)
            x = self._deeper(layer, x, start)
            leave = tf.where(tf.not_equal(weights[:, depth], 0))[:, 0]
            leaving, gates, leaver = _take(leave, rows, weights[:, depth], x)
            logit = estimator(leaver)
            logits.append((leaving, tf.cast(gates, logit.dtype)[:, tf.newaxis] * logit))
        places, values = (tf.concat(parts, axis=0) for parts in zip(*logits, strict=True))
        return tf.ensure_shape(tf.math.unsorted_segment_sum(values, places, batch), (None, values.shape[1]))

    def _deeper(self, layer: tf.keras.layers.Layer, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        output = layer([x, start])
        if output.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"EarlyExit: layer {layer.name!r} must return the shape of its input, (batch, {tuple(x.shape[1:])}), "
                f"got (batch, {tuple(output.shape[1:])})"
            )
        return x + output if self.residual else output

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        first = input_shape[0] if isinstance(input_shape, list) else input_shape
        return tf.TensorShape([tf.TensorShape(first)[0], self.estimators[0].compute_output_shape(first)[-1]])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layers": [tf.keras.layers.serialize(layer) for layer in self.layers],
            "estimators": [tf.keras.layers.serialize(estimator) for estimator in self.estimators],
            "gate": tf.keras.layers.serialize(self.gate),
            "residual": self.residual,
            "mode": self.mode,
            "dispatch": self.dispatch,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EarlyExit:
        parts = {
            name: [tf.keras.layers.deserialize(part) for part in config[name]] for name in ("layers", "estimators")
        }
        return cls(**{**config, **parts, "gate": tf.keras.layers.deserialize(config["gate"])})


def _take(rows: tf.Tensor, *tensors: tf.Tensor) -> list[tf.Tensor]:
    return [tf.ensure_shape(tf.gather(t, rows), (None, *t.shape[1:])) for t in tensors]
