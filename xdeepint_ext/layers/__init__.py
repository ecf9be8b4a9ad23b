"""Building blocks: field embedding, interactions, heads."""

from xdeepint_ext.layers.all_pairs import score_all_pairs
from xdeepint_ext.layers.bilinear import SENET, BilinearInteraction
from xdeepint_ext.layers.causal_attention import CausalSelfAttention
from xdeepint_ext.layers.cin import CIN
from xdeepint_ext.layers.cross import VectorCross
from xdeepint_ext.layers.cross_attention import GatedCrossAttention
from xdeepint_ext.layers.dynamic_pin import DynamicActivationPIN, DynamicGeneratedPIN, DynamicWeightedPIN
from xdeepint_ext.layers.early_exit import EarlyExit
from xdeepint_ext.layers.embedding import FeatureEmbedding
from xdeepint_ext.layers.experts import CrossExpert, GatedDenseExpert, PINExpert
from xdeepint_ext.layers.field_experts import (
    CINExpert,
    ConvExpert,
    InteractionMachineExpert,
    SelfAttentionExpert,
)
from xdeepint_ext.layers.gating import TopKGate
from xdeepint_ext.layers.head import FieldLinearHead, SumHead
from xdeepint_ext.layers.interacting import InteractingLayer
from xdeepint_ext.layers.light_se import LightSE
from xdeepint_ext.layers.maxsim import MaxSim
from xdeepint_ext.layers.mlp import MLP
from xdeepint_ext.layers.moe import SparseMoE
from xdeepint_ext.layers.multi_head_gate import MultiHeadGate
from xdeepint_ext.layers.multi_head_pin import MultiHeadPIN
from xdeepint_ext.layers.pin import PIN
from xdeepint_ext.layers.products import InnerProduct, OuterProduct
from xdeepint_ext.layers.recency_pooling import RecencyPooling
from xdeepint_ext.layers.residual import ResidualUnits
from xdeepint_ext.layers.roberta import RobertaEncoder
from xdeepint_ext.layers.rvq import ResidualVectorQuantizer
from xdeepint_ext.layers.tag_head import TokenHead
from xdeepint_ext.layers.temperature import Temperature

__all__ = [
    "CIN",
    "MLP",
    "PIN",
    "SENET",
    "BilinearInteraction",
    "CINExpert",
    "CausalSelfAttention",
    "ConvExpert",
    "CrossExpert",
    "DynamicActivationPIN",
    "DynamicGeneratedPIN",
    "DynamicWeightedPIN",
    "EarlyExit",
    "FeatureEmbedding",
    "FieldLinearHead",
    "GatedCrossAttention",
    "GatedDenseExpert",
    "InnerProduct",
    "InteractingLayer",
    "InteractionMachineExpert",
    "LightSE",
    "MaxSim",
    "MultiHeadGate",
    "MultiHeadPIN",
    "OuterProduct",
    "PINExpert",
    "RecencyPooling",
    "ResidualUnits",
    "ResidualVectorQuantizer",
    "RobertaEncoder",
    "SelfAttentionExpert",
    "SparseMoE",
    "SumHead",
    "Temperature",
    "TokenHead",
    "TopKGate",
    "VectorCross",
    "score_all_pairs",
]
