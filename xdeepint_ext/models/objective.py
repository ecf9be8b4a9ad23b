"""`Objective`: losses and metrics of one task or several, with the side inputs that they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.losses import LogLoss, RankingLoss
from xdeepint_ext.losses.base import MEAN_REDUCTIONS, LossLayer, Part
from xdeepint_ext.losses.checks import weights_like
from xdeepint_ext.utils.replicas import sum_over_replicas


class Objective:
    """What a `RankingModel` optimises and reports.

    Args:
      tasks: their names.
      loss: a loss or a dict task -> loss; None = `LogLoss`. A Keras loss or a function must give one value a label;
        its values are masked, weighted and averaged here as those of a `RankingLoss`. A `LossLayer` is built here;
        several tasks need one each.
      metrics: a list (every task gets metrics of its own) or a dict task -> list.
      loss_weights: task -> weight; 1 where absent.

    Raises:
      ValueError: a dict names no task, or lacks one.
    """

    def __init__(self, tasks: Sequence[str], loss: Any, metrics: Any, loss_weights: Mapping[str, float] | None) -> None:
        self.tasks = tuple(tasks)
        losses = self._by_task("loss", loss if loss is not None else LogLoss())
        self.losses = {task: _loss(losses[task]) for task in self.tasks}
        self.layers = [loss for loss in self.losses.values() if isinstance(loss, LossLayer)]
        _build(self.layers)
        self.weights = {task: 1.0 for task in self.tasks} | dict(loss_weights or {})
        self._check("loss_weights", self.weights)
        self.loss_means = {task: tf.keras.metrics.Mean(self._named(task, "loss")) for task in self.tasks}
        given = self._by_task("metrics", metrics if metrics is not None else [], missing=[])
        prefixes = {task: f"{task}_" if len(self.tasks) > 1 else "" for task in self.tasks}
        self.task_metrics = {
            task: [_metric(metric, prefixes[task]) for metric in _listed(given[task])] for task in self.tasks
        }
        if len(self.tasks) > 1:
            self.total = tf.keras.metrics.Mean("loss")

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """The mean loss (total first where there are several tasks), then the tasks' metrics."""
        total = [self.total] if len(self.tasks) > 1 else []
        return [*total, *self.loss_means.values(), *(m for found in self.task_metrics.values() for m in found)]

    def loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> tf.Tensor:
        """The weighted sum of the tasks' losses; over the replicas it sums to the global batch's loss.

        Raises:
          ValueError: labels, logits or a side input are missing.
        """
        total = 0.0
        for task in self.tasks:
            labels, logits = self._of(y, task, "labels"), self._of(y_pred, task, "logits")
            loss = self.losses[task]
            parts = _parts(loss, labels, logits, self._of(sample_weight, task, "weights"), x)
            mean = getattr(loss, "reduction", "auto") in MEAN_REDUCTIONS
            self._update_mean(task, parts)
            value = tf.add_n([_over_global_count(part) if mean else part.weight * part.total for part in parts])
            total += self.weights[task] * value
        if len(self.tasks) > 1:
            self._update_total(total, tf.shape(logits)[0])
        return total

    def _update_mean(self, task: str, parts: Sequence[Part]) -> None:
        """Adds this replica's loss to the task's mean; several parts weigh as many units as the first one has."""
        value = tf.add_n([part.weight * tf.math.divide_no_nan(part.total, part.count) for part in parts])
        self.loss_means[task].update_state(value, sample_weight=parts[0].count)

    def _update_total(self, total: tf.Tensor, examples: tf.Tensor) -> None:
        """Adds a batch whose loss is the sum of the replicas' `total`, and weighs as many examples as it has."""
        examples = tf.cast(examples, total.dtype)
        value = total * sum_over_replicas([examples])[0]
        self.total.update_state(tf.math.divide_no_nan(value, examples), sample_weight=examples)

    def update_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> None:
        """Feeds every metric its task's labels and logits; an example whose label is missing has weight 0."""
        for task, found in self.task_metrics.items():
            if not found:
                continue
            labels, weights = _without_missing(self._of(y, task, "labels"), self._of(sample_weight, task, "weights"))
            logits = self._of(y_pred, task, "logits")
            for metric in found:
                metric.update_state(labels, logits, sample_weight=weights, **_side_inputs(metric, x))

    def get_config(self) -> dict[str, Any]:
        """What `RankingModel.compile` needs to make this object again."""
        serialize = tf.keras.saving.serialize_keras_object
        several = len(self.tasks) > 1
        metrics = {}
        for task, found in self.task_metrics.items():
            metrics[task] = [serialize(metric) for metric in found]
            for config in metrics[task]:
                if several:
                    config["config"]["name"] = config["config"]["name"].removeprefix(f"{task}_")
        return {
            "loss": {task: serialize(loss) for task, loss in self.losses.items()},
            "metrics": metrics,
            "loss_weights": dict(self.weights),
        }

    def _by_task(self, argument: str, value: Any, missing: Any = None) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            return dict.fromkeys(self.tasks, value)
        self._check(argument, value)
        lacking = [task for task in self.tasks if task not in value]
        if lacking and missing is None:
            raise ValueError(f"{argument} lacks the tasks {lacking}; got {sorted(value)}")
        return {task: value.get(task, missing) for task in self.tasks}

    def _check(self, argument: str, value: Mapping[str, Any]) -> None:
        unknown = sorted(set(value) - set(self.tasks))
        if unknown:
            raise ValueError(f"{argument} names {unknown}, which are no tasks; the tasks are {list(self.tasks)}")

    def _of(self, value: Any, task: str, what: str) -> Any:
        if not isinstance(value, Mapping):
            if len(self.tasks) > 1 and what != "weights":
                raise ValueError(f"{what} must be a dict of the tasks {list(self.tasks)}, got {value!r}")
            return value
        if task not in value:
            raise ValueError(f"{what} lack task {task!r}; got {sorted(value)}")
        return value[task]

    def _named(self, task: str, name: str) -> str:
        return f"{task}_{name}" if len(self.tasks) > 1 else name


def _side_inputs(wanting: Any, x: Any) -> dict[str, tf.Tensor]:
    names = getattr(wanting, "side_inputs", ())
    missing = [name for name in names if not isinstance(x, Mapping) or name not in x]
    if missing:
        raise ValueError(
            f"{wanting.name} asks for the side inputs {missing}, which the features lack; give a feature of the schema "
            "the role group, item_id, stage or teacher"
        )
    return {name: x[name] for name in names}


def _loss(loss: Any) -> Any:
    """The loss itself, once it is sure that it can be minimised on logits."""
    if not callable(loss):
        raise ValueError(
            f"loss must be an object or function on logits, such as LogLoss(), got {loss!r}; Keras's losses by name "
            "expect probabilities"
        )
    if getattr(loss, "reduction", "auto") not in (*MEAN_REDUCTIONS, "sum"):
        raise ValueError(f"loss {loss.name} must be reduced to a mean or sum, got reduction {loss.reduction!r}")
    return loss


def _build(layers: Sequence[LossLayer]) -> None:
    """Makes the scalars of losses; nothing calls them as layers, which would."""
    if len(set(map(id, layers))) < len(layers):
        raise ValueError(f"loss {layers[0].name} learns scalars of its own: several tasks need one each, as a dict")
    for layer in layers:
        if not layer.built:
            with tf.name_scope(layer.name):
                layer.build(None)


def _over_global_count(part: Part) -> tf.Tensor:
    """What the replicas' values add up to is the part's mean over the global batch."""
    return part.weight * tf.math.divide_no_nan(part.total, sum_over_replicas([part.count])[0])


def _parts(loss: Any, labels: Any, logits: tf.Tensor, weights: Any, x: Any) -> list[Part]:
    """The loss over the labels that are there."""
    if isinstance(loss, RankingLoss | LossLayer):
        target = {"label": labels, **_side_inputs(loss, x)} if loss.side_inputs else labels
        return loss.parts(target, logits, weights)
    there = tf.logical_not(tf.convert_to_tensor(labels) < 0)
    labels, weights = _without_missing(labels, weights)
    values = loss.call(labels, logits) if isinstance(loss, tf.keras.losses.Loss) else loss(labels, logits)
    if values.shape.rank not in (1, labels.shape.rank) or labels.shape[1:].num_elements() != 1:
        raise ValueError(
            f"loss {getattr(loss, 'name', loss)} must give one value a label, got {values.shape} for {labels.shape}: "
            "lists need a RankingLoss"
        )
    values = tf.reshape(values, tf.shape(labels)) * tf.cast(weights, values.dtype)
    return [Part(1.0, tf.reduce_sum(values), tf.reduce_sum(tf.cast(there, values.dtype)))]


def _without_missing(labels: Any, weights: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Labels with 0 for those below 0, and weights that take these out. NaN stays, so that it shows."""
    labels = tf.convert_to_tensor(labels)
    missing = labels < 0
    weights = tf.ones_like(labels) if weights is None else weights_like(weights, labels)
    return tf.where(missing, tf.zeros_like(labels), labels), tf.where(missing, tf.zeros_like(labels), weights)


def _metric(metric: Any, prefix: str) -> tf.keras.metrics.Metric:
    """The metric itself, or with a prefix a copy of that name: several tasks cannot share one."""
    metric = tf.keras.metrics.get(metric) if isinstance(metric, str) else metric
    if not isinstance(metric, tf.keras.metrics.Metric):
        raise ValueError(f"metrics must be tf.keras.metrics.Metric objects or their names, got {metric!r}")
    return metric.__class__.from_config({**metric.get_config(), "name": prefix + metric.name}) if prefix else metric


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
