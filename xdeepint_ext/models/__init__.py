"""Models: one paper a file, each a `RankingModel`."""

from xdeepint_ext.models.adaensemble import AdaEnsemble
from xdeepint_ext.models.dynint import DynInt
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.models.xdeepint import XDeepInt

__all__ = ["AdaEnsemble", "DynInt", "RankingModel", "XDeepInt"]
