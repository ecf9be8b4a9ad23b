"""RoBERTa's encoder, assembled from `tf.keras` layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.registry import register

STARTS = ("normal", "mimetic")

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"num_layers": 2, "num_heads": 2, "width": 32, "hidden_width": 64, "start": "mimetic"},
    "small": {"num_layers": 3, "num_heads": 4, "width": 64, "hidden_width": 256, "start": "mimetic"},
    "base": {"num_layers": 12, "num_heads": 12, "width": 768, "hidden_width": 3072},
    "large": {"num_layers": 24, "num_heads": 16, "width": 1024, "hidden_width": 4096},
}
"""`base` and `large` are RoBERTa's; `tiny` is for tests and `small` for training from scratch, our choice."""


@register
class RobertaEncoder(tf.keras.layers.Layer):
    """RoBERTa: a Transformer encoder with learned positions and normalisation behind each residual sum.

        E = dropout(norm(word[ids] + position[places] + type[0]))
        A = norm(X + dropout(attention(X)));   X <- norm(A + dropout(W2 gelu(W1 A)))        num_layers times

    Positions count from `pad_id + 1` over the tokens that are no padding, and padding has position `pad_id`, as in
    RoBERTa; so a table of 514 rows serves 512 tokens. Padding is never attended to.

    Args:
      vocab_size: rows of the word table; RoBERTa's 50265.
      num_layers: default RoBERTa base's, as all below.
      num_heads: of the attention; divides `width`.
      width: of a token's vector.
      hidden_width: of the feed-forward part.
      max_positions: rows of the position table; RoBERTa's 514.
      dropout: of embeddings, attention's weights and both sub-layers' outputs; RoBERTa's 0.1.
      pad_id: id of the padding token; RoBERTa's 1.
      epsilon: of the normalisations; RoBERTa's 1e-5.
      start: how the weights start. `normal`: truncated normals, RoBERTa's. `mimetic`: for training from scratch on
        little data: words fill the first half of a vector and sinusoids of the position the last, and queries and keys
        are the identity, so that half the heads first attend to the same word elsewhere, and half to neighbours.
        After Trockman and Kolter, Mimetic Initialization of Self-Attention Layers (arXiv 2305.09828); the halves are
        our choice.
      deviation: of the initial weights, before normals are cut at twice that; None = 0.02, RoBERTa's, for `normal`, and
        `1 / sqrt(width)` for `mimetic`.

    Call arguments:
      inputs: (B, n) integers, token ids; n <= max_positions - pad_id - 1.
      training: whether dropout is on.

    Returns:
      (B, n, width), in the compute dtype; what stands at padding is of no use.

    Raises:
      ValueError: num_heads does not divide width, an unknown start, or n is too large.
      tf.errors.InvalidArgumentError: n is too large, and unknown until the graph runs.

    Example:
      >>> encoder = RobertaEncoder.of_size("tiny", vocab_size=10)
      >>> encoder(tf.constant([[0, 5, 2, 1]])).shape
      TensorShape([1, 4, 32])

    Source: Liu et al., RoBERTa (arXiv 1907.11692); Devlin et al., BERT (arXiv 1810.04805).
    """

    def __init__(
        self,
        vocab_size: int = 50265,
        num_layers: int = 12,
        num_heads: int = 12,
        width: int = 768,
        hidden_width: int = 3072,
        max_positions: int = 514,
        dropout: float = 0.1,
        pad_id: int = 1,
        epsilon: float = 1e-5,
        start: str = "normal",
        deviation: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if start not in STARTS:
            raise ValueError(f"start must be one of {STARTS}, got {start!r}")
        if width % num_heads:
            raise ValueError(f"num_heads must divide width, got num_heads={num_heads}, width={width}")
        self.vocab_size = vocab_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.width = width
        self.hidden_width = hidden_width
        self.max_positions = max_positions
        self.dropout = dropout
        self.pad_id = pad_id
        self.epsilon = epsilon
        self.start = start
        self.deviation = deviation

    @classmethod
    def of_size(cls, size: str, **options: Any) -> RobertaEncoder:
        """An encoder of a size in `SIZES`: tiny, small, base, large.

        Raises:
          ValueError: there is no such size.
        """
        if size not in SIZES:
            raise ValueError(f"size must be one of {tuple(SIZES)}, got {size!r}")
        return cls(**{**SIZES[size], **options})

    @property
    def longest(self) -> int:
        """Tokens of an input at most."""
        return self.max_positions - self.pad_id - 1

    def build(self, input_shape: Any) -> None:
        mimetic = self.start == "mimetic"
        deviation = self.deviation
        if deviation is None:
            deviation = self.width**-0.5 if mimetic else 0.02
        # An instance each: one that is used twice gives the same values twice.
        words, positions, types = (tf.keras.initializers.TruncatedNormal(stddev=deviation) for _ in range(3))
        self.words = self._table(self.vocab_size, "words", _FirstHalf(words) if mimetic else words)
        self.positions = self._table(self.max_positions, "positions", _LastHalf(deviation) if mimetic else positions)
        self.types = self._table(1, "types", "zeros" if mimetic else types)
        self.norm = tf.keras.layers.LayerNormalization(epsilon=self.epsilon, name="norm", dtype=self.dtype_policy)
        self.drop = tf.keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        self.blocks = [
            _Block(
                self.num_heads,
                self.width,
                self.hidden_width,
                self.dropout,
                self.epsilon,
                deviation,
                mimetic,
                name=f"block_{number}",
                dtype=self.dtype_policy,
            )
            for number in range(self.num_layers)
        ]
        # All weights are made here, so that a checkpoint can be loaded before the first call.
        for table in (self.words, self.positions, self.types):
            table.build((None, None))
        vectors = (None, None, self.width)
        self.norm.build(vectors)
        for block in self.blocks:
            block.build(vectors)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        inputs = self._checked(inputs)
        there = tf.cast(tf.not_equal(inputs, self.pad_id), tf.int32)
        places = tf.cumsum(there, axis=1) * there + self.pad_id
        x = self.words(inputs) + self.positions(places) + self.types(tf.zeros_like(inputs))
        x = self.drop(self.norm(x), training=training)
        for block in self.blocks:
            x = block(x, there=there, training=training)
        return x

    def _checked(self, inputs: tf.Tensor) -> tf.Tensor:
        """The ids, if they are not too many: on a GPU, positions beyond the table would be zeros without a word."""
        n, most = inputs.shape[1], f"inputs must be (B, n) with n <= {self.longest}"
        if n is not None:
            if n > self.longest:
                raise ValueError(f"{most}, got n={n}: cut texts into windows")
            return inputs
        few = tf.debugging.assert_less_equal(tf.shape(inputs)[1], self.longest, f"{most}: cut texts into windows")
        with tf.control_dependencies([few]):
            return tf.identity(inputs)

    def _table(self, rows: int, name: str, initial: Any) -> tf.keras.layers.Embedding:
        return tf.keras.layers.Embedding(rows, self.width, initial, name=name, dtype=self.dtype_policy)

    def get_config(self) -> dict[str, Any]:
        names = (
            "vocab_size",
            "num_layers",
            "num_heads",
            "width",
            "hidden_width",
            "max_positions",
            "dropout",
            "pad_id",
            "epsilon",
            "start",
            "deviation",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class _FirstHalf(tf.keras.initializers.Initializer):
    """Another initializer's values in the first half of the columns, 0 in the others."""

    def __init__(self, initial: tf.keras.initializers.Initializer) -> None:
        self._initial = initial

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        first = tf.range(shape[1]) < shape[1] // 2
        return self._initial(shape, dtype) * tf.cast(first, dtype)


class _LastHalf(tf.keras.initializers.Initializer):
    """Sinusoids of a deviation, with wave lengths from 2π to 2π rows, in the last half of the columns.

    As of Vaswani et al. (arXiv 1706.03762), section 3.5, which has wave lengths up to 20000π.
    """

    def __init__(self, deviation: float) -> None:
        self._deviation = deviation

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        rows, width = shape
        columns = np.arange(width - width // 2)
        angles = np.arange(rows)[:, np.newaxis] * float(rows) ** (-2.0 * (columns // 2) / len(columns))
        waves = self._deviation * math.sqrt(2.0) * np.where(columns % 2, np.cos(angles), np.sin(angles))
        return tf.constant(np.pad(waves, [(0, 0), (width // 2, 0)]), dtype)


class _Block(tf.keras.layers.Layer):
    """Attention and a feed-forward part, each with a residual sum and a normalisation."""

    def __init__(
        self,
        num_heads: int,
        width: int,
        hidden_width: int,
        dropout: float,
        epsilon: float,
        deviation: float,
        mimetic: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._num_heads, self._width = num_heads, width
        policy = self.dtype_policy

        def dense(units: int, name: str, activation: Any = None) -> tf.keras.layers.Dense:
            initial: Any = tf.keras.initializers.TruncatedNormal(stddev=deviation)
            if mimetic and name in ("query", "key"):
                initial = "identity"
            return tf.keras.layers.Dense(units, activation, kernel_initializer=initial, name=name, dtype=policy)

        def norm(name: str) -> tf.keras.layers.LayerNormalization:
            return tf.keras.layers.LayerNormalization(epsilon=epsilon, name=name, dtype=policy)

        self.query, self.key, self.value, self.attended = (
            dense(width, name) for name in ("query", "key", "value", "attended")
        )
        self.attention_norm = norm("attention_norm")
        self.hidden = dense(hidden_width, "hidden", tf.keras.activations.gelu)
        self.output_ = dense(width, "output")
        self.output_norm = norm("output_norm")
        self.weight_drop, self.attention_drop, self.output_drop = (
            tf.keras.layers.Dropout(dropout, dtype=policy) for _ in range(3)
        )
        self._hidden_width = hidden_width

    def build(self, input_shape: Any) -> None:
        for layer in (self.query, self.key, self.value, self.attended, self.attention_norm, self.hidden):
            layer.build(input_shape)
        self.output_.build((*input_shape[:-1], self._hidden_width))
        self.output_norm.build(input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, there: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        attended = self.attended(self._attention(inputs, there, training))
        x = self.attention_norm(inputs + self.attention_drop(attended, training=training))
        return self.output_norm(x + self.output_drop(self.output_(self.hidden(x)), training=training))

    def _attention(self, x: tf.Tensor, there: tf.Tensor, training: bool | None) -> tf.Tensor:
        """The heads' outputs side by side; the softmax in float32 or wider."""
        query, key, value = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        scale = (self._width // self._num_heads) ** -0.5
        scores = at_least_float32(tf.matmul(query * tf.cast(scale, query.dtype), key, transpose_b=True))
        seen = tf.cast(there, tf.bool)[:, tf.newaxis, tf.newaxis]
        # A finite number: a row of padding alone would turn an infinite one into NaN.
        weights = tf.nn.softmax(tf.where(seen, scores, tf.constant(-1e9, scores.dtype)))
        mixed = tf.matmul(self.weight_drop(tf.cast(weights, value.dtype), training=training), value)
        return tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), tf.shape(x))

    def _heads(self, x: tf.Tensor) -> tf.Tensor:
        """(B, n, width) -> (B, heads, n, width / heads)."""
        parts = tf.reshape(x, (-1, tf.shape(x)[1], self._num_heads, self._width // self._num_heads))
        return tf.transpose(parts, (0, 2, 1, 3))
