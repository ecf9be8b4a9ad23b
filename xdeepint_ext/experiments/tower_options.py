"""The options of the two-tower models."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from xdeepint_ext.experiments.options import option
from xdeepint_ext.layers.multi_head_gate import GATE_INPUTS
from xdeepint_ext.models import RankingModel, RankTower, TwoTower
from xdeepint_ext.models.baselines import DAT, IntTower
from xdeepint_ext.models.baselines.two_tower import SIMILARITIES
from xdeepint_ext.models.towers import TowerModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.initializers import truncated_normal

__all__ = ["DATOptions", "IntTowerOptions", "RankTowerOptions", "TwoTowerOptions"]


@dataclasses.dataclass(frozen=True)
class TowerOptions:
    """Hyper-parameters that the two-tower models share; see `TowerModel`."""

    model: ClassVar[type[TowerModel]]

    width: int = option(16, "embedding width K; ours")
    units: tuple[int, ...] = option((300, 300, 128), "widths of each tower's MLP; IntTower's code")
    dropout: float = option(0.0, "behind the MLPs' layers; ours: none")
    embedding_stddev: float | None = option(None, "deviation of the initial embeddings; default 1 / sqrt(width)")

    def make(self, schema: Schema) -> RankingModel:
        """The model."""
        options = dataclasses.asdict(self)
        if "num_heads" in options:
            options["num_heads"] = _one_or_two(options["num_heads"])
        return self.model(schema, embedding_initializer=truncated_normal(options.pop("embedding_stddev")), **options)


@dataclasses.dataclass(frozen=True)
class RankTowerOptions(TowerOptions):
    """Hyper-parameters of `RankTower`; see there."""

    model = RankTower

    num_heads: tuple[int, ...] = option((4,), "heads of each side, or user,item; ours: 4")
    head_dim: int = option(16, "columns of a head; ours: 16")
    gate_input: str = option("hidden", "what the heads' gates see: the MLP's output or its input; ours", GATE_INPUTS)
    attention: bool = option(True, "gated cross-attention between the sides")
    residual: bool = option(True, "around the attention; ours")
    temperature: float = option(0.1, "of the similarity, at the start; ours")
    learnable_temperature: bool = option(True, "train the temperature; paper")


@dataclasses.dataclass(frozen=True)
class TwoTowerOptions(TowerOptions):
    """Hyper-parameters of `TwoTower`; see there."""

    model = TwoTower

    similarity: str = option("cosine", "of the two vectors: cosine over a temperature, or product", SIMILARITIES)
    temperature: float = option(0.1, "of the cosine, at the start; ours")
    learnable_temperature: bool = option(True, "train the temperature; ours")


@dataclasses.dataclass(frozen=True)
class IntTowerOptions(TowerOptions):
    """Hyper-parameters of `IntTower`; see there."""

    model = IntTower

    num_heads: tuple[int, ...] = option((4,), "heads of each side, or user,item; authors: 4 (ads), 32 (MovieLens)")
    head_dim: int = option(16, "columns of a head; authors: 16 (ads), 64 (MovieLens)")
    batch_norm: bool = option(True, "batch normalisation in both MLPs; authors")
    contrast_weight: float = option(0.0, "of the contrastive regulariser; authors' code: left out")


@dataclasses.dataclass(frozen=True)
class DATOptions(TowerOptions):
    """Hyper-parameters of `DAT`; see there."""

    model = DAT

    units: tuple[int, ...] = option((256, 128, 32), "widths of each tower's MLP; public implementations")
    temperature: float = option(0.1, "of the cosine, at the start; ours; paper: none")
    learnable_temperature: bool = option(True, "train the temperature; ours")
    mimic_weights: tuple[float, ...] = option((0.5, 0.5), "of the users' and the items' mimic losses; paper")
    alignment_weight: float = option(1.0, "of the alignment of the categories; paper")
    user_id: str | None = option(None, "feature of the users' vectors; default: the one with role group")
    item_id: str | None = option(None, "feature of the items' vectors; default: the one with role item_id")
    category: str | None = option(None, "the items' feature whose categories are aligned; default: none")


def _one_or_two(numbers: tuple[int, ...]) -> int | tuple[int, ...]:
    """A number for both sides, or two."""
    return numbers[0] if len(numbers) == 1 else numbers
