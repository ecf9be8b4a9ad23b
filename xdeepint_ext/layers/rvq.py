"""Residual vector quantisation: a vector as a sum of codes, one of each codebook."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from xdeepint_ext.layers.code_metrics import CodeMetrics
from xdeepint_ext.layers.codebooks import (
    code_counts,
    code_sums,
    drawn_places,
    perplexity,
    residual_kmeans,
    smoothed_means,
)
from xdeepint_ext.layers.nearest_code import SEARCHES, nearest_codes
from xdeepint_ext.utils.dtypes import full_precision
from xdeepint_ext.utils.graph import in_xla
from xdeepint_ext.utils.recording import is_recording
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.replicas import GlobalRows, rows_of_replicas, sum_over_replicas

KMEANS = "kmeans"
UPDATES = ("ema", "gradient")


class Quantized(NamedTuple):
    """What the levels made of a batch, without gradients but those to the codebooks where these are trained.

    Attributes:
      codes: of each level (B,) int32.
      chosen: of each level its codes' vectors, (B, d).
      residuals: what comes to each level, (B, d), and behind them what is left.
    """

    codes: list[tf.Tensor]
    chosen: list[tf.Tensor]
    residuals: list[tf.Tensor]


@register
class ResidualVectorQuantizer(tf.keras.layers.Layer):
    """`c_l = argmin_k |r_l - C_lk|^2`, `r_{l+1} = r_l - C_l[c_l]`, `r_1 = e`: codes of e, and `q = sum_l C_l[c_l]`.

    In training every call also moves the codebooks, by moving averages over the rows r_b of each code (n_k of them):

        N_k <- decay N_k + (1 - decay) n_k             m_k <- decay m_k + (1 - decay) sum_b r_b
        C_k <- m_k / (n (N_k + epsilon) / (n + K epsilon)),  n = sum_k N_k

    after the batch was quantised. The start, in the training call `start_step`, sets N to the batch's n_k and m to
    n_k C_k; it is never made again, as `step` is saved with the weights. A code without a row at the start becomes the
    zero vector, as its m is 0. Inference changes nothing. Under a strategy all sums run over the global batch, so that
    replicas with parts of a batch do what one device does with all of it, and have the same codebooks. Statistics are
    float32 or wider.

    Args:
      num_levels: L.
      codebook_size: K.
      decay: of the averages, in [0, 1). Our choice: 0.99.
      epsilon: of the Laplace smoothing. Our choice: 1e-5.
      expire_below: a code expires, after the codebooks moved, when its N_k is below this share of the mean of N: it
        becomes a row r_b of the batch that `seed` and `step` draw, with N_k at that bound and m_k = N_k C_k. Never in
        the first 1 / (1 - decay) steps from the start on. 0 = never at all. Our choice: 0.05.
      init: `kmeans`: each level's k-means of the starting batch's r_b, in which the codes beyond the number of
        different rows get none; or a Keras initializer of (L, K, d). Our choice: `kmeans`.
      kmeans_steps: Lloyd's steps of that start. Our choice: 10.
      start_step: training calls before the start, in which all statistics stay as they are built: of use where the
        first steps move what comes in much, as G-FTRL's do, which takes rows without a gradient to 0. Our choice: 0.
      search: `fast` or `exact`; see `nearest_codes`.
      codebook_update: `ema`, as above, the paper's; or `gradient`, VQ-VAE's: the codebooks are trained, by the added
        loss `sum_l mean |sg(r_l) - C_l[c_l]|^2`, means over rows and columns. Start and expiry are the same.
      commitment_weight: of the added loss `sum_l mean |r_l - sg(C_l[c_l])|^2`, which draws e to its codes. Paper: 0, as
        it would hold users where they are. VQ-VAE: 0.25.
      seed: of the rows that codes start from and expire to. Our choice: 0.

    Weights:
      codebooks: (L, K, d), trained with codebook_update `gradient` only; cluster_counts: N, (L, K); cluster_sums: m,
        (L, K, d); step: training calls so far.

    Attributes:
      first_expiry: the first step, counted from 1, that may expire codes.

    Metrics:
      of each level l from 1 on, in training: perplexity_l, mean over the steps of the global batch's; dead_codes_l,
      share of the codes without a row since the metrics' reset; expired_codes_l, mean share that expires in a step.

    Call arguments:
      inputs: e, (B, d), d static.
      training: whether the codebooks move and losses are added.

    Returns:
      A dict: `quantized` (B, d), q with the gradient of e (straight-through); `codes` (B, L) int32; `residuals`
      (B, L + 1, d), r_1 to r_{L+1}, without gradients; `perplexity` (L,) of the codes, in training of the global batch.

    Raises:
      ValueError: an argument is out of range, or inputs are not (B, d).
      tf.errors.InvalidArgumentError: inputs are not finite; the codebooks are as before. XLA has no assertions: there
        the codebooks are as before, too, and `quantized` is NaN.

    Example:
      >>> layer = ResidualVectorQuantizer(num_levels=2, codebook_size=2)
      >>> found = layer(tf.constant([[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]]), training=True)
      >>> found["quantized"].numpy().tolist()
      [[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]]

    Source: GroupCE (arXiv 2506.12756) for the use; moving averages of van den Oord et al. (arXiv 1711.00937), appendix
    A.1, levels and expiry of SoundStream (arXiv 2107.03312).
    """

    def __init__(
        self,
        num_levels: int,
        codebook_size: int,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        expire_below: float = 0.05,
        init: Any = KMEANS,
        kmeans_steps: int = 10,
        start_step: int = 0,
        search: str = "fast",
        codebook_update: str = "ema",
        commitment_weight: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**full_precision(kwargs))
        owner = type(self).__name__
        least = {
            "num_levels": (num_levels, 1),
            "codebook_size": (codebook_size, 1),
            "kmeans_steps": (kmeans_steps, 0),
            "start_step": (start_step, 0),
        }
        for argument, (value, lowest) in least.items():
            if value < lowest:
                raise ValueError(f"{owner}: {argument} must be >= {lowest}, got {value}")
        if not 0 <= decay < 1:
            raise ValueError(f"{owner}: decay must be in [0, 1), got {decay}")
        if not 0 < epsilon < math.inf:
            raise ValueError(f"{owner}: epsilon must be positive and finite, got {epsilon}")
        if not 0 <= expire_below < 1:
            raise ValueError(f"{owner}: expire_below must be a share of the mean count in [0, 1), got {expire_below}")
        if not 0 <= commitment_weight < math.inf:
            raise ValueError(f"{owner}: commitment_weight must be >= 0 and finite, got {commitment_weight}")
        for argument, choice, choices in (
            ("search", search, SEARCHES),
            ("codebook_update", codebook_update, UPDATES),
        ):
            if choice not in choices:
                raise ValueError(f"{owner}: {argument} must be one of {choices}, got {choice!r}")
        self.num_levels = num_levels
        self.codebook_size = codebook_size
        self.decay = decay
        self.epsilon = epsilon
        self.expire_below = expire_below
        self.init = init if init == KMEANS else tf.keras.initializers.get(init)
        self.kmeans_steps = kmeans_steps
        self.start_step = start_step
        self.search = search
        self.codebook_update = codebook_update
        self.commitment_weight = commitment_weight
        self.seed = seed
        # Steps are counted from 1; a quotient a rounding above a whole number is that number.
        self.first_expiry = start_step + math.floor(1 / (1 - decay) + 1e-6)
        self._code_metrics = CodeMetrics(num_levels, codebook_size)
        self._reported = self._code_metrics.all  # Keras finds metrics in lists

    def build(self, input_shape: Any) -> None:
        shape = tf.TensorShape(input_shape)
        if shape.rank != 2 or shape[1] is None:
            raise ValueError(f"{self.name}: inputs must be (batch, d), d static; got {shape}")
        codes = (self.num_levels, self.codebook_size)
        # The sums are the same on all replicas, so each may take the first one's result.
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.codebooks = self.add_weight(
            name="codebooks",
            shape=(*codes, shape[1]),
            initializer="zeros" if self.init == KMEANS else self.init,
            **{**options, "trainable": self.codebook_update == "gradient"},
        )
        self.cluster_counts = self.add_weight(name="cluster_counts", shape=codes, initializer="zeros", **options)
        self.cluster_sums = self.add_weight(
            name="cluster_sums", shape=(*codes, shape[1]), initializer="zeros", **options
        )
        self.step = self.add_weight(name="step", shape=(), dtype=tf.int64, initializer="zeros", **options)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> dict[str, tf.Tensor]:
        x = self._checked(tf.stop_gradient(inputs))
        codebooks = tf.convert_to_tensor(self.codebooks)
        if training and self.init == KMEANS:
            codebooks = self._started(codebooks, x)
        found = self._quantize(x, codebooks)
        counts = tf.stack([code_counts(codes, self.codebook_size, x.dtype) for codes in found.codes])
        if training:
            counts = self._move(tf.stop_gradient(codebooks), found)
            self._add_losses(inputs, found)
        quantized = tf.stop_gradient(tf.add_n(found.chosen))
        return {
            "quantized": quantized + (inputs - tf.stop_gradient(inputs)),
            "codes": tf.stack(found.codes, axis=1),
            "residuals": tf.stack(found.residuals, axis=1),
            "perplexity": perplexity(counts),
        }

    def _checked(self, x: tf.Tensor) -> tf.Tensor:
        if in_xla():
            return x
        return tf.debugging.check_numerics(x, f"{self.name}: inputs must be finite")

    def _quantize(self, x: tf.Tensor, codebooks: tf.Tensor) -> Quantized:
        found = Quantized([], [], [x])
        for codebook in tf.unstack(codebooks):
            codes = nearest_codes(found.residuals[-1], tf.stop_gradient(codebook), self.search)
            found.codes.append(codes)
            found.chosen.append(tf.gather(codebook, codes))
            found.residuals.append(found.residuals[-1] - tf.stop_gradient(found.chosen[-1]))
        return found

    # -- training -------------------------------------------------------------------------------------------------

    def _started(self, codebooks: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """The codebooks, of k-means in the training call that starts them."""
        first = tf.equal(self.step, self.start_step)
        points = rows_of_replicas(x, first)
        rows = tf.shape(points)[0]
        starts = tf.logical_and(tf.logical_and(first, rows > 0), tf.reduce_all(tf.math.is_finite(points)))
        places = drawn_places(self.num_levels, self.codebook_size, rows, (self.seed, 0))
        present = tf.stop_gradient(codebooks)
        started = tf.cond(
            starts, lambda: residual_kmeans(points, places, self.kmeans_steps, self.search), lambda: present
        )
        # The gradient of trained codebooks passes by the branches.
        return tf.stop_gradient(started) + (codebooks - present)

    def _move(self, codebooks: tf.Tensor, found: Quantized) -> tf.Tensor:
        """Moves all statistics by a batch; returns the global batch's rows of each code, (L, K)."""
        rows = GlobalRows(tf.shape(found.codes[0])[0])
        sums_of_levels = [
            code_sums(codes, residual, self.codebook_size)
            for codes, residual in zip(found.codes, found.residuals, strict=False)
        ]
        counts, sums = sum_over_replicas([tf.stack(parts) for parts in zip(*sums_of_levels, strict=True)])
        first = tf.equal(self.step, self.start_step)
        before = tf.where(first, counts, self.cluster_counts)
        sums_before = tf.where(first, counts[:, :, tf.newaxis] * codebooks, self.cluster_sums)
        moved_counts = self.decay * before + (1 - self.decay) * counts
        moved_sums = self.decay * sums_before + (1 - self.decay) * sums
        if self.codebook_update == "ema":
            codebooks = smoothed_means(moved_counts, moved_sums, self.epsilon)
        expired = tf.zeros_like(counts, tf.bool)
        if self.expire_below:
            codebooks, moved_counts, moved_sums, expired = self._without_expired(
                codebooks, moved_counts, moved_sums, found.residuals, rows
            )
        moved = (codebooks, moved_counts, moved_sums)
        # Nothing moves by an empty batch, nor, where XLA compiles, by one that is not finite.
        counts_as_step = tf.logical_and(rows.total > 0, tf.reduce_all(tf.math.is_finite(sums)))
        moves = tf.logical_and(counts_as_step, self.step >= self.start_step)
        for variable, value in zip((self.codebooks, self.cluster_counts, self.cluster_sums), moved, strict=True):
            variable.assign(tf.where(moves, value, variable))
        self.step.assign_add(tf.cast(counts_as_step, self.step.dtype))
        if is_recording():
            self._code_metrics.update(counts, expired)
        return counts

    def _without_expired(
        self, codebooks: tf.Tensor, counts: tf.Tensor, sums: tf.Tensor, residuals: list[tf.Tensor], rows: GlobalRows
    ) -> tuple[tf.Tensor, ...]:
        """The same, with rows of the batch in the place of codes that hardly have any; and which those are, (L, K)."""
        bound = tf.broadcast_to(self.expire_below * tf.reduce_mean(counts, axis=1, keepdims=True), tf.shape(counts))
        expired = tf.logical_and(counts < bound, self.step >= self.first_expiry)
        places = drawn_places(self.num_levels, self.codebook_size, rows.total, (self.seed, self.step))
        drawn = tf.stack(rows.at(tf.unstack(places), residuals[: self.num_levels]))
        whole = expired[:, :, tf.newaxis]
        return (
            tf.where(whole, drawn, codebooks),
            tf.where(expired, bound, counts),
            tf.where(whole, bound[:, :, tf.newaxis] * drawn, sums),
            expired,
        )

    def _add_losses(self, inputs: tf.Tensor, found: Quantized) -> None:
        if self.codebook_update == "gradient":
            self.add_loss(self._mean_of_squares([r - c for r, c in zip(found.residuals, found.chosen, strict=False)]))
        if self.commitment_weight:
            with_gradient = inputs - tf.stop_gradient(inputs)
            gaps = [residual + with_gradient for residual in found.residuals[1:]]
            self.add_loss(self.commitment_weight * self._mean_of_squares(gaps))

    def _mean_of_squares(self, levels: list[tf.Tensor]) -> tf.Tensor:
        """The levels' means over the global batch's rows and columns, summed."""
        total = tf.add_n([tf.reduce_sum(tf.square(x)) for x in levels])
        number = tf.cast(tf.size(levels[0]), total.dtype)
        return tf.math.divide_no_nan(*sum_over_replicas([total, number]))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_levels": self.num_levels,
            "codebook_size": self.codebook_size,
            "decay": self.decay,
            "epsilon": self.epsilon,
            "expire_below": self.expire_below,
            "init": self.init if self.init == KMEANS else tf.keras.initializers.serialize(self.init),
            "kmeans_steps": self.kmeans_steps,
            "start_step": self.start_step,
            "search": self.search,
            "codebook_update": self.codebook_update,
            "commitment_weight": self.commitment_weight,
            "seed": self.seed,
        }
