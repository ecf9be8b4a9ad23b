"""GroupRanker: a CTR model that also learns to rank inside groups of similar users, which a quantiser finds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import ResidualVectorQuantizer
from xdeepint_ext.losses import GroupwiseListCrossEntropy, LogLoss
from xdeepint_ext.losses.checks import like, weights_like
from xdeepint_ext.models.group_metrics import ALL_TASKS, GroupMetrics
from xdeepint_ext.models.user_fields import UserFields
from xdeepint_ext.models.wrapped_model import WrappedModel
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.added_losses import with_added_losses
from xdeepint_ext.utils.dtypes import at_least_float32, full_precision
from xdeepint_ext.utils.recording import is_recording, recording_off
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.replicas import num_replicas, sum_over_replicas

AUXILIARIES = ("calibration", "reconstruction")


@register
class GroupRanker(WrappedModel):
    """A backbone f trained by `LogLoss(s, y) + lambda LogLoss(s_q, y) + sum_l [ L_l / (2 sigma_l^2) + log sigma_l ]`.

        s = f(e_u, e_i)        s_q = f(e_u + sg(q(e_u) - e_u), sg(e_i))

    e_u is the user's rows of the field matrix side by side, (B, F_u K), e_i the other rows, q their residual
    quantisation, f one network in both passes. L_l is the mean list loss of s over the groups of level l: the rows of
    the batch whose codes of q agree up to level l. The first term is the compiled loss. Nothing reaches the codebooks;
    they follow the users by moving averages. Several tasks share the codes and have group and auxiliary losses each,
    with the tasks' `loss_weights`.

    Only training differs from the backbone: `predict`, `evaluate` and what is served are the backbone's pass alone, and
    `backbone` is a whole model of its own, with the same scores.

    Args:
      schema: a `Schema` (or its JSON text) with roles.
      backbone: f: a `RankingModel` of this schema whose logits are `trunk(embed(features))`, such as `XDeepInt`,
        `DCNV2` and `DNN`, or its class, or any function that makes it of a schema. None: `DCNV2`, our choice. (Paper:
        not said.)
      num_levels: L. Our choice: 3. (Paper: not said.)
      codebook_size: K. Our choice: 8, for batches of about 4096: `B / K^L` should not be far below 8, or the deepest
        groups are of single rows. (Paper: not said.)
      user_features: names of the inputs that e_u is made of. None: those with the role user and without the role item.
        What is of the context belongs to e_i, as in the paper.
      group_weight: of the sum over levels. Paper: 1. 0: without.
      group_loss: `listce`, the paper's, `softmaxce` or `pairwise`; see `GroupwiseListCrossEntropy`.
      require_negative: see there. Our choice: True.
      include_root: whether the whole batch is a further level. Paper: no.
      gather_groups: whether groups span the replicas of a strategy; False: each has its own, smaller ones.
      temperature: that divides the logits in the group losses. Our choice: 1, none.
      warmup_steps: training steps without the group losses, while the codebooks follow. Our choice: 0.
      auxiliary: the second term: `calibration`, as above, the paper's; or `reconstruction`, VQ-VAE's:
        `mean |D(e_u + sg(q - e_u)) - sg(e_u)|^2`, D one dense layer.
      auxiliary_weight: lambda. Our choice: 0.1, a public re-implementation's. (Paper: not said.) 0: without, and
        without the second pass.
      codebook_update: `ema`, the paper's, or `gradient`, VQ-VAE's; see `ResidualVectorQuantizer`.
      commitment_weight: see there. Paper: 0.
      quantizer_options: further arguments of `ResidualVectorQuantizer`, such as `expire_below`.
      name: of the model.

    Metrics, in training, beside those of backbone and quantiser:
      auxiliary_loss; group_loss, the mean over the levels that have groups; group_size_l, mean number of rows of a
      valid group of level l from 1 on (0: the root). With several tasks `TASK_` before each but the reconstruction's.

    Call arguments:
      features: see `RankingModel`.
      training: whether dropout acts and the codebooks move.
      labels: of training, where the losses beside the compiled one are wanted: (B, 1) or lists, or a dict by task.
      sample_weight: of the labels; see `RankingModel`.

    Returns:
      The backbone's logits.

    Raises:
      ValueError: an argument is out of range, the schema has no feature of the user, or the backbone does not fit.
      tf.errors.InvalidArgumentError: in training, a user's embedding is not finite; see `ResidualVectorQuantizer`.

    Example:
      >>> from xdeepint_ext.models import XDeepInt
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> schema = Schema([Feature("user", role="user", num_values=9), Feature("item", role="item", num_values=7)])
      >>> model = GroupRanker(schema, backbone=XDeepInt, codebook_size=2)
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [0]])}).shape
      TensorShape([2, 1])

    Source: Yan, Li and Choudhary, GroupCE (arXiv 2506.12756), the slides; the paper's text was not at hand.
    """

    def __init__(
        self,
        schema: Schema | str,
        *,
        backbone: Any = None,
        num_levels: int = 3,
        codebook_size: int = 8,
        user_features: Sequence[str] | None = None,
        group_weight: float = 1.0,
        group_loss: str = "listce",
        require_negative: bool = True,
        include_root: bool = False,
        gather_groups: bool = False,
        temperature: float = 1.0,
        warmup_steps: int = 0,
        auxiliary: str = "calibration",
        auxiliary_weight: float = 0.1,
        codebook_update: str = "ema",
        commitment_weight: float = 0.0,
        quantizer_options: Mapping[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, backbone=backbone, name=name, **kwargs)
        weights = {"group_weight": group_weight, "auxiliary_weight": auxiliary_weight, "warmup_steps": warmup_steps}
        for argument, value in weights.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"GroupRanker: {argument} must be >= 0 and finite, got {value}")
        if not 0 < temperature < math.inf:
            raise ValueError(f"GroupRanker: temperature must be positive and finite, got {temperature}")
        if auxiliary not in AUXILIARIES:
            raise ValueError(f"GroupRanker: auxiliary must be one of {AUXILIARIES}, got {auxiliary!r}")
        self.group_weight, self.temperature = group_weight, temperature
        self.auxiliary, self.auxiliary_weight = auxiliary, auxiliary_weight
        self.warmup_steps = warmup_steps
        of_groups = {"require_negative": require_negative, "include_root": include_root, "gather_groups": gather_groups}
        self._options: dict[str, Any] = {
            "num_levels": num_levels,
            "codebook_size": codebook_size,
            "user_features": None if user_features is None else list(user_features),
            "group_weight": group_weight,
            "group_loss": group_loss,
            **of_groups,
            "temperature": temperature,
            "warmup_steps": warmup_steps,
            "auxiliary": auxiliary,
            "auxiliary_weight": auxiliary_weight,
            "codebook_update": codebook_update,
            "commitment_weight": commitment_weight,
            "quantizer_options": dict(quantizer_options or {}),
        }
        self.fields = UserFields(self.embedding.schema, user_features, "GroupRanker")
        self.quantizer = ResidualVectorQuantizer(
            num_levels,
            codebook_size,
            codebook_update=codebook_update,
            commitment_weight=commitment_weight,
            name="quantizer",
            **(quantizer_options or {}),
        )
        self.groups = {
            task: GroupwiseListCrossEntropy(
                num_levels, group_loss, codebook_size=codebook_size, name=f"groups_{task}", **of_groups
            )
            for task in (self.tasks if group_weight else ())
        }
        self.decoder: tf.keras.layers.Dense | None = None
        calibrated = self.tasks if auxiliary == "calibration" else (ALL_TASKS,)
        levels = [level for level in range(num_levels + 1) if level or include_root]
        self._group_metrics = GroupMetrics(self.tasks, levels, self.groups, calibrated if auxiliary_weight else ())
        self._trunk_again: Any = None
        self._evaluating = False

    def call(self, features: Any, training: bool | None = None, labels: Any = None, sample_weight: Any = None) -> Any:
        x = self.embed(features)
        if self._building:
            self._build_parts(self.fields.split(x)[0].shape)
        logits = self.as_lists(features, self.through_trunk(x, training))
        if training and labels is not None and (self.group_weight or self.auxiliary_weight):
            self._add_losses(features, x, logits, self._by_task_of(labels), self._by_task_of(sample_weight))
        return logits

    def user_codes(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Hierarchical codes of users: the ids of their groups, from the widest on.

        Args:
          features: those that e_u is made of, (B, length); others are not needed.

        Returns:
          (B, L) int32.

        Raises:
          ValueError: a feature is missing.
        """
        self.build_from_schema()
        missing = [name for name in self.fields.names if name not in features]
        if missing:
            raise ValueError(f"user_codes: features lack {missing}; got {sorted(features)}")
        rows = tf.shape(features[self.fields.names[0]])[0]
        nothing = {
            name: tf.zeros((rows, spec.shape[1]), spec.dtype)
            for name, spec in self.input_signature().items()
            if name not in features
        }
        user, _ = self.fields.split(self.embed({**features, **nothing}))
        return self.quantizer(user, training=False)["codes"]

    # -- training -------------------------------------------------------------------------------------------------

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Keras's step, in which the call sees labels and weights."""
        x, y, sample_weight = tf.keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True, labels=y, sample_weight=sample_weight)
            loss = self.compute_loss(x, y, y_pred, sample_weight)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def _build_parts(self, user: tf.TensorShape) -> None:
        """Makes the weights that only training calls upon."""
        if self.auxiliary == "reconstruction" and self.auxiliary_weight:
            self.decoder = tf.keras.layers.Dense(user[1], **full_precision({"name": "decoder"}))
        for layer in (self.quantizer, self.decoder, *self.groups.values()):
            if layer is not None and not layer.built:
                with tf.init_scope(), tf.name_scope(layer.name):
                    layer.build(user)

    def _add_losses(
        self, features: Any, x: tf.Tensor, logits: Any, labels: dict[str, Any], weights: dict[str, Any]
    ) -> None:
        user, others = self.fields.split(x)
        warm = self.quantizer.step >= self.warmup_steps  # before the call counts this step
        found = self.quantizer(user, training=True)
        scores = {task: at_least_float32(z) for task, z in self._by_task_of(logits).items()}
        labels = {task: like(labels[task], scores[task], "labels") for task in self.tasks}
        weights = {task: None if w is None else weights_like(w, labels[task]) for task, w in weights.items()}
        for task in self.groups:
            value = self._group_loss(task, scores[task], labels[task], weights[task], found["codes"])
            self.add_loss(self.group_weight * self._weight_of(task) * tf.cast(warm, value.dtype) * value)
        if not self.auxiliary_weight:
            return
        if self.decoder is not None:
            gaps = self.decoder(found["quantized"]) - tf.stop_gradient(at_least_float32(user))
            self._add_auxiliary_loss(ALL_TASKS, 1.0, tf.reduce_mean(tf.square(gaps), axis=1), tf.ones_like(gaps[:, 0]))
            return
        fields = self.fields.join(tf.cast(found["quantized"], x.dtype), [tf.stop_gradient(part) for part in others])
        again = self._by_task_of(self.as_lists(features, self._pass_again(fields)))
        for task in self.tasks:
            [part] = LogLoss().parts(labels[task], again[task], weights[task])
            self._add_auxiliary_loss(task, self._weight_of(task), part.total, part.count)

    def _group_loss(
        self, task: str, logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None, codes: tf.Tensor
    ) -> tf.Tensor:
        value, levels = self.groups[task](
            tf.reshape(logits, [-1]) / self.temperature,
            labels=tf.reshape(labels, [-1]),
            codes=codes,
            sample_weight=None if weights is None else tf.reshape(weights, [-1]),
            return_levels=True,
        )
        if is_recording():
            self._group_metrics.update_groups(task, levels)
        return value

    def _add_auxiliary_loss(self, part: str, weight: float, total: tf.Tensor, count: tf.Tensor) -> None:
        """Adds a mean over the global batch; a step's added losses are divided by the number of replicas."""
        total, count = tf.reduce_sum(total), tf.reduce_sum(count)
        [everywhere] = sum_over_replicas([count])
        self.add_loss(self.auxiliary_weight * weight * num_replicas() * tf.math.divide_no_nan(total, everywhere))
        if is_recording():
            mean = tf.math.divide_no_nan(total, count)
            self._group_metrics.auxiliary_loss[part].update_state(mean, sample_weight=count)

    def _pass_again(self, x: tf.Tensor) -> Any:
        """The trunk's logits in training; what a pass adds beside them, losses, metrics and steps, counts once only."""
        if self._trunk_again is None:
            alone = with_added_losses(self, self.trunk)
            self._trunk_again = tf.function(alone, jit_compile=True) if self.jit_trunk else alone
        with recording_off():
            return self._trunk_again(x, training=True)[0]

    def _weight_of(self, task: str) -> float:
        return self.objective.weights[task] if hasattr(self, "objective") else 1.0

    def _by_task_of(self, value: Any) -> dict[str, Any]:
        return dict(value) if isinstance(value, Mapping) else dict.fromkeys(self.tasks, value)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configures training; see `RankingModel.compile`."""
        super().compile(*args, **kwargs)
        self._trunk_again = None

    # -- metrics --------------------------------------------------------------------------------------------------

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as Keras does, without the metrics that only training moves."""
        with self._without_metrics_of_training():
            return super().evaluate(*args, **kwargs)

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """As of `RankingModel`; then, but not in an evaluation, those of groups and codes."""
        of_codes = {id(metric) for metric in self.quantizer._metrics}
        found = [metric for metric in super().metrics if id(metric) not in of_codes]
        return found if self._evaluating else [*found, *self._group_metrics.all, *self.quantizer._metrics]

    @contextlib.contextmanager
    def _without_metrics_of_training(self) -> Iterator[None]:
        self._evaluating = True
        try:
            yield
        finally:
            self._evaluating = False

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._options}
