"""Building blocks: field embedding, interactions, heads."""

from xdeepint_ext.layers.bilinear import SENET, BilinearInteraction
from xdeepint_ext.layers.cin import CIN
from xdeepint_ext.layers.cross import VectorCross
from xdeepint_ext.layers.dynamic_pin import DynamicActivationPIN, DynamicGeneratedPIN, DynamicWeightedPIN
from xdeepint_ext.layers.embedding import FeatureEmbedding
from xdeepint_ext.layers.head import FieldLinearHead, SumHead
from xdeepint_ext.layers.interacting import InteractingLayer
from xdeepint_ext.layers.mlp import MLP
from xdeepint_ext.layers.multi_head_pin import MultiHeadPIN
from xdeepint_ext.layers.pin import PIN
from xdeepint_ext.layers.products import InnerProduct, OuterProduct
from xdeepint_ext.layers.residual import ResidualUnits

__all__ = [
    "CIN",
    "MLP",
    "PIN",
    "SENET",
    "BilinearInteraction",
    "DynamicActivationPIN",
    "DynamicGeneratedPIN",
    "DynamicWeightedPIN",
    "FeatureEmbedding",
    "FieldLinearHead",
    "InnerProduct",
    "InteractingLayer",
    "MultiHeadPIN",
    "OuterProduct",
    "ResidualUnits",
    "SumHead",
    "VectorCross",
]
