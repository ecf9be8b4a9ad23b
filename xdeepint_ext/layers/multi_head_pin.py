"""Several PINs on projections of one field matrix: the multi-head variant of the authors' code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.pin import PIN
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag


@register
class MultiHeadPIN(tf.keras.layers.Layer):
    """One PIN per head on `X P_head`, the heads' outputs stacked along the fields: `[PIN_1(X P_1); ...; PIN_H(X P_H)]`.

    Args:
      heads: one mapping of `PIN` arguments per head (its own num_layers, num_subspaces, activation ...).
      head_width: columns of each head; every head's num_subspaces must divide it.
      kernel_initializer: of the projection. Our choice: Glorot uniform.

    Weights:
      projection: (K, H * head_width), optimizer group `interaction`; head i owns columns i * head_width onwards.

    Call arguments:
      inputs: (B, F, K).
      training: whether the heads' dropout acts.

    Returns:
      (B, H * F, head_width); more rows where a head has `residual=False`.

    Example:
      >>> heads = [{"num_layers": 2}, {"num_layers": 3, "num_subspaces": 4}]
      >>> MultiHeadPIN(heads, head_width=8)(tf.ones((2, 5, 16))).shape
      TensorShape([2, 10, 8])

    Source: `MultiHead_Polynomial_Block` of the authors' repository; not in the paper.
    """

    def __init__(
        self,
        heads: Sequence[Mapping[str, Any]],
        head_width: int,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not heads or head_width < 1:
            raise ValueError(
                f"MultiHeadPIN: heads must not be empty and head_width > 0; got {len(heads)}, {head_width}"
            )
        self.heads = [dict(head) for head in heads]
        self.head_width = head_width
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self._pins = [PIN(**head, dtype=self._dtype_policy) for head in self.heads]

    def build(self, input_shape: Any) -> None:
        width = tf.TensorShape(input_shape)[-1]
        self.projection = tag(
            self.add_weight(
                name="projection",
                shape=(width, len(self.heads) * self.head_width),
                initializer=self.kernel_initializer,
            ),
            "interaction",
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        projected = tf.split(tf.einsum("bfk,kp->bfp", inputs, self.projection), len(self.heads), axis=2)
        return tf.concat([pin(x, training=training) for pin, x in zip(self._pins, projected, strict=True)], axis=1)

    def get_config(self) -> dict[str, Any]:
        configs = [pin.get_config() for pin in self._pins]
        return {
            **super().get_config(),
            "heads": [{key: config[key] for key in head} for head, config in zip(self.heads, configs, strict=True)],
            "head_width": self.head_width,
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
        }
