"""The models that experiments can train, each with its hyper-parameters: a new one is a class and a line here."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

import tensorflow as tf

from xdeepint_ext.experiments.group_options import GroupCEOptions
from xdeepint_ext.experiments.options import check_choices, option, options_of
from xdeepint_ext.experiments.retrieval_options import MFOptions, PooledOptions, SASRecOptions
from xdeepint_ext.experiments.tower_options import DATOptions, IntTowerOptions, RankTowerOptions, TwoTowerOptions
from xdeepint_ext.layers import early_exit, moe
from xdeepint_ext.layers.bilinear import BILINEAR_KINDS
from xdeepint_ext.layers.products import OUTER_PRODUCTS
from xdeepint_ext.models import AdaEnsemble, DynInt, RankingModel, XDeepInt
from xdeepint_ext.models.adaensemble import AUTHORS_PRIOR
from xdeepint_ext.models.baselines import (
    COLD,
    DCN,
    DCNV2,
    DNN,
    FM,
    LR,
    PNN,
    AutoInt,
    DeepCrossing,
    DeepFM,
    FiBiNET,
    WideDeep,
    XDeepFM,
)
from xdeepint_ext.models.baselines.dcn import STRUCTURES
from xdeepint_ext.models.baselines.parts import DeepModel
from xdeepint_ext.models.dynint import MODES
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.initializers import truncated_normal

__all__ = ["MODELS", "make_options"]

ACTIVATIONS = ("linear", "tanh", "sigmoid", "softplus", "swish", "relu", "elu", "selu")


class ModelOptions(Protocol):
    """What a run asks of a model's options: a dataclass of `option` fields."""

    def make(self, schema: Schema) -> RankingModel:
        """The model."""


@dataclasses.dataclass(frozen=True)
class XDeepIntOptions:
    """Hyper-parameters of `XDeepInt`; see there."""

    width: int = option(16, "embedding width K; paper: 16")
    num_layers: int = option(3, "polynomial interaction layers; paper: 1 to 4 by validation")
    num_subspaces: int = option(4, "sub-spaces h, a divisor of the width; paper: 1 to 16 by validation")
    activation: str = option("linear", "of the aggregated map; paper: linear", ACTIVATIONS)
    residual: bool = option(True, "False: the variant of the authors' code without the residual")
    dropout: float = option(0.0, "on the input of every interaction; authors: none")
    kernel_l2: float = option(0.0, "L2 penalty of the interaction kernels in the loss; authors: none in effect")
    dnn_units: tuple[int, ...] = option((), "widths of a deep part beside the interaction (xDeepInt+)")
    dnn_dropout: float = option(0.0, "dropout of the deep part")
    embedding_stddev: float | None = option(None, "deviation of the initial embeddings; default 1 / sqrt(width)")

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        options = dataclasses.asdict(self)
        l2, stddev = options.pop("kernel_l2"), options.pop("embedding_stddev")
        return XDeepInt(
            schema,
            kernel_regularizer=tf.keras.regularizers.L2(l2) if l2 else None,
            embedding_initializer=truncated_normal(stddev),
            **options,
        )


@dataclasses.dataclass(frozen=True)
class DynIntOptions:
    """Hyper-parameters of `DynInt`; see there."""

    mode: str = option("weighted", "activation (DA), generated (DGP) or weighted (DWP) parameters", tuple(MODES))
    width: int = option(16, "embedding width K; paper: 16")
    num_layers: int = option(3, "interaction layers; paper: 1 to 4 by validation")
    num_subspaces: int = option(4, "sub-spaces h, a divisor of the width; paper: 1 to 16 by validation")
    rank: int | None = option(None, "R of generated (paper: 16 to 128) and weighted (1 to 4); default 64 and 2")
    reduction_ratio: int = option(16, "of the generators; paper: 2 to 16")
    orthogonal_rate: float = option(0.0, "of the penalty on the factors; paper: 0 to 0.8")
    embedding_stddev: float | None = option(None, "deviation of the initial embeddings; default 1 / sqrt(width)")

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        options = dataclasses.asdict(self)
        return DynInt(schema, embedding_initializer=truncated_normal(options.pop("embedding_stddev")), **options)


@dataclasses.dataclass(frozen=True)
class AdaEnsembleOptions:
    """Hyper-parameters of `AdaEnsemble`; see there. A schedule is `step:k,step:k`: each k holds until its step."""

    width: int = option(16, "embedding width K; authors: 16")
    num_layers: int = option(4, "layers of experts, and depths to leave at; authors: 4")
    experts: tuple[str, ...] = option(tuple(AUTHORS_PRIOR), "of each layer; further ones: cin, interaction_machine")
    k: str = option("3", "experts an example in each layer, or a schedule; authors: 3 of 5")
    exit_k: str | None = option(None, "depths mixed in training, or a schedule; default: see exit_steps; authors: 1")
    exit_steps: int = option(1000, "without exit_k all depths are mixed at first, one fewer after each so many steps")
    expert_prior: tuple[float, ...] = option((), "shares wanted of the experts; default: the authors' for their five")
    exit_prior: tuple[float, ...] = option((), "shares wanted of the depths; default: the authors' for four")
    combine: str = option("weighted", "experts, by gate (ours), or their plain sum (authors)", moe.COMBINES)
    exit_mode: str = option("soft", "depths in training: mixed (ours), or taken (authors)", early_exit.MODES)
    balance_weight: float = option(1.0, "of the gates' balance loss; authors: 1")
    z_weight: float = option(0.001, "of the gates' z-loss; ours; authors: 1 in effect")
    jitter: float = option(0.5, "of the gates' inputs in training: U(1 - jitter, 1 + jitter); authors: 0.5")
    noise: float = option(0.0, "deviation of normal noise on the gates' logits in training; authors: none")
    dispatch: str = option("auto", "which rows an expert computes; auto: those that chose it", moe.DISPATCHES)
    capacity_factor: float = option(1.25, "places of an expert over its equal share, for dispatch=capacity")
    embedding_stddev: float | None = option(None, "deviation of the initial embeddings; default 1 / sqrt(width)")

    def __post_init__(self) -> None:
        for name in ("k", "exit_k"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, str(getattr(self, name)))
                _schedule(name, getattr(self, name))

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        options = dataclasses.asdict(self)
        options |= {name: _schedule(name, options[name]) for name in ("k", "exit_k")}
        options |= {name: options[name] or None for name in ("expert_prior", "exit_prior")}
        return AdaEnsemble(schema, embedding_initializer=truncated_normal(options.pop("embedding_stddev")), **options)


@dataclasses.dataclass(frozen=True)
class FMOptions:
    """Hyper-parameters of `FM`; see there."""

    width: int = option(16, "columns of the factors; paper's embedding width: 16")
    embedding_stddev: float | None = option(None, "deviation of the initial factors; default 1 / sqrt(width)")

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        return FM(schema, width=self.width, embedding_initializer=truncated_normal(self.embedding_stddev))


@dataclasses.dataclass(frozen=True)
class DeepOptions:
    """Hyper-parameters that the deep baselines share; see `DeepModel`."""

    model: ClassVar[type[DeepModel]]

    width: int = option(16, "embedding width K; paper: 16")
    units: tuple[int, ...] = option((400, 400, 400), "widths of the deep part; paper: 1 to 4 of 128 to 1024")
    dropout: float = option(0.0, "of the deep part")
    kernel_l2: float = option(0.0, "L2 penalty of the deep part's kernels; paper: 1e-4 to 1e-3")
    embedding_stddev: float | None = option(None, "deviation of the initial embeddings; default 1 / sqrt(width)")

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        options = dataclasses.asdict(self)
        return self.model(schema, embedding_initializer=truncated_normal(options.pop("embedding_stddev")), **options)


class DNNOptions(DeepOptions):
    """Hyper-parameters of `DNN`; see there."""

    model = DNN


class WideDeepOptions(DeepOptions):
    """Hyper-parameters of `WideDeep`; see there."""

    model = WideDeep


class DeepFMOptions(DeepOptions):
    """Hyper-parameters of `DeepFM`; see there."""

    model = DeepFM


@dataclasses.dataclass(frozen=True)
class DCNOptions(DeepOptions):
    """Hyper-parameters of `DCN`; see there."""

    model = DCN

    num_layers: int = option(3, "cross layers; paper: 1 to 4")
    structure: str = option("parallel", "cross layers beside the deep part, or before it", STRUCTURES)


@dataclasses.dataclass(frozen=True)
class DCNV2Options(DCNOptions):
    """Hyper-parameters of `DCNV2`; see there."""

    model = DCNV2

    projection_dim: int | None = option(None, "rank of the cross layers' matrices; default full")


@dataclasses.dataclass(frozen=True)
class DeepCrossingOptions(DeepOptions):
    """Hyper-parameters of `DeepCrossing`; see there."""

    model = DeepCrossing

    units: tuple[int, ...] = option((512, 512, 256, 128, 64), "inner widths of the residual units; default the paper's")


@dataclasses.dataclass(frozen=True)
class PNNOptions(DeepOptions):
    """Hyper-parameters of `PNN`; see there."""

    model = PNN

    inner_products: bool = option(True, "of the pairs of fields")
    outer_product: str = option("superposition", "kind of the outer product", (*OUTER_PRODUCTS, "none"))

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        options = dataclasses.asdict(self)
        outer, stddev = options.pop("outer_product"), options.pop("embedding_stddev")
        return PNN(
            schema,
            outer_product=None if outer == "none" else outer,
            embedding_initializer=truncated_normal(stddev),
            **options,
        )


@dataclasses.dataclass(frozen=True)
class XDeepFMOptions(DeepOptions):
    """Hyper-parameters of `XDeepFM`; see there."""

    model = XDeepFM

    cin_units: tuple[int, ...] = option((100, 100, 100), "rows of the CIN's layers; paper: 100 or 200 each")
    split_half: bool = option(False, "one half of a CIN layer to the next, one to the output; authors' code")


@dataclasses.dataclass(frozen=True)
class AutoIntOptions(DeepOptions):
    """Hyper-parameters of `AutoInt`; see there."""

    model = AutoInt

    units: tuple[int, ...] = option((), "widths of a deep part beside the attention (AutoInt+)")
    num_layers: int = option(3, "layers of attention; paper: 3")
    num_heads: int = option(2, "of a layer; paper: 2")
    head_dim: int = option(32, "columns of a head; paper: 32")


@dataclasses.dataclass(frozen=True)
class FiBiNETOptions(DeepOptions):
    """Hyper-parameters of `FiBiNET`; see there."""

    model = FiBiNET

    bilinear_kind: str = option("field_all", "one matrix for all pairs, one a field, or one a pair", BILINEAR_KINDS)
    reduction_ratio: int = option(3, "of the fields' weights; paper: 3")


@dataclasses.dataclass(frozen=True)
class COLDOptions(DeepOptions):
    """Hyper-parameters of `COLD`; see there."""

    model = COLD

    units: tuple[int, ...] = option((1024, 512, 256, 128, 64), "widths of the deep part; default IntTower's code")
    keep: tuple[str, ...] = option((), "inputs that the model uses; default all")

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        options = dataclasses.asdict(self)
        keep, stddev = options.pop("keep"), options.pop("embedding_stddev")
        return COLD(schema, keep=keep or None, embedding_initializer=truncated_normal(stddev), **options)


@dataclasses.dataclass(frozen=True)
class LROptions:
    """`LR` has no hyper-parameters."""

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        return LR(schema)


MODELS: dict[str, type] = {
    "adaensemble": AdaEnsembleOptions,
    "autoint": AutoIntOptions,
    "cold": COLDOptions,
    "dat": DATOptions,
    "dcn": DCNOptions,
    "dcnv2": DCNV2Options,
    "deepcrossing": DeepCrossingOptions,
    "deepfm": DeepFMOptions,
    "dnn": DNNOptions,
    "dynint": DynIntOptions,
    "fibinet": FiBiNETOptions,
    "fm": FMOptions,
    "groupce": GroupCEOptions,
    "inttower": IntTowerOptions,
    "lr": LROptions,
    "mf": MFOptions,
    "pnn": PNNOptions,
    "pooled": PooledOptions,
    "ranktower": RankTowerOptions,
    "sasrec": SASRecOptions,
    "twotower": TwoTowerOptions,
    "widedeep": WideDeepOptions,
    "xdeepfm": XDeepFMOptions,
    "xdeepint": XDeepIntOptions,
}
"""Name of a model -> its options."""


def make_options(model: str, values: dict[str, Any]) -> Any:
    """A model's options with the given values.

    Raises:
      ValueError: there is no such model or option, or a value is none of its option's choices.
    """
    if model not in MODELS:
        raise ValueError(f"model must be one of {sorted(MODELS)}, got {model!r}")
    known = options_of(MODELS[model])
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no option of model {model!r}; it has {sorted(known)}")
    options = MODELS[model](**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    check_choices(options)
    return options


def _schedule(name: str, text: str | None) -> Any:
    """`3` -> 3; `1000:4,2000:2` -> [(1000, 4), (2000, 2)]."""
    if text is None:
        return None
    try:
        if ":" not in text:
            return int(text)
        return [(int(step), int(k)) for step, k in (pair.split(":") for pair in text.split(","))]
    except ValueError:
        raise ValueError(f"{name} must be a number, or step:k,step:k; got {text!r}") from None
