"""Embedding tables in parts on the devices of one machine: each row, and its slots, on one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.strategies import SHARD_BYTES

__all__ = ["dividing_tables"]


@contextlib.contextmanager
def dividing_tables(strategy: tf.distribute.Strategy, devices: Sequence[str]) -> Iterator[None]:
    """The strategy's scope, in which tables above 256 KiB are divided among the devices.

    A divided table is drawn as a whole in host memory, so that it starts from the values of one device.

    Args:
      strategy: of `central_on`.
      devices: that get a part each.
    """
    part_device = ""

    def place(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        with tf.device(part_device) if part_device else contextlib.nullcontext():
            return next_creator(**kwargs)

    def divide(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        nonlocal part_device
        # Slots follow the part that they belong to.
        if kwargs.get("colocate_with") is not None or not _is_table(kwargs["name"]):
            return next_creator(**kwargs)
        initial = kwargs.pop("initial_value")
        with tf.device("/device:CPU:0"):
            whole = tf.convert_to_tensor(initial() if callable(initial) else initial)
        if whole.dtype.size * whole.shape.num_elements() <= SHARD_BYTES:
            return next_creator(**kwargs, initial_value=whole)
        # As tf.nn.embedding_lookup looks for rows in parts: the first ones have one more where they cannot be equal.
        least, more = divmod(len(whole), len(devices))
        rows = [least + (number < more) for number in range(len(devices))]
        kwargs |= {"shape": None}
        name, parts = kwargs.pop("name"), []
        for number, (part_device, values) in enumerate(zip(devices, tf.split(whole, rows), strict=True)):  # noqa: B007
            parts.append(next_creator(**kwargs, name=f"{name}/part_{number}", initial_value=values))
        part_device = ""
        return tf.__internal__.distribute.ShardedVariable(parts, name=name)

    # The scope's own creator decides for a device: `place` comes after it, `divide` before it.
    with tf.variable_creator_scope(place), strategy.scope(), tf.variable_creator_scope(divide):
        yield


def _is_table(name: str | None) -> bool:
    """Whether a variable is a table of `FeatureEmbedding`."""
    return (name or "").rpartition("/")[2].startswith("table")
