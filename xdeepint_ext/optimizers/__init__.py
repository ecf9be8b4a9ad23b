"""Optimizers: group-sparse FTRL, row-wise Adam and Adagrad, and the split of variables between optimizers."""

from xdeepint_ext.optimizers.group_ftrl import GroupFtrl
from xdeepint_ext.optimizers.groups import OptimizerGroups
from xdeepint_ext.optimizers.lazy import LazyAdagrad, LazyAdam
from xdeepint_ext.optimizers.loss_scale_law import ftrl_for_mean_loss, group_ftrl_for_mean_loss
from xdeepint_ext.optimizers.presets import paper_optimizers

__all__ = [
    "GroupFtrl",
    "LazyAdagrad",
    "LazyAdam",
    "OptimizerGroups",
    "ftrl_for_mean_loss",
    "group_ftrl_for_mean_loss",
    "paper_optimizers",
]
