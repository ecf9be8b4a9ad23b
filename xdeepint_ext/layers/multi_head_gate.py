"""Several gated representations of one side: RankTower's multi-head gated network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.mlp import MLP
from xdeepint_ext.utils.registry import register

GATE_INPUTS = ("hidden", "input")


@register
class MultiHeadGate(tf.keras.layers.Layer):
    """`e^p = sigmoid(W_g^p g + b_g^p) * (W_v^p h + b_v^p)` for heads p = 1 .. H, where `h = MLP(x)`.

    Args:
      num_heads: H.
      head_dim: d, columns of a head.
      units: widths of the MLP. Default: 300, 300, 128, IntTower's code; RankTower's are not published. Empty: h = x.
      gate_input: what g is: `hidden`, h, the default, our reading; or `input`, x.
      activation: of the MLP. Our choice: relu.
      dropout: behind its layers. Our choice: none.

    Weights:
      mlp, value, gate: the MLP and two dense layers of H d units; head p owns units p d onwards. Optimizer group
        `default`: FTRL would pull a network of several layers to zero.

    Call arguments:
      inputs: (B, n); other ranks are flattened to it.
      training: whether dropout acts.

    Returns:
      (B, H, d).

    Raises:
      ValueError: num_heads or head_dim is below 1, or gate_input is unknown.

    Example:
      >>> MultiHeadGate(num_heads=4, head_dim=16)(tf.ones((8, 10, 16))).shape
      TensorShape([8, 4, 16])

    Source: RankTower (arXiv 2407.12385), which describes the block in words; the formula is our reading of them.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        units: Sequence[int] = (300, 300, 128),
        gate_input: str = "hidden",
        activation: Any = "relu",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for argument, value in {"num_heads": num_heads, "head_dim": head_dim}.items():
            if value < 1:
                raise ValueError(f"MultiHeadGate: {argument} must be >= 1, got {value}")
        if gate_input not in GATE_INPUTS:
            raise ValueError(f"MultiHeadGate: gate_input must be one of {GATE_INPUTS}, got {gate_input!r}")
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.units = list(units)
        self.gate_input = gate_input
        self.activation = tf.keras.activations.get(activation)
        self.dropout = dropout
        policy = {"dtype": self._dtype_policy}
        self.flatten = tf.keras.layers.Flatten(**policy)
        self.mlp = MLP(self.units, self.activation, dropout, name="mlp", **policy) if self.units else None
        self.value = tf.keras.layers.Dense(num_heads * head_dim, name="value", **policy)
        self.gate = tf.keras.layers.Dense(num_heads * head_dim, "sigmoid", name="gate", **policy)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = self.flatten(inputs)
        hidden = x if self.mlp is None else self.mlp(x, training=training)
        heads = self.gate(hidden if self.gate_input == "hidden" else x) * self.value(hidden)
        return tf.reshape(heads, (-1, self.num_heads, self.head_dim))

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape([tf.TensorShape(input_shape)[0], self.num_heads, self.head_dim])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_dim": self.head_dim,
            "units": self.units,
            "gate_input": self.gate_input,
            "activation": tf.keras.activations.serialize(self.activation),
            "dropout": self.dropout,
        }
