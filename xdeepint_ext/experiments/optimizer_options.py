"""The optimizers that experiments can use, stated as data: which algorithm trains which group of variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from xdeepint_ext.optimizers import GroupFtrl, LazyAdagrad, LazyAdam, ftrl_for_mean_loss

if TYPE_CHECKING:
    from xdeepint_ext.experiments.config import Config

__all__ = ["OPTIMIZERS", "SCHEDULES", "make_optimizers"]

Rate = Any
Make = Callable[["Config", Rate], tf.keras.optimizers.Optimizer]


def _group_ftrl(config: Config, rate: Rate) -> tf.keras.optimizers.Optimizer:
    constants = {name: getattr(config, name) for name in ("beta", "lambda1", "lambda2")}
    return GroupFtrl.from_sum_loss(rate, **constants, global_batch=config.batch_size)


def _ftrl(config: Config, rate: Rate) -> tf.keras.optimizers.Optimizer:
    constants = ftrl_for_mean_loss(
        global_batch=config.batch_size, l1_regularization_strength=config.l1, l2_regularization_strength=config.l2
    )
    return tf.keras.optimizers.Ftrl(rate, **constants)


# Algorithm -> the learning rate where none is given, and how it is made. FTRL's 0.02 is the authors' code's; 0.001 is
# the paper's choice for Adam, 0.01 ours for Adagrad.
ALGORITHMS: dict[str, tuple[float, Make]] = {
    "group_ftrl": (0.02, _group_ftrl),
    "ftrl": (0.02, _ftrl),
    "lazy_adam": (0.001, lambda config, rate: LazyAdam(rate)),
    "adam": (0.001, lambda config, rate: tf.keras.optimizers.Adam(rate)),
    "lazy_adagrad": (0.01, lambda config, rate: LazyAdagrad(rate)),
    "adagrad": (0.01, lambda config, rate: tf.keras.optimizers.Adagrad(rate)),
}

SLOTS = {"group_ftrl": 2, "ftrl": 2, "lazy_adam": 2, "adam": 2, "lazy_adagrad": 1, "adagrad": 1}
"""Algorithm -> numbers that it keeps for each weight."""

OPTIMIZERS: dict[str, dict[str, str]] = {
    "paper": {"embedding": "group_ftrl", "interaction": "ftrl", "default": "adam"},
    "group_ftrl_adam": {"embedding": "group_ftrl", "interaction": "adam", "default": "adam"},
    "ftrl": {"embedding": "ftrl", "interaction": "ftrl", "default": "ftrl"},
    "adam": {"embedding": "lazy_adam", "interaction": "adam", "default": "adam"},
    "adagrad": {"embedding": "lazy_adagrad", "interaction": "adagrad", "default": "adagrad"},
}
"""Choice of `--optimizer` -> group of variables -> algorithm."""

SCHEDULES = ("constant", "cosine")


def make_optimizers(config: Config, total_steps: int) -> dict[str, tf.keras.optimizers.Optimizer]:
    """Group of variables -> optimizer.

    Args:
      config: its `optimizer`, `learning_rate`, those of `embedding` and `interaction`, `schedule`, and the FTRLs'
        constants. These are for a loss summed over the batch, as the authors print them, and are converted to the mean.
      total_steps: length of the `cosine` schedule, at whose end the rate is 0.
    """
    made = {}
    for group, algorithm in OPTIMIZERS[config.optimizer].items():
        own_rate, make = ALGORITHMS[algorithm]
        given = (getattr(config, f"{group}_learning_rate", None), config.learning_rate, own_rate)
        rate: Rate = next(rate for rate in given if rate is not None)
        if config.schedule == "cosine":
            rate = tf.keras.optimizers.schedules.CosineDecay(rate, total_steps)
        made[group] = make(config, rate)
    return made
