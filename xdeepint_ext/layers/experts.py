"""Experts of AdaEnsemble: layers that are called with [x_l, x_0] and return what is to be added to x_l."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.subspaces import join_subspaces, split_subspaces
from xdeepint_ext.utils.initializers import fresh
from xdeepint_ext.utils.registry import register


class Expert(tf.keras.layers.Layer, abc.ABC):
    """Base of the experts.

    Args:
      kernel_initializer: of the kernels. Authors: Glorot uniform.

    Call arguments:
      inputs: [x_l, x_0], of one shape (B, n) or (B, F, K), static behind B.

    Returns:
      The shape of x_l.

    Raises:
      ValueError: the shapes differ or are not static.
    """

    takes_fields = False
    """Whether the expert knows fields, and so wants (B, F, K)."""

    def __init__(self, kernel_initializer: Any = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)

    @abc.abstractmethod
    def build_weights(self, shape: tuple[int, ...]) -> None:
        """Makes the weights for x_l of the shape (n,) or (F, K)."""

    @abc.abstractmethod
    def interact(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        """x_l and x_0 -> as many numbers an example as x_l has. Flat (B, n) both, unless `takes_fields`."""

    def build(self, input_shape: Any) -> None:
        own, start = (tf.TensorShape(shape) for shape in input_shape)
        name, wanted = type(self).__name__, (3,) if self.takes_fields else (2, 3)
        static = own.rank in wanted and own[1:].is_fully_defined()
        if not static or own.rank != start.rank or own[1:] != start[1:]:
            shapes = "(batch, fields, width)" if self.takes_fields else "(batch, n) or (batch, fields, width)"
            raise ValueError(f"{name}: inputs must be [x_l, x_0], both {shapes}, static; got {own} and {start}")
        self.build_weights(tuple(own[1:]))
        super().build(input_shape)

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        x, start = inputs
        shape = x.shape[1:]
        if not self.takes_fields:
            x, start = (tf.reshape(t, (-1, shape.num_elements())) for t in (x, start))
        return tf.reshape(self.interact(x, start), (-1, *shape))

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
        }

    def dense(self, name: str, inputs: int, units: int, activation: Any = None) -> tf.keras.layers.Dense:
        """A built dense layer."""
        layer = tf.keras.layers.Dense(
            units,
            activation,
            kernel_initializer=fresh(self.kernel_initializer),
            name=name,
            dtype=self._dtype_policy,
        )
        with tf.name_scope(name):
            layer.build((None, inputs))
        return layer


@register
class GatedDenseExpert(Expert):
    """`a(W x_l + b) * 2 sigmoid(D_2 relu(D_1 x_0 + b_1) + b_2)`: a dense layer behind a gate near 1 that x_0 sets.

    Args:
      reduction_ratio: D_1 has max(1, n // reduction_ratio) units. Authors: 16.
      activation: a. Authors: relu.
      kernel_initializer: of the kernels. Authors: Glorot uniform.

    Weights:
      transform, reduce, gate: three dense layers: W and b, D_1 and b_1, D_2 and b_2.

    Call arguments:
      inputs: [x_l, x_0], both (B, n), or (B, F, K) with n = F K.

    Returns:
      The shape of x_l.

    Raises:
      ValueError: reduction_ratio < 1, or the shapes differ or are not static.

    Example:
      >>> GatedDenseExpert()([tf.ones((8, 160)), tf.ones((8, 160))]).shape
      TensorShape([8, 160])

    Source: Yan and Li, AdaEnsemble (arXiv 2301.08353), the authors' code.
    """

    def __init__(self, reduction_ratio: int = 16, activation: Any = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reduction_ratio < 1:
            raise ValueError(f"GatedDenseExpert: reduction_ratio must be >= 1, got {reduction_ratio}")
        self.reduction_ratio = reduction_ratio
        self.activation = tf.keras.activations.get(activation)

    def build_weights(self, shape: tuple[int, ...]) -> None:
        size = tf.TensorShape(shape).num_elements()
        hidden = max(1, size // self.reduction_ratio)
        self.transform = self.dense("transform", size, size, self.activation)
        self.reduce = self.dense("reduce", size, hidden, "relu")
        self.gate = self.dense("gate", hidden, size)

    def interact(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        return self.transform(x) * (2 * tf.sigmoid(self.gate(self.reduce(start))))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "activation": tf.keras.activations.serialize(self.activation),
        }


@register
class CrossExpert(Expert):
    """`x_0 * (W x_l + b)`, DCN-V2's cross layer without its residual; with diag_scale s, `x_0 * (W x_l + b + s x_l)`.

    Args:
      diag_scale: s >= 0. Authors: 0.
      kernel_initializer: of W. Authors: Glorot uniform.

    Weights:
      transform: a dense layer, W and b.

    Call arguments:
      inputs: [x_l, x_0], both (B, n), or (B, F, K) with n = F K.

    Returns:
      The shape of x_l.

    Raises:
      ValueError: diag_scale < 0, or the shapes differ or are not static.

    Example:
      >>> CrossExpert()([tf.ones((8, 160)), tf.ones((8, 160))]).shape
      TensorShape([8, 160])

    Source: Wang et al., DCN V2 (arXiv 2008.13535), equation 1; as an expert: AdaEnsemble's authors' code.
    """

    def __init__(self, diag_scale: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not diag_scale >= 0:
            raise ValueError(f"CrossExpert: diag_scale must be >= 0, got {diag_scale}")
        self.diag_scale = diag_scale

    def build_weights(self, shape: tuple[int, ...]) -> None:
        size = tf.TensorShape(shape).num_elements()
        self.transform = self.dense("transform", size, size)

    def interact(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        mapped = self.transform(x)
        return start * (mapped + self.diag_scale * x if self.diag_scale else mapped)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "diag_scale": self.diag_scale}


@register
class PINExpert(Expert):
    """`x_l * (W x_0)`, xDeepInt's interaction layer without its residual, bit-wise or on sub-spaces.

    Args:
      num_subspaces: h, must divide K; then W is (F h, F h). None: bit-wise, W is (n, n), as if h were K. Authors: None.
      kernel_initializer: of W. Authors: Glorot uniform.

    Weights:
      kernel: (m, m), `W[i, j]` multiplies row j; rows are sub-space-major as in `PIN`, or with None the flat input's.

    Call arguments:
      inputs: [x_l, x_0], both (B, F, K); with num_subspaces None also (B, n).

    Returns:
      The shape of x_l.

    Raises:
      ValueError: h does not divide K, or the shapes differ or are not static.

    Example:
      >>> PINExpert()([tf.ones((8, 160)), tf.ones((8, 160))]).shape
      TensorShape([8, 160])

    Source: xDeepInt (arXiv 2301.01089), equation 3; as an expert: AdaEnsemble's authors' code.
    """

    def __init__(self, num_subspaces: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_subspaces is not None and num_subspaces < 1:
            raise ValueError(f"PINExpert: num_subspaces must be >= 1, got {num_subspaces}")
        self.num_subspaces = num_subspaces
        self.takes_fields = num_subspaces is not None

    def build_weights(self, shape: tuple[int, ...]) -> None:
        if self.num_subspaces is None:
            rows = tf.TensorShape(shape).num_elements()
        elif shape[1] % self.num_subspaces:
            raise ValueError(f"PINExpert: num_subspaces must divide the width {shape[1]}, got {self.num_subspaces}")
        else:
            rows = shape[0] * self.num_subspaces
        self.kernel = self.add_weight(name="kernel", shape=(rows, rows), initializer=self.kernel_initializer)

    def interact(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        if self.num_subspaces is None:
            return x * tf.matmul(start, self.kernel, transpose_b=True)
        rows = split_subspaces(start, self.num_subspaces)
        flat = tf.reshape(rows, (-1, rows.shape[2]))
        mapped = tf.reshape(tf.matmul(flat, self.kernel, transpose_b=True), (-1, *rows.shape[1:]))
        return x * join_subspaces(mapped, self.num_subspaces)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_subspaces": self.num_subspaces}
