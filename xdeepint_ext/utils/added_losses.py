"""Losses that layers add inside a function that is compiled on its own: its graph's tensors may not leak out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def with_added_losses(layer: tf.keras.layers.Layer, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns what `function` returns, and the losses that the layer's parts add meanwhile.

    They are no longer the parts' own: the caller adds them again.

    Args:
      layer: whose sub-layers `function` calls.
      function: any.
    """

    def call(*args: Any, **kwargs: Any) -> tuple[Any, list[tf.Tensor]]:
        before = [(part, len(part._eager_losses)) for part in layer._flatten_layers()]
        result = function(*args, **kwargs)
        numbers = {id(part): number for part, number in before}
        added: list[tf.Tensor] = []
        for part in layer._flatten_layers():
            first = numbers.get(id(part), 0)
            added += part._eager_losses[first:]
            part._eager_losses = part._eager_losses[:first]
        return result, added

    return call
