"""Losses on logits."""

from xdeepint_ext.losses.base import RankingLoss
from xdeepint_ext.losses.pointwise import LogLoss, log_loss

__all__ = ["LogLoss", "RankingLoss", "log_loss"]
