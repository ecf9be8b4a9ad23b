"""What a trained `GroupRanker` does with its users and their negatives: codes in use, errors, gradients by level."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.experiments.code_watch import first_rows, quantize_users
from xdeepint_ext.models import GroupRanker

__all__ = ["CodeUse", "Pulls", "code_use", "principal_plane", "pulls"]


@dataclasses.dataclass(frozen=True)
class CodeUse:
    """The codes of a split.

    Args:
      counts: (L, K), records of each code.
      groups: (L,), different codes up to level l.
      errors: (L,), mean squared length of what the first l levels leave of a record's user, over that of the user.
      users: (n, d), vectors of some different users.
      codes: (n, L), theirs.
    """

    counts: np.ndarray
    groups: np.ndarray
    errors: np.ndarray
    users: np.ndarray
    codes: np.ndarray

    @property
    def perplexity(self) -> np.ndarray:
        """(L,), e to the entropy of the codes' shares: K where all are used alike."""
        shares = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        logs = np.log(np.where(shares > 0, shares, 1.0))
        return np.exp(-(shares * logs).sum(axis=1))

    @property
    def dead(self) -> np.ndarray:
        """(L,), share of the codes that no record has."""
        return (self.counts == 0).mean(axis=1)


@dataclasses.dataclass(frozen=True)
class Pulls:
    """Gradients of the group losses at negatives, by level, from the first or the root on.

    A group's loss counts as it does alone, not divided by the number of groups.

    Args:
      groups: (levels,), valid groups of a batch, mean.
      negatives: (levels,), mean number of negatives of a group.
      pull: (levels,), mean over groups of the sum of |dL/ds| over a group's negatives.
      probability: (levels,), mean probability of a negative, each weighing as much as its gradient.
      random_pull: `pull` of groups of the same sizes, drawn at random.
      random_probability: `probability` of these.
    """

    groups: np.ndarray
    negatives: np.ndarray
    pull: np.ndarray
    probability: np.ndarray
    random_pull: np.ndarray
    random_probability: np.ndarray


def code_use(model: GroupRanker, batches: Iterable[Any], most_users: int = 2000) -> CodeUse:
    """Quantises a split as inference does.

    Args:
      model: a built model.
      batches: (features, ...), one at least.
      most_users: of `users`, the first ones.
    """
    quantize, size = quantize_users(model), model.quantizer.codebook_size
    levels = model.quantizer.num_levels
    counts, lengths = np.zeros((levels, size), np.int64), np.zeros(levels + 1)
    prefixes: list[np.ndarray] = []
    users: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    for features, *_ in batches:
        user, of_batch, squares = (part.numpy() for part in quantize(features))
        counts += np.stack([np.bincount(column, minlength=size) for column in of_batch.T])
        lengths += squares.sum(axis=0, dtype=np.float64)
        prefixes.append(np.unique(of_batch, axis=0))
        if sum(map(len, users)) < 2 * most_users:  # some come again
            rows = first_rows(features, model.fields.names)
            users.append(user[rows])
            codes.append(of_batch[rows])
    chains = np.unique(np.concatenate(prefixes), axis=0)
    groups = np.array([len(np.unique(chains[:, : level + 1], axis=0)) for level in range(levels)])
    vectors, places = np.unique(np.concatenate(users), axis=0, return_index=True)
    chosen = np.sort(np.random.default_rng(0).permutation(len(vectors))[:most_users])
    return CodeUse(
        counts, groups, lengths[1:] / max(lengths[0], 1e-30), vectors[chosen], np.concatenate(codes)[places[chosen]]
    )


def principal_plane(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((n, 2) places in the plane of the greatest variance, (2,) shares of the variance along its axes).

    Args:
      vectors: (n, d), n and d at least 2.
    """
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    total = float((lengths**2).sum())
    return centred @ axes[:2].T, lengths[:2] ** 2 / total if total else np.zeros(2)


def pulls(model: GroupRanker, batches: Iterable[Any], seed: int = 0) -> dict[str, Pulls]:
    """Task -> the gradients at its negatives, over some batches; none without group losses.

    Args:
      model: a built model.
      batches: (features, labels[, weights]), as in training.
      seed: of the random groups.
    """
    measure = _measure(model)
    random, number = np.random.default_rng(seed), 0
    totals: dict[str, Any] = dict.fromkeys(model.groups, 0.0)
    for features, labels, *_ in batches if model.groups else ():
        by_task = labels if isinstance(labels, Mapping) else dict.fromkeys(model.tasks, labels)
        rows = int(tf.shape(by_task[model.tasks[0]])[0])
        own, drawn = (measure(features, by_task, places) for places in (np.arange(rows), random.permutation(rows)))
        totals = {task: totals[task] + np.array([own[task], drawn[task]], np.float64) for task in totals}
        number += 1
    return {task: _as_pulls(total, number) for task, total in totals.items()} if number else {}


def _measure(model: GroupRanker) -> Callable[..., Any]:
    """A graph from a batch, and whose codes each record has: task -> (4, levels), the sums of `_of_groups`."""

    @tf.function(reduce_retracing=True)
    def measure(features: Any, labels: Mapping[str, tf.Tensor], places: tf.Tensor) -> Any:
        logits = model(features, training=False)
        user, _ = model.fields.split(model.embed(features))
        codes = tf.gather(model.quantizer(user, training=False)["codes"], places)
        by_task = logits if isinstance(logits, Mapping) else dict.fromkeys(model.tasks, logits)
        return {task: _of_groups(model, task, by_task[task], labels[task], codes) for task in model.groups}

    def of_batch(features: Any, labels: Any, places: np.ndarray) -> Any:
        return measure({n: features[n] for n in model.input_signature()}, labels, tf.constant(places, tf.int32))

    return of_batch


def _of_groups(model: GroupRanker, task: str, logits: tf.Tensor, labels: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """(4, levels): valid groups, their negatives, the sum of the gradients there, and that times the probability."""
    scores, labels = tf.cast(tf.reshape(logits, [-1]), tf.float32), tf.reshape(labels, [-1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(scores)
        found = model.groups[task].level_losses(scores / model.temperature, labels, codes)
        losses = tf.unstack(found.losses * tf.stop_gradient(found.groups))
    columns = []
    for loss, groups in zip(losses, tf.unstack(found.groups), strict=True):
        gradient = tape.gradient(loss, scores)
        at_negatives = tf.where(tf.equal(labels, 0.0), tf.abs(gradient), tf.zeros_like(gradient))
        sums = [tf.cast(at_negatives > 0, tf.float32), at_negatives, at_negatives * tf.sigmoid(scores)]
        columns.append(tf.stack([groups, *map(tf.reduce_sum, sums)]))
    return tf.stack(columns, axis=1)


def _as_pulls(total: np.ndarray, batches: int) -> Pulls:
    (groups, negatives, pull, scored), (random_groups, _, random_pull, random_scored) = total

    def over(value: np.ndarray, number: np.ndarray) -> np.ndarray:
        return np.divide(value, number, out=np.full(value.shape, np.nan), where=number > 0)

    return Pulls(
        groups / batches,
        over(negatives, groups),
        over(pull, groups),
        over(scored, pull),
        over(random_pull, random_groups),
        over(random_scored, random_pull),
    )
