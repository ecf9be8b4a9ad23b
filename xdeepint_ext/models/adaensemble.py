"""AdaEnsemble: layers of sparsely chosen interaction experts, left at a depth that each example chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import (
    CINExpert,
    ConvExpert,
    CrossExpert,
    EarlyExit,
    GatedDenseExpert,
    InteractionMachineExpert,
    PINExpert,
    SelfAttentionExpert,
    SparseMoE,
    TopKGate,
)
from xdeepint_ext.layers.gating import as_schedule
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.dtypes import full_precision
from xdeepint_ext.utils.registry import register

EXPERTS = {
    "gated_dense": GatedDenseExpert,
    "cross": CrossExpert,
    "pin": PINExpert,
    "conv": ConvExpert,
    "self_attention": SelfAttentionExpert,
    "cin": CINExpert,
    "interaction_machine": InteractionMachineExpert,
}
"""Name of an expert -> its class."""

AUTHORS_PRIOR = {"gated_dense": 0.2, "cross": 0.2, "pin": 0.4, "conv": 0.1, "self_attention": 0.1}
"""The authors' five experts, in their order, and the shares that their balance loss wants."""

AUTHORS_EXIT_PRIOR = (0.1, 0.2, 0.6, 0.1)


class DepthEstimator(tf.keras.layers.Layer):
    """Logits of the tasks from a field matrix: one dense layer on its numbers, in float32 or wider."""

    def __init__(self, num_tasks: int, **kwargs: Any) -> None:
        super().__init__(**full_precision(kwargs))
        self.num_tasks = num_tasks
        self.dense = tf.keras.layers.Dense(num_tasks, name="dense", dtype=self._dtype_policy)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.dense(tf.reshape(inputs, (-1, inputs.shape[1:].num_elements())))


@register
class AdaEnsemble(RankingModel):
    """`logit = sum_d pi_d (w_d . x_{d+1} + b_d)`, `x_{d+1} = x_d + sum_e g_de E_de(x_d, x_0)`, gates by `TopKGate`.

    Each layer is a `SparseMoE` that computes, for each example, only its k experts; `EarlyExit` computes, for each
    example, only the layers up to its depth. Experts see the field matrix bit by bit, n = F K.

    Args:
      schema: a `Schema`; see `RankingModel`.
      width: K. Authors: 16.
      num_layers: L. Authors: 4.
      experts: names in `EXPERTS`, in each layer. Authors: gated_dense, cross, pin, conv, self_attention; further ones
        are cin and interaction_machine.
      k: experts an example in each layer, or a schedule; see `TopKGate`. Authors: 3.
      expert_prior: shares wanted of the experts; None = the authors' .2, .2, .4, .1, .1 for their five, else equal.
      exit_k: depths that an example mixes in training, or a schedule. None = L at first, one less after each
        `exit_steps` steps, at last 1: our reading. Authors: 1.
      exit_steps: see exit_k. Default 1,000, ours.
      exit_prior: shares wanted of the depths; None = the authors' .1, .2, .6, .1 for 4 layers, else equal.
      combine: of `SparseMoE`: `weighted`, our reading, or `sum`, the authors'.
      exit_mode: of `EarlyExit`: `soft`, our reading, or `hard`, the authors'.
      balance_weight, z_weight, jitter, noise: of the gates; see `TopKGate`.
      dispatch: of experts and depths: `auto`, `gather` or `dense`; `capacity` is the experts' only, with it depths are
        `dense`. XLA compiles the dense and capacity forms; `auto` is dense there.
      capacity_factor: see `SparseMoE`.
      expert_options: name of an expert -> further arguments of its class.
      embedding_initializer: of the tables; see `FeatureEmbedding`.
      name: of the model.

    Raises:
      ValueError: an expert is unknown, k or exit_k is above what there is, a prior has not one share for each or does
        not sum to 1, or another argument is out of range.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = AdaEnsemble(Schema([Feature("user", num_values=9), Feature("item", num_values=7)]), num_layers=2)
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [0]])}).shape
      TensorShape([2, 1])

    Source: Yan and Li, AdaEnsemble (arXiv 2301.08353), abstract and authors' code; the paper's text was not at hand.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 16,
        num_layers: int = 4,
        experts: Sequence[str] = tuple(AUTHORS_PRIOR),
        k: int | Sequence[tuple[int, int]] = 3,
        expert_prior: Sequence[float] | None = None,
        exit_k: int | Sequence[tuple[int, int]] | None = None,
        exit_steps: int = 1000,
        exit_prior: Sequence[float] | None = None,
        combine: str = "weighted",
        exit_mode: str = "soft",
        balance_weight: float = 1.0,
        z_weight: float = 0.001,
        jitter: float = 0.5,
        noise: float = 0.0,
        dispatch: str = "auto",
        capacity_factor: float = 1.25,
        expert_options: Mapping[str, Mapping[str, Any]] | None = None,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        for argument, value in {"num_layers": num_layers, "exit_steps": exit_steps}.items():
            if value < 1:
                raise ValueError(f"AdaEnsemble: {argument} must be >= 1, got {value}")
        unknown = sorted({*experts, *(expert_options or {})} - set(EXPERTS))
        if unknown or not experts:
            raise ValueError(f"AdaEnsemble: experts must be names in {sorted(EXPERTS)}, got {unknown or list(experts)}")
        self._options: dict[str, Any] = {
            "num_layers": num_layers,
            "experts": list(experts),
            "k": _as_lists(as_schedule(k)),
            "expert_prior": None if expert_prior is None else list(expert_prior),
            "exit_k": None if exit_k is None else _as_lists(as_schedule(exit_k)),
            "exit_steps": exit_steps,
            "exit_prior": None if exit_prior is None else list(exit_prior),
            "combine": combine,
            "exit_mode": exit_mode,
            "balance_weight": balance_weight,
            "z_weight": z_weight,
            "jitter": jitter,
            "noise": noise,
            "dispatch": dispatch,
            "capacity_factor": capacity_factor,
            "expert_options": {key: dict(value) for key, value in (expert_options or {}).items()},
        }
        self.exits = EarlyExit(
            [self._layer(layer) for layer in range(num_layers)],
            [DepthEstimator(len(self.tasks), name=f"estimator_{layer}") for layer in range(num_layers)],
            self._exit_gate(),
            mode=exit_mode,
            dispatch="dense" if dispatch == "capacity" else dispatch,
            name="exits",
        )

    def _layer(self, layer: int) -> SparseMoE:
        options = self._options
        names, prior = options["experts"], options["expert_prior"]
        if prior is None and names == list(AUTHORS_PRIOR):
            prior = list(AUTHORS_PRIOR.values())
        return SparseMoE(
            [EXPERTS[expert](name=expert, **options["expert_options"].get(expert, {})) for expert in names],
            self._gate(len(names), options["k"], prior, "gate"),
            name=f"moe_{layer}",
            **{key: options[key] for key in ("combine", "dispatch", "capacity_factor")},
        )

    def _exit_gate(self) -> TopKGate:
        exits, k, prior = (self._options[key] for key in ("num_layers", "exit_k", "exit_prior"))
        if prior is None and exits == len(AUTHORS_EXIT_PRIOR):
            prior = AUTHORS_EXIT_PRIOR
        if k is None:
            k = [(index * self._options["exit_steps"], exits + 1 - index) for index in range(1, exits + 1)]
        return self._gate(exits, k, prior, "exit_gate")

    def _gate(self, exits: int, k: Any, prior: Any, name: str) -> TopKGate:
        options = {key: self._options[key] for key in ("balance_weight", "z_weight", "jitter", "noise")}
        return TopKGate(exits, k, prior=prior, name=name, **options)

    def make_heads(self) -> dict[str, tf.keras.layers.Layer]:
        """None: each depth has an estimator of its own."""
        return {}

    def trunk(self, x: tf.Tensor, training: bool | None = None) -> Any:
        """The logits of the depths that the examples take."""
        logits = tf.split(self.exits(x, training=training), len(self.tasks), axis=1)
        return self.by_task(dict(zip(self.tasks, logits, strict=True)))

    def routing(self, features: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """How inference routes examples.

        Args:
          features: as of a call.

        Returns:
          exits: (B, L), the share of each depth in the logit: one 1 a row with exit_mode `soft`.
          gates: (B, L, E), gates of every layer, also of those behind an example's depth.
        """
        self.build_from_schema()
        x = self.embed(features)
        flat = tf.reshape(x, (-1, x.shape[1] * x.shape[2]))
        gates = [layer.gate(flat, training=False) for layer in self.exits.layers]
        return self.exits.exits(x, training=False), tf.stack(gates, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._options}


def _as_lists(k: int | list[tuple[int, int]]) -> int | list[list[int]]:
    """A schedule as JSON has it."""
    return k if isinstance(k, int) else [list(pair) for pair in k]
