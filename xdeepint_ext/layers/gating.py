"""Routers: which experts, or which depth, an example is sent to."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.dtypes import full_precision
from xdeepint_ext.utils.recording import is_recording
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.replicas import sum_over_replicas

LEAST_TEMPERATURE = 0.01
"""A learned temperature acts as if it were at least this; at 0 the logits would not be finite."""

LEAST_SQUARE = 1e-4
"""A shorter q is divided by 0.01 instead of its length: the gradient of a direction grows as 1 / length."""


def top_k_gates(logits: tf.Tensor, k: int | tf.Tensor) -> tf.Tensor:
    """Softmax over the k largest logits of a row, zeros elsewhere; of equal logits the lowest index counts first.

    Args:
      logits: (B, E), float32 or wider.
      k: 1 .. E, a number or a scalar tensor.

    Returns:
      (B, E); a row sums to 1.

    Example:
      >>> top_k_gates(tf.constant([[1.0, 1.0, 1.0, 1.0]]), 2).numpy()
      array([[0.5, 0.5, 0. , 0. ]], dtype=float32)
    """
    mine, others = logits[:, :, tf.newaxis], logits[:, tf.newaxis]
    index = tf.range(logits.shape[1])
    earlier = index[tf.newaxis] < index[:, tf.newaxis]
    before = tf.logical_or(others > mine, tf.logical_and(tf.equal(others, mine), earlier))
    kept = tf.reduce_sum(tf.cast(before, tf.int32), axis=2) < tf.cast(k, tf.int32)
    exponentials = tf.exp(logits - tf.stop_gradient(tf.reduce_max(logits, axis=1, keepdims=True)))
    exponentials = tf.where(kept, exponentials, tf.zeros_like(exponentials))
    return exponentials / tf.reduce_sum(exponentials, axis=1, keepdims=True)


def balance_loss(gates: tf.Tensor, logits: tf.Tensor, prior: Sequence[float] | None = None) -> tf.Tensor:
    """`sum_i f_i P_i / prior_i`: f_i is the share of examples that expert i gets, P_i its mean softmax probability.

    At f = P = prior and one expert an example it is 1, the least that it can be there. Sums run over all replicas.

    Args:
      gates: (B, E).
      logits: (B, E) before the choice of experts.
      prior: the E shares wanted, their sum 1; None = equal ones.

    Returns:
      A scalar; 0 for an empty batch.
    """
    chosen = tf.cast(gates > 0, logits.dtype)
    sums = [tf.reduce_sum(chosen, axis=0), tf.reduce_sum(tf.nn.softmax(logits), axis=0), _count(logits)]
    share, probability, count = sum_over_replicas(sums)
    number = logits.shape[1]
    wanted = tf.constant([1 / number] * number if prior is None else list(prior), logits.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(share * probability / wanted), count * count)


def z_loss(logits: tf.Tensor) -> tf.Tensor:
    """Mean over examples, on all replicas, of `logsumexp(logits)^2`; 0 for an empty batch.

    Args:
      logits: (B, E).
    """
    total, count = sum_over_replicas([tf.reduce_sum(tf.square(tf.reduce_logsumexp(logits, axis=1))), _count(logits)])
    return tf.math.divide_no_nan(total, count)


def _count(logits: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.shape(logits)[0], logits.dtype)


class Jitter(tf.keras.__internal__.layers.BaseRandomLayer):
    """Multiplies each entry by a draw from U(1 - epsilon, 1 + epsilon) in training."""

    def __init__(self, epsilon: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training:
            return inputs
        low, high = 1 - self.epsilon, 1 + self.epsilon
        return inputs * self._random_generator.random_uniform(tf.shape(inputs), low, high, inputs.dtype)


@register
class TopKGate(tf.keras.layers.Layer):
    """Sends an example to k of E experts: the softmax over its k largest logits `cos(q, c_e) / tau`.

    `q = D_2 relu(D_1 (x * jitter) + b_1) + b_2` is a projection of the example; the c_e and tau are learned. In
    training, it adds `balance_weight` times `balance_loss` and `z_weight` times `z_loss`. Computes in float32 or wider.

    Args:
      num_experts: E.
      k: experts an example; or pairs (step, k) with rising steps: the first pair's k holds until its step, the next
        pair's until its own, and so on; the last k stays. Steps are training calls. Authors: 3 of 5 for experts, 1 of 4
        for exits, both constant.
      noise: deviation of the normal noise on the logits in training (Shazeer et al. 2017). Authors: none.
      prior: E positive shares, sum 1, that the balance loss pulls the routing to; None = equal ones.
      balance_weight: authors: 1.
      z_weight: default 0.001, our reading; authors: 1 in effect, as their 0.01 is never applied.
      jitter: epsilon of the factor U(1 - epsilon, 1 + epsilon) on each input entry in training. Authors: 0.5.
      projection_size: entries of q. Authors: 16.
      reduction_ratio: D_1 has max(1, n // reduction_ratio) units. Authors: 16.

    Weights:
      centroids: (E, projection_size); temperature: a scalar, starts at 1 and acts as max(temperature, 0.01);
      hidden, projection: the two dense layers; step: training calls so far, only where k changes with them.

    Call arguments:
      inputs: (B, n); a longer shape is flattened to it.
      training: whether noise, jitter and losses are there and the step counts.

    Returns:
      Gates (B, E), 0 where an expert is not chosen; a row sums to 1.

    Raises:
      ValueError: k is neither a number nor pairs, or not in 1 .. E, steps do not rise, the prior does not have E
        positive shares of sum 1, or another argument is out of range.

    Example:
      >>> TopKGate(num_experts=5, k=2)(tf.ones((8, 160))).shape
      TensorShape([8, 5])

    Source: Yan and Li, AdaEnsemble (arXiv 2301.08353), the authors' code; the paper's text was not at hand.
    """

    def __init__(
        self,
        num_experts: int,
        k: int | Sequence[tuple[int, int]],
        noise: float = 0.0,
        prior: Sequence[float] | None = None,
        balance_weight: float = 1.0,
        z_weight: float = 0.001,
        jitter: float = 0.5,
        projection_size: int = 16,
        reduction_ratio: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**full_precision(kwargs))
        for argument, value in {
            "num_experts": num_experts,
            "projection_size": projection_size,
            "reduction_ratio": reduction_ratio,
        }.items():
            if value < 1:
                raise ValueError(f"TopKGate: {argument} must be >= 1, got {value}")
        for argument, weight in {"noise": noise, "balance_weight": balance_weight, "z_weight": z_weight}.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"TopKGate: {argument} must be >= 0 and finite, got {weight}")
        if not 0 <= jitter <= 1:
            raise ValueError(f"TopKGate: jitter must be in [0, 1], got {jitter}")
        self.num_experts = num_experts
        self.k = as_schedule(k)
        self.noise = noise
        self.prior = _checked_prior(prior, num_experts)
        self.balance_weight = balance_weight
        self.z_weight = z_weight
        self.jitter = jitter
        self.projection_size = projection_size
        self.reduction_ratio = reduction_ratio
        _check_schedule(self.k, num_experts)
        self._jitter = Jitter(jitter, dtype=self._dtype_policy)
        self._noise = tf.keras.layers.GaussianNoise(noise, dtype=self._dtype_policy)

    def build(self, input_shape: Any) -> None:
        size = tf.TensorShape(input_shape)[1:].num_elements()
        if not size:
            raise ValueError(
                f"TopKGate: inputs must have shape (batch, n), n static; got {tf.TensorShape(input_shape)}"
            )
        policy = {"dtype": self._dtype_policy}
        units = max(1, size // self.reduction_ratio)
        self.hidden = tf.keras.layers.Dense(units, "relu", name="hidden", **policy)
        self.projection = tf.keras.layers.Dense(self.projection_size, name="projection", **policy)
        for layer, inputs in ((self.hidden, size), (self.projection, units)):
            with tf.name_scope(layer.name):
                layer.build((None, inputs))
        self.centroids = self.add_weight(
            name="centroids", shape=(self.num_experts, self.projection_size), initializer="glorot_uniform"
        )
        self.temperature = self.add_weight(name="temperature", shape=(), initializer="ones")
        self.step = None
        if not isinstance(self.k, int):
            self.step = self.add_weight(
                name="step",
                shape=(),
                dtype=tf.int64,
                initializer="zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = self._jitter(tf.reshape(inputs, (-1, inputs.shape[1:].num_elements())), training=training)
        logits = self._noise(self.scores(self.projection(self.hidden(x))), training=training)
        gates = top_k_gates(logits, self.present_k())
        if training:
            if self.balance_weight:
                self.add_loss(self.balance_weight * balance_loss(gates, logits, self.prior))
            if self.z_weight:
                self.add_loss(self.z_weight * z_loss(logits))
            if self.step is not None and is_recording():
                self.step.assign_add(1)
        return gates

    def scores(self, query: tf.Tensor) -> tf.Tensor:
        """Logits `cos(q, c_e) / tau`, (B, E), of q, (B, projection_size); 0 for a q of zeros."""
        unit = tf.math.l2_normalize(query, axis=1, epsilon=LEAST_SQUARE)
        centroids = tf.math.l2_normalize(tf.convert_to_tensor(self.centroids), axis=1)
        return tf.matmul(unit, centroids, transpose_b=True) / tf.maximum(self.temperature, LEAST_TEMPERATURE)

    def present_k(self) -> int | tf.Tensor:
        """The k of the next call."""
        if isinstance(self.k, int):
            return self.k
        steps, values = zip(*self.k, strict=True)
        passed = tf.reduce_sum(tf.cast(tf.constant(steps, tf.int64) <= self.step, tf.int32))
        return tf.gather(tf.constant(values), tf.minimum(passed, len(values) - 1))

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape([tf.TensorShape(input_shape)[0], self.num_experts])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "k": self.k if isinstance(self.k, int) else [list(pair) for pair in self.k],
            "noise": self.noise,
            "prior": self.prior,
            "balance_weight": self.balance_weight,
            "z_weight": self.z_weight,
            "jitter": self.jitter,
            "projection_size": self.projection_size,
            "reduction_ratio": self.reduction_ratio,
        }


def as_schedule(k: Any) -> int | list[tuple[int, int]]:
    """`TopKGate`'s argument k as a number, or as pairs (step, k).

    Raises:
      ValueError: it is neither.
    """
    try:
        return int(k) if isinstance(k, numbers.Integral) else [(int(step), int(value)) for step, value in k]
    except (TypeError, ValueError):
        raise ValueError(f"TopKGate: k must be a whole number, or pairs (step, k); got {k!r}") from None


def _check_schedule(k: int | list[tuple[int, int]], num_experts: int) -> None:
    values = [k] if isinstance(k, int) else [value for _, value in k]
    if not values or not all(1 <= value <= num_experts for value in values):
        raise ValueError(f"TopKGate: k must be in 1 .. {num_experts}, the number of experts; got {k}")
    steps = [] if isinstance(k, int) else [step for step, _ in k]
    if any(later <= earlier for earlier, later in zip([0, *steps], steps, strict=False)):
        raise ValueError(f"TopKGate: the steps of k must be positive and rise, got {k}")


def _checked_prior(prior: Sequence[float] | None, num_experts: int) -> list[float] | None:
    if prior is None:
        return None
    shares = [float(share) for share in prior]
    if len(shares) != num_experts or not all(share > 0 for share in shares) or not math.isclose(sum(shares), 1.0):
        raise ValueError(f"TopKGate: prior must be {num_experts} positive shares of sum 1, got {shares}")
    return shares
