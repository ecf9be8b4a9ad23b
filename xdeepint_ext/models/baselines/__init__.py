"""The models that papers compare with, one a file."""

from xdeepint_ext.models.baselines.dcn import DCN, DCNV2
from xdeepint_ext.models.baselines.deepfm import DeepFM
from xdeepint_ext.models.baselines.dnn import DNN
from xdeepint_ext.models.baselines.fm import FM
from xdeepint_ext.models.baselines.lr import LR
from xdeepint_ext.models.baselines.wide_deep import WideDeep

__all__ = ["DCN", "DCNV2", "DNN", "FM", "LR", "DeepFM", "WideDeep"]
