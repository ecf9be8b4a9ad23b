"""A subclass of a layer: PIN with a gate for every field."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import PIN


@tf.keras.utils.register_keras_serializable(package="click_model")
class GatedPIN(PIN):
    """`g * PIN(X_0)` with one gate a field, `g = 2 sigmoid(V relu(U s) + c)`, where s is the mean of X_0's columns.

    V and c start at zero, so that every gate starts at 1 and the layer as a plain `PIN`.

    Args:
      num_layers: see `PIN`.
      squeeze: rows of U, the width between the two products.
      **kwargs: the other arguments of `PIN`.

    Call arguments:
      inputs: (B, F, K).
      training: whether dropout acts.

    Returns:
      What `PIN` returns, in its shape.
    """

    def __init__(self, num_layers: int, *args: Any, squeeze: int = 4, **kwargs: Any) -> None:
        super().__init__(num_layers, *args, **kwargs)
        if squeeze < 1:
            raise ValueError(f"GatedPIN: squeeze must be >= 1, got {squeeze}")
        self.squeeze = squeeze

    def build(self, input_shape: Any) -> None:
        fields = self.compute_output_shape(input_shape)[1]
        policy = self.dtype_policy
        # PIN's kernels are in the optimizer group `interaction`; weights without a group, such as these, in `default`.
        self.squeezing = tf.keras.layers.Dense(self.squeeze, "relu", use_bias=False, name="squeezing", dtype=policy)
        self.gating = tf.keras.layers.Dense(fields, "sigmoid", kernel_initializer="zeros", name="gating", dtype=policy)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        gates = 2 * self.gating(self.squeezing(tf.reduce_mean(inputs, axis=2)))
        return gates[:, :, tf.newaxis] * super().call(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "squeeze": self.squeeze}
