"""A subclass of a model: XDeepInt with the gated layer, and a layer of its own behind it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from click_model.layer import GatedPIN
from xdeepint_ext.layers import PIN
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.schema import Schema


@tf.keras.utils.register_keras_serializable(package="click_model")
class ClickModel(XDeepInt):
    """XDeepInt whose interaction is `X + X M` with `X = GatedPIN(X_0)`.

    The head adds up the columns; M (K, K), which starts at zero, lets them count differently.

    Args:
      schema: a `Schema`.
      squeeze: see `GatedPIN`.
      **kwargs: the arguments of `XDeepInt`, but for `heads` and `head_width`.
    """

    def __init__(self, schema: Schema | str | None, *, squeeze: int = 4, **kwargs: Any) -> None:
        super().__init__(schema, **kwargs)
        if not isinstance(self.pin, PIN):
            raise ValueError(f"ClickModel: its layer has one head, got heads={kwargs['heads']!r}")
        self.squeeze = squeeze
        self.pin = GatedPIN.from_config({**self.pin.get_config(), "squeeze": squeeze})
        self.mixing = tf.keras.layers.Dense(self.width, use_bias=False, kernel_initializer="zeros", name="mixing")

    def interaction(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = super().interaction(x, training=training)
        return x + self.mixing(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "squeeze": self.squeeze}
