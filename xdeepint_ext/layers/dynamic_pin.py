"""Polynomial interaction layers whose parameters depend on the instance: the interaction layers of DynInt."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.subspaces import check_field_matrix, join_subspaces, split_subspaces
from xdeepint_ext.utils.blocks import by_blocks
from xdeepint_ext.utils.initializers import fresh
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag

REDUCTIONS = ("mean", "sum")
SIGMAS = ("linear", "two_sigmoid")
OFFSETS = ("inverse_root", "paper")


class Generator(tf.keras.layers.Layer):
    """A dense network of two layers, relu between them.

    Args:
      hidden: units of the first.
      outputs: units of the second, which is linear.
      initializer: of the second's kernel.
    """

    def __init__(self, hidden: int, outputs: int, initializer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self._dtype_policy}
        self.hidden = tf.keras.layers.Dense(hidden, "relu", name="hidden", **policy)
        self.output_layer = tf.keras.layers.Dense(
            outputs, kernel_initializer=fresh(initializer), name="output", **policy
        )

    def build(self, input_shape: Any) -> None:
        for layer, size in ((self.hidden, input_shape[-1]), (self.output_layer, self.hidden.units)):
            with tf.name_scope(layer.name):
                layer.build((None, size))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.output_layer(self.hidden(inputs))


class DynamicPIN(tf.keras.layers.Layer, abc.ABC):
    """Base of the dynamic interaction layers: sub-spaces, a generator for each layer, and an orthogonality penalty.

    A generator is a dense network of two layers, `N = F K` inputs, `max(1, N // reduction_ratio)` hidden units with
    relu, on `stop_gradient(X_0)`: no gradient reaches the embeddings through it.

    Args:
      num_layers: L >= 0; 0 returns the input.
      num_subspaces: h, must divide K.
      reduction_ratio: of the generators. Paper: 2 .. 16; default 16.
      shared_generator: one generator for all layers; False = one each, our reading.
      orthogonal_rate: of the penalty that is added to the loss in training. Paper: 0 .. 0.8; default 0.
      orthogonal_reduction: `mean` over pairs (and examples), summed over layers, our reading; or `sum`, as printed.
      generator_group: optimizer group of the generators. Default `default`: FTRL pulls a network of two layers to zero;
        the paper's is `interaction`.
      kernel_initializer: of the static weights. Authors of xDeepInt: Glorot uniform.
      generator_initializer: of the generators' last kernels; `zeros` starts at the static model.
    """

    def __init__(
        self,
        num_layers: int,
        num_subspaces: int = 1,
        reduction_ratio: int = 16,
        shared_generator: bool = False,
        orthogonal_rate: float = 0.0,
        orthogonal_reduction: str = "mean",
        generator_group: str = "default",
        kernel_initializer: Any = "glorot_uniform",
        generator_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        if num_layers < 0:
            raise ValueError(f"{owner}: num_layers must be >= 0, got {num_layers}")
        for argument, value in {"num_subspaces": num_subspaces, "reduction_ratio": reduction_ratio}.items():
            if value < 1:
                raise ValueError(f"{owner}: {argument} must be >= 1, got {value}")
        if not orthogonal_rate >= 0:
            raise ValueError(f"{owner}: orthogonal_rate must be >= 0, got {orthogonal_rate}")
        if orthogonal_reduction not in REDUCTIONS:
            raise ValueError(f"{owner}: orthogonal_reduction must be one of {REDUCTIONS}, got {orthogonal_reduction!r}")
        self.num_layers = num_layers
        self.num_subspaces = num_subspaces
        self.reduction_ratio = reduction_ratio
        self.shared_generator = shared_generator
        self.orthogonal_rate = orthogonal_rate
        self.orthogonal_reduction = orthogonal_reduction
        self.generator_group = generator_group
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.generator_initializer = tf.keras.initializers.get(generator_initializer)

    @abc.abstractmethod
    def num_outputs(self, rows: int) -> int:
        """Numbers that a generator makes for an example, of m rows."""

    @abc.abstractmethod
    def build_static(self, rows: int) -> None:
        """Makes the weights that are the same for all examples."""

    @abc.abstractmethod
    def step(self, layer: int, x: tf.Tensor, rows: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
        """`X_l` from `X_{l-1}` and `X_0`, (s, B, m), and what the generator made, (B, num_outputs)."""

    def penalty(self, layer: int, generated: tf.Tensor) -> tf.Tensor | None:
        """How far a layer's factors are from orthogonal, or None where it has none."""
        return None

    def build(self, input_shape: Any) -> None:
        fields, width = check_field_matrix(input_shape, self.num_subspaces, type(self).__name__)
        rows, size = fields * self.num_subspaces, fields * width
        self.build_static(rows)
        self.generators = []
        for index in range(min(self.num_layers, 1) if self.shared_generator else self.num_layers):
            generator = Generator(
                max(1, size // self.reduction_ratio),
                self.num_outputs(rows),
                self.generator_initializer,
                dtype=self._dtype_policy,
                name=f"generator_{index}",
            )
            with tf.name_scope(generator.name):
                generator.build((None, size))
            for weight in generator.weights:
                tag(weight, self.generator_group)
            self.generators.append(generator)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training:
            return self._interact(inputs, self._generate(inputs))
        if not self.orthogonal_rate:
            # The backward pass doubles what goes through the memory. What is generated never exists as a whole.
            return by_blocks(lambda block: self._interact(block, self._generate(block)), inputs)
        generated = self._generate(inputs)
        for layer, numbers in enumerate(generated):
            penalty = self.penalty(layer, numbers)
            if penalty is not None:
                self.add_loss(self.orthogonal_rate * penalty)
        return by_blocks(lambda block, *numbers: self._interact(block, numbers), inputs, *generated)

    def _generate(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        """What the generators make of each example, (B, num_outputs) for each layer."""
        blocked = tf.stop_gradient(tf.reshape(inputs, (-1, inputs.shape[1] * inputs.shape[2])))
        generators = self.generators * self.num_layers if self.shared_generator else self.generators
        return [generator(blocked) for generator in generators]

    def _interact(self, inputs: tf.Tensor, generated: Sequence[tf.Tensor]) -> tf.Tensor:
        x = rows = split_subspaces(inputs, self.num_subspaces, columns_first=True)
        for layer, numbers in enumerate(generated):
            x = self.step(layer, x, rows, numbers)
        return join_subspaces(x, self.num_subspaces, columns_first=True)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "num_subspaces": self.num_subspaces,
            "reduction_ratio": self.reduction_ratio,
            "shared_generator": self.shared_generator,
            "orthogonal_rate": self.orthogonal_rate,
            "orthogonal_reduction": self.orthogonal_reduction,
            "generator_group": self.generator_group,
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
            "generator_initializer": tf.keras.initializers.serialize(self.generator_initializer),
        }

    def add_kernels(self, name: str, shape: tuple[int, int]) -> list[tf.Variable]:
        """A static weight of each layer, in the optimizer group `interaction`."""
        return [
            tag(
                self.add_weight(name=f"{name}_{layer}", shape=shape, initializer=fresh(self.kernel_initializer)),
                "interaction",
            )
            for layer in range(self.num_layers)
        ]

    def overlap(self, vectors: tf.Tensor) -> tf.Tensor:
        """`sum_{p > q} |cos(v_p, v_q)|` of (..., R, m), reduced over pairs and leading axes."""
        vectors = tf.cast(vectors, self.variable_dtype)
        unit = tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-12)
        count = unit.shape[-2]
        below = tf.constant([[float(q < p) for q in range(count)] for p in range(count)], unit.dtype)
        total = tf.reduce_sum(below * tf.abs(tf.matmul(unit, unit, transpose_b=True)))
        if self.orthogonal_reduction == "sum":
            return total
        examples = tf.cast(tf.size(vectors) // (count * vectors.shape[-1]), total.dtype)
        return tf.math.divide_no_nan(total, examples * (count * (count - 1) / 2))


@register
class DynamicActivationPIN(DynamicPIN):
    """`X_l = X_{l-1} * (W_{l-1} X_0) * g + X_{l-1}`, with a gate g for each row that the instance sets.

    `g = 2 sigmoid(generator(stop_gradient(X_0)))`, (m,), near 1 at the start.

    Args:
      num_layers, num_subspaces, reduction_ratio, shared_generator: see `DynamicPIN`.
      gate_residual: whether the gate covers the residual, too; False, equation 4.
      orthogonal_rate, orthogonal_reduction: without effect, as there are no factors.
      generator_group, kernel_initializer, generator_initializer: see `DynamicPIN`.

    Weights:
      kernels: list of L variables (m, m); see `PIN`.
      generators: list of L networks.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, F, K).

    Raises:
      ValueError: an argument is out of range, or h does not divide K.

    Example:
      >>> DynamicActivationPIN(num_layers=2, num_subspaces=4)(tf.ones((8, 10, 16))).shape
      TensorShape([8, 10, 16])

    Source: DynInt (arXiv 2301.08139) §3.2, equation 4; one gate a row is our reading.
    """

    def __init__(self, num_layers: int, num_subspaces: int = 1, gate_residual: bool = False, **kwargs: Any) -> None:
        super().__init__(num_layers, num_subspaces, **kwargs)
        self.gate_residual = gate_residual

    def num_outputs(self, rows: int) -> int:
        return rows

    def build_static(self, rows: int) -> None:
        self.kernels = self.add_kernels("kernel", (rows, rows))

    def step(self, layer: int, x: tf.Tensor, rows: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
        gate = 2 * tf.sigmoid(generated)
        mapped = _product(rows, self.kernels[layer])
        return x * (1 + mapped) * gate if self.gate_residual else x * (1 + mapped * gate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gate_residual": self.gate_residual}


@register
class DynamicGeneratedPIN(DynamicPIN):
    """`X_l = X_{l-1} * (U diag(sigma) V^T X_0) + X_{l-1}`, with sigma (R,) generated for each instance.

    Args:
      num_layers, num_subspaces: see `DynamicPIN`.
      rank: R, 1 .. m. Paper: 16 .. 128; its sweep's best, 64, is the default.
      sigma: `linear`, with a bias that starts at 1, our reading; or `two_sigmoid`, in (0, 2).
      reduction_ratio, shared_generator: see `DynamicPIN`.
      orthogonal_rate, orthogonal_reduction: of the penalty on the columns of U and of V.
      generator_group, kernel_initializer, generator_initializer: see `DynamicPIN`.

    Weights:
      left, right: lists of L variables (m, R): U and V.
      generators: list of L networks.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, F, K).

    Raises:
      ValueError: an argument is out of range, h does not divide K, or rank is above m.

    Example:
      >>> DynamicGeneratedPIN(num_layers=2, num_subspaces=4, rank=8)(tf.ones((8, 10, 16))).shape
      TensorShape([8, 10, 16])

    Source: DynInt (arXiv 2301.08139) §3.3, equations 5, 7, 8 and 11.
    """

    def __init__(
        self, num_layers: int, num_subspaces: int = 1, rank: int = 64, sigma: str = "linear", **kwargs: Any
    ) -> None:
        super().__init__(num_layers, num_subspaces, **kwargs)
        if rank < 1:
            raise ValueError(f"DynamicGeneratedPIN: rank must be >= 1, got {rank}")
        if sigma not in SIGMAS:
            raise ValueError(f"DynamicGeneratedPIN: sigma must be one of {SIGMAS}, got {sigma!r}")
        self.rank = rank
        self.sigma = sigma

    def num_outputs(self, rows: int) -> int:
        return self.rank

    def build_static(self, rows: int) -> None:
        if self.rank > rows:
            raise ValueError(f"DynamicGeneratedPIN: rank must be at most the number of rows {rows}, got {self.rank}")
        self.left = self.add_kernels("left", (rows, self.rank))
        self.right = self.add_kernels("right", (rows, self.rank))

    def step(self, layer: int, x: tf.Tensor, rows: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
        sigma = 2 * tf.sigmoid(generated) if self.sigma == "two_sigmoid" else 1 + generated
        inner = _product(rows, self.right[layer], transpose=False) * sigma
        return x * (1 + _product(inner, self.left[layer]))

    def penalty(self, layer: int, generated: tf.Tensor) -> tf.Tensor | None:
        if self.rank == 1:
            return None
        return self.overlap(tf.transpose(self.left[layer])) + self.overlap(tf.transpose(self.right[layer]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank, "sigma": self.sigma}


@register
class DynamicWeightedPIN(DynamicPIN):
    """`X_l = X_{l-1} * ((G * W) X_0) + X_{l-1}`, with `G = sum_p u_p v_p^T` of R generated pairs of vectors.

    Computed as `sum_p u_p * (W (v_p * X_0))`, so that no instance has a matrix of its own.

    Args:
      num_layers, num_subspaces: see `DynamicPIN`.
      rank: R, 1 .. m. Paper: 1 .. 4; its sweep's best, 2, is the default.
      offset: what is added to the generated vectors: `inverse_root`, 1 / sqrt(R), with which the entries of G start
        near 1 as the paper wants; or `paper`, 1 / R, as it prints, with which they start near 1 / R.
      reduction_ratio, shared_generator: see `DynamicPIN`.
      orthogonal_rate, orthogonal_reduction: of the penalty on the u_p and on the v_p of each instance.
      generator_group, kernel_initializer, generator_initializer: see `DynamicPIN`.

    Weights:
      kernels: list of L variables (m, m); see `PIN`.
      generators: list of L networks.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, F, K).

    Raises:
      ValueError: an argument is out of range, h does not divide K, or rank is above m.

    Example:
      >>> DynamicWeightedPIN(num_layers=2, num_subspaces=4, rank=2)(tf.ones((8, 10, 16))).shape
      TensorShape([8, 10, 16])

    Source: DynInt (arXiv 2301.08139) §3.4, equations 6, 9, 10 and 12.
    """

    def __init__(
        self, num_layers: int, num_subspaces: int = 1, rank: int = 2, offset: str = "inverse_root", **kwargs: Any
    ) -> None:
        super().__init__(num_layers, num_subspaces, **kwargs)
        if rank < 1:
            raise ValueError(f"DynamicWeightedPIN: rank must be >= 1, got {rank}")
        if offset not in OFFSETS:
            raise ValueError(f"DynamicWeightedPIN: offset must be one of {OFFSETS}, got {offset!r}")
        self.rank = rank
        self.offset = offset

    def num_outputs(self, rows: int) -> int:
        return 2 * self.rank * rows

    def build_static(self, rows: int) -> None:
        if self.rank > rows:
            raise ValueError(f"DynamicWeightedPIN: rank must be at most the number of rows {rows}, got {self.rank}")
        self.kernels = self.add_kernels("kernel", (rows, rows))

    def step(self, layer: int, x: tf.Tensor, rows: tf.Tensor, generated: tf.Tensor) -> tf.Tensor:
        vectors = self._vectors(generated)
        mapped = [
            left * _product(rows * right, self.kernels[layer])
            for left, right in zip(vectors[: self.rank], vectors[self.rank :], strict=True)
        ]
        return x * (1 + tf.add_n(mapped))

    def penalty(self, layer: int, generated: tf.Tensor) -> tf.Tensor | None:
        if self.rank == 1:
            return None
        vectors = tf.stack(self._vectors(generated), axis=1)
        return self.overlap(vectors[:, : self.rank]) + self.overlap(vectors[:, self.rank :])

    def _vectors(self, generated: tf.Tensor) -> list[tf.Tensor]:
        """The u_p, then the v_p, (B, m) each."""
        start = self.rank ** (-0.5 if self.offset == "inverse_root" else -1.0)
        return tf.split(generated + start, 2 * self.rank, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank, "offset": self.offset}


def _product(rows: tf.Tensor, kernel: Any, transpose: bool = True) -> tf.Tensor:
    """(s, B, m) times a kernel along the last axis, as one plain matrix product; see `PIN`."""
    columns, _, size = rows.shape
    flat = tf.matmul(tf.reshape(rows, (-1, size)), kernel, transpose_b=transpose)
    return tf.reshape(flat, (columns, -1, flat.shape[-1]))
