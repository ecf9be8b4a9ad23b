"""Polynomial interaction network (PIN): the interaction layers of xDeepInt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.subspaces import check_field_matrix, join_subspaces, split_subspaces
from xdeepint_ext.utils.blocks import by_blocks
from xdeepint_ext.utils.initializers import fresh
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag


@register
class PIN(tf.keras.layers.Layer):
    """Polynomial interaction layers: `X_l = X_{l-1} * (1 + a(W_{l-1} X_0))`, l = 1 .. L, with sub-space crossing.

    L layers give a polynomial of degree L + 1 in `X_0`. With h sub-spaces, `X_0` is first re-arranged to m = F * h rows
    of K / h columns (h = 1: vector-wise; h = K: bit-wise), and the result is re-arranged back.

    Args:
      num_layers: L >= 0; 0 returns the input. Paper's grid: 1 .. 4.
      num_subspaces: h, must divide K. Paper's grid: 1, 2, 4, 8, 16.
      activation: a, applied to the aggregated map before the "+ 1". None = linear, the paper's choice.
      dropout: rate, or one rate per layer, on `X_0` before the aggregation, in training only. Authors: none.
      residual: False drops the "+ 1" (`X_l = X_{l-1} * (W_{l-1} X_0)`) and returns X_0 .. X_L concatenated along the
        fields, each re-arranged on its own. Only in the authors' code, where h > 1 mixes layers and sub-spaces.
      kernel_initializer: of W. Authors: Glorot uniform.
      kernel_regularizer: of W, added to the loss. The authors pass l2(1.0), which their code never adds.

    Weights:
      kernels: list of L variables of shape (m, m) in the optimizer group `interaction`; `W[i, j]` multiplies row j,
        rows are sub-space-major (row `b * F + f` = block b of field f).

    Call arguments:
      inputs: (B, F, K), F and K static.
      training: whether dropout acts.

    Returns:
      (B, F, K); with `residual=False` (B, (L + 1) * F, K).

    Raises:
      ValueError: an argument is out of range, or h does not divide K.

    Example:
      >>> PIN(num_layers=2, num_subspaces=4)(tf.ones((8, 10, 16))).shape
      TensorShape([8, 10, 16])

    Source: xDeepInt (arXiv 2301.01089) §3.2-3.4, equations 3-6 and 10; `residual=False` and `dropout`: the authors'
      code.
    """

    def __init__(
        self,
        num_layers: int,
        num_subspaces: int = 1,
        activation: Any = None,
        dropout: float | Sequence[float] = 0.0,
        residual: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_layers < 0:
            raise ValueError(f"PIN: num_layers must be >= 0, got {num_layers}")
        if num_subspaces < 1:
            raise ValueError(f"PIN: num_subspaces must be >= 1, got {num_subspaces}")
        self.num_layers = num_layers
        self.num_subspaces = num_subspaces
        self.activation = tf.keras.activations.get(activation)
        self.dropout = dropout
        self.residual = residual
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)
        self._rates = [float(dropout)] * num_layers if isinstance(dropout, int | float) else [float(r) for r in dropout]
        if len(self._rates) != num_layers or not all(0.0 <= rate < 1.0 for rate in self._rates):
            raise ValueError(
                f"PIN: dropout must be a rate in [0, 1), or one for each of the {num_layers} layers; got {dropout}"
            )

    def build(self, input_shape: Any) -> None:
        fields, _ = check_field_matrix(input_shape, self.num_subspaces, "PIN")
        rows = fields * self.num_subspaces
        self.kernels = [
            tag(
                self.add_weight(
                    name=f"kernel_{index}",
                    shape=(rows, rows),
                    initializer=fresh(self.kernel_initializer),
                    regularizer=self.kernel_regularizer,
                ),
                "interaction",
            )
            for index in range(self.num_layers)
        ]
        self._dropouts = [
            tf.keras.layers.Dropout(rate, dtype=self._dtype_policy) if rate else None for rate in self._rates
        ]
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if training:  # the backward pass doubles what goes through the memory
            return by_blocks(lambda block: self._interact(block, training=True), inputs)
        return self._interact(inputs, training=training)

    def _interact(self, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
        rows = split_subspaces(inputs, self.num_subspaces)
        _, columns, stacked = rows.shape
        rows = tf.reshape(rows, (-1, stacked))  # a plain matrix product is faster than einsum's
        x = rows
        outputs = [x]
        for kernel, dropout in zip(self.kernels, self._dropouts, strict=True):
            dropped = rows if dropout is None else dropout(rows, training=training)
            gate = self.activation(tf.matmul(dropped, kernel, transpose_b=True))
            x = x * (1.0 + gate) if self.residual else x * gate
            outputs.append(x)
        results = [x] if self.residual else outputs
        joined = [join_subspaces(tf.reshape(result, (-1, columns, stacked)), self.num_subspaces) for result in results]
        return joined[0] if self.residual else tf.concat(joined, axis=1)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        batch, fields, width = tf.TensorShape(input_shape)
        return tf.TensorShape([batch, fields if self.residual else fields * (self.num_layers + 1), width])

    def get_config(self) -> dict[str, Any]:
        dropout = self.dropout if isinstance(self.dropout, int | float) else list(self.dropout)
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "num_subspaces": self.num_subspaces,
            "activation": tf.keras.activations.serialize(self.activation),
            "dropout": dropout,
            "residual": self.residual,
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": tf.keras.regularizers.serialize(self.kernel_regularizer),
        }
