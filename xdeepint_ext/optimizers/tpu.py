"""The optimizers of TPUEmbedding that make the steps of ours: a TPU trains its tables itself, not by Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xdeepint_ext.optimizers.lazy import LazyAdagrad, LazyAdam

__all__ = ["COUNTERPARTS", "tpu_optimizer"]

_embedding = tf.tpu.experimental.embedding

# Ours -> the TPU's, the options that both have, and those of the TPU's alone. Adam divides by sqrt(v) + epsilon, as
# ours does, and not by sqrt(v + epsilon^2), the TPU's default.
COUNTERPARTS: dict[type, tuple[type, tuple[str, ...], dict[str, Any]]] = {
    LazyAdam: (_embedding.Adam, ("beta_1", "beta_2", "epsilon"), {"lazy_adam": True, "sum_inside_sqrt": False}),
    LazyAdagrad: (_embedding.Adagrad, ("initial_accumulator_value",), {}),
    tf.keras.optimizers.Ftrl: (
        _embedding.FTRL,
        (
            *("learning_rate_power", "initial_accumulator_value", "beta"),
            *("l1_regularization_strength", "l2_regularization_strength"),
        ),
        {},
    ),
    tf.keras.optimizers.SGD: (_embedding.SGD, (), {}),
}
"""Keras's optimizer -> TPUEmbedding's."""

# They name or compile an optimizer, and change no step.
_NO_MATTER = {"name", "learning_rate", "jit_compile", "is_legacy_optimizer"}


def tpu_optimizer(optimizer: tf.keras.optimizers.Optimizer) -> Any:
    """What trains TPUEmbedding's tables as a Keras optimizer would, with its constants, rate and step count.

    The TPU asks for the rate before every step, so that a schedule, or who sets the optimizer's `learning_rate`, is
    obeyed, and counts by the optimizer's `iterations`: it must train another variable at the same steps. The TPU's Adam
    corrects no bias; the rate that it gets does.

    `LazyAdagrad`'s epsilon has no counterpart. At its default, 1e-7, it changes a step by less than 1e-6 of it.

    Args:
      optimizer: a `LazyAdam`, `LazyAdagrad`, `tf.keras.optimizers.Ftrl` or `tf.keras.optimizers.SGD`.

    Returns:
      An object of `tf.tpu.experimental.embedding`.

    Raises:
      ValueError: TPUEmbedding has no such optimizer, or not one of its options.

    Example:
      >>> tpu_optimizer(LazyAdam(epsilon=1e-5)).epsilon
      1e-05

    Source: TensorFlow's optimization_parameters.proto for what a TPU's optimizers compute.
    """
    kind = type(optimizer)
    if kind not in COUNTERPARTS:
        raise ValueError(
            f"optimizer must be one of {sorted(found.__name__ for found in COUNTERPARTS)}, which TPUEmbedding has, got "
            f"{kind.__name__}"
        )
    make, shared, own = COUNTERPARTS[kind]
    config, usual = optimizer.get_config(), kind().get_config()
    lacking = {n: v for n, v in config.items() if n not in {*shared, *_NO_MATTER} and v != usual[n]}
    if lacking:
        raise ValueError(f"optimizer: TPUEmbedding's {make.__name__} cannot express {lacking} of {kind.__name__}")
    made: Any = make(_rate(optimizer), **{name: config[name] for name in shared}, **own)
    # The number of an enumeration. TensorFlow's default is a boolean, which newer protobufs refuse.
    made.low_dimensional_packing_status = int(getattr(made, "low_dimensional_packing_status", False))
    return made


def _rate(optimizer: tf.keras.optimizers.Optimizer) -> Callable[[], tf.Tensor]:
    """The learning rate of the step that is being made."""
    given = optimizer.get_config()["learning_rate"]
    schedule = tf.keras.optimizers.schedules.deserialize(given) if isinstance(given, dict) else None

    def rate() -> tf.Tensor:
        now = tf.cast(optimizer.learning_rate if schedule is None else schedule(optimizer.iterations), tf.float32)
        if not isinstance(optimizer, LazyAdam):
            return now
        step = tf.cast(optimizer.iterations + 1, tf.float32)
        return now * tf.sqrt(1 - tf.pow(optimizer.beta_2, step)) / (1 - tf.pow(optimizer.beta_1, step))

    return rate
