"""The models that papers compare with, one a file."""

from xdeepint_ext.models.baselines.autoint import AutoInt
from xdeepint_ext.models.baselines.cold import COLD
from xdeepint_ext.models.baselines.dat import DAT
from xdeepint_ext.models.baselines.dcn import DCN, DCNV2
from xdeepint_ext.models.baselines.deep_crossing import DeepCrossing
from xdeepint_ext.models.baselines.deepfm import DeepFM
from xdeepint_ext.models.baselines.dnn import DNN
from xdeepint_ext.models.baselines.fibinet import FiBiNET
from xdeepint_ext.models.baselines.fm import FM
from xdeepint_ext.models.baselines.int_tower import IntTower
from xdeepint_ext.models.baselines.lr import LR
from xdeepint_ext.models.baselines.pnn import PNN
from xdeepint_ext.models.baselines.single_span_qa import SingleSpanQA
from xdeepint_ext.models.baselines.two_tower import TwoTower
from xdeepint_ext.models.baselines.wide_deep import WideDeep
from xdeepint_ext.models.baselines.xdeepfm import XDeepFM

__all__ = [
    "COLD",
    "DAT",
    "DCN",
    "DCNV2",
    "DNN",
    "FM",
    "LR",
    "PNN",
    "AutoInt",
    "DeepCrossing",
    "DeepFM",
    "FiBiNET",
    "IntTower",
    "SingleSpanQA",
    "TwoTower",
    "WideDeep",
    "XDeepFM",
]
