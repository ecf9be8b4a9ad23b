"""The models that papers compare with, one a file."""

from xdeepint_ext.models.baselines.fm import FM
from xdeepint_ext.models.baselines.lr import LR

__all__ = ["FM", "LR"]
