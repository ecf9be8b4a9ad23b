"""`--strategy`: on which devices a run trains."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["make_strategy"]

LATER = ("multi_worker", "parameter_server", "tpu")


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of that name.

    Args:
      name: `one_device`: the first GPU, or the CPU where there is none; `mirrored`: all GPUs, or all logical CPUs
        where there is none; `auto`: `mirrored` where there are several GPUs, else `one_device`.

    Raises:
      NotImplementedError: a strategy that a later version brings.
    """
    if name in LATER:
        raise NotImplementedError(
            f"--strategy={name} comes with a later version; this one has auto, one_device and mirrored"
        )
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()
