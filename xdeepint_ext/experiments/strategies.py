"""`--strategy`: on which devices a run trains."""

from __future__ import annotations

import functools

import tensorflow as tf

__all__ = ["make_strategy", "mirrored_on"]

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
        return mirrored_on("GPU" if gpus else "CPU")
    return tf.distribute.get_strategy()


@functools.cache
def mirrored_on(device_type: str) -> tf.distribute.MirroredStrategy:
    """The process's one MirroredStrategy on all logical devices of a type.

    A second one would number its collectives like the first and fail.
    """
    return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(device_type)])
