"""Experts of AdaEnsemble that know fields: convolution, self-attention, compressed interaction, interaction machine."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.cin import compressed_interaction
from xdeepint_ext.layers.experts import Expert
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.registry import register


class FieldExpert(Expert):
    """Base of the experts that want (B, F, K)."""

    takes_fields = True


@register
class ConvExpert(FieldExpert):
    """`D_2 flatten(maxpool(conv1d(D_1 x_l)))`: a convolution along a short projection of x_l, valid padding.

    Args:
      units: of D_1, the length that is convolved; None: max(F // 2, kernel_size + pool_size - 1). Authors: F // 2.
      filters: of the convolution. Authors: 16.
      kernel_size: authors: 4.
      pool_size: authors: 2.
      kernel_initializer: of the kernels. Authors: Glorot uniform.

    Weights:
      embed, expand: dense layers D_1 and D_2; convolution: a dense layer on each window of kernel_size numbers.

    Call arguments:
      inputs: [x_l, x_0], both (B, F, K); x_0 has no part in it.

    Returns:
      (B, F, K).

    Raises:
      ValueError: an argument is below 1, units is too short for one pool, or the shapes differ or are not static.

    Example:
      >>> ConvExpert()([tf.ones((8, 10, 16)), tf.ones((8, 10, 16))]).shape
      TensorShape([8, 10, 16])

    Source: Yan and Li, AdaEnsemble (arXiv 2301.08353), the authors' code.
    """

    def __init__(
        self, units: int | None = None, filters: int = 16, kernel_size: int = 4, pool_size: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for argument, value in {"filters": filters, "kernel_size": kernel_size, "pool_size": pool_size}.items():
            if value < 1:
                raise ValueError(f"ConvExpert: {argument} must be >= 1, got {value}")
        least = kernel_size + pool_size - 1
        if units is not None and units < least:
            raise ValueError(f"ConvExpert: units must be >= kernel_size + pool_size - 1 = {least}, got {units}")
        self.units = units
        self.filters = filters
        self.kernel_size = kernel_size
        self.pool_size = pool_size

    def build_weights(self, shape: tuple[int, ...]) -> None:
        fields, width = shape
        units = self.units or max(fields // 2, self.kernel_size + self.pool_size - 1)
        self.embed = self.dense("embed", fields * width, units)
        self.convolution = self.dense("convolution", self.kernel_size, self.filters)
        self._pooled = (units - self.kernel_size + 1) // self.pool_size * self.filters
        self.expand = self.dense("expand", self._pooled, fields * width)

    def interact(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        short = self.embed(tf.reshape(x, (-1, x.shape[1] * x.shape[2])))
        length = short.shape[1] - self.kernel_size + 1
        windows = tf.stack([short[:, i : i + length] for i in range(self.kernel_size)], axis=2)
        pools = self.convolution(windows)[:, : length // self.pool_size * self.pool_size]
        pooled = tf.reduce_max(tf.reshape(pools, (-1, length // self.pool_size, self.pool_size, self.filters)), axis=2)
        return self.expand(tf.reshape(pooled, (-1, self._pooled)))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "pool_size": self.pool_size,
        }


@register
class SelfAttentionExpert(FieldExpert):
    """`D flatten(norm(O concat_heads(softmax(q k^T / sqrt(d)) v)))`: the fields of x_l attend to each other.

    q, k, v and O are dense layers with activation a; norm is instance normalisation: each of the `hidden` columns over
    the fields of an example, with a learned scale and offset.

    Args:
      hidden: width of q, k, v and O, over all heads. Authors: 8.
      num_heads: must divide hidden, d = hidden / num_heads. Authors: 4.
      activation: a. Authors: gelu.
      kernel_initializer: of the kernels. Authors: Glorot uniform.

    Weights:
      query, key, value, output_layer, expand: dense layers; normalization: scale and offset, (hidden,).

    Call arguments:
      inputs: [x_l, x_0], both (B, F, K); x_0 has no part in it.

    Returns:
      (B, F, K).

    Raises:
      ValueError: num_heads does not divide hidden, or the shapes differ or are not static.

    Example:
      >>> SelfAttentionExpert()([tf.ones((8, 10, 16)), tf.ones((8, 10, 16))]).shape
      TensorShape([8, 10, 16])

    Source: Yan and Li, AdaEnsemble (arXiv 2301.08353), the authors' code; the scale 1 / sqrt(d) is Vaswani et al.'s
    (arXiv 1706.03762).
    """

    def __init__(self, hidden: int = 8, num_heads: int = 4, activation: Any = "gelu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_heads < 1 or hidden < 1 or hidden % num_heads:
            raise ValueError(f"SelfAttentionExpert: num_heads must divide hidden = {hidden}, got {num_heads}")
        self.hidden = hidden
        self.num_heads = num_heads
        self.activation = tf.keras.activations.get(activation)

    def build_weights(self, shape: tuple[int, ...]) -> None:
        fields, width = shape
        self.query = self.dense("query", width, self.hidden, self.activation)
        self.key = self.dense("key", width, self.hidden, self.activation)
        self.value = self.dense("value", width, self.hidden, self.activation)
        self.output_layer = self.dense("output", self.hidden, self.hidden, self.activation)
        self.normalization = tf.keras.layers.GroupNormalization(
            groups=-1, name="normalization", dtype=self._dtype_policy.variable_dtype
        )
        with tf.name_scope("normalization"):
            self.normalization.build((None, fields, self.hidden))
        self.expand = self.dense("expand", fields * self.hidden, fields * width)

    def interact(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        fields = x.shape[1]
        query, key, value = (self._heads(layer(x)) for layer in (self.query, self.key, self.value))
        scores = at_least_float32(tf.matmul(query, key, transpose_b=True)) * (self.num_heads / self.hidden) ** 0.5
        attended = tf.matmul(tf.cast(tf.nn.softmax(scores), value.dtype), value)
        joined = tf.reshape(tf.transpose(attended, (0, 2, 1, 3)), (-1, fields, self.hidden))
        normal = tf.cast(self.normalization(self.output_layer(joined)), x.dtype)
        return self.expand(tf.reshape(normal, (-1, fields * self.hidden)))

    def _heads(self, x: tf.Tensor) -> tf.Tensor:
        """(B, F, hidden) -> (B, heads, F, d)."""
        columns = self.hidden // self.num_heads
        return tf.transpose(tf.reshape(x, (-1, x.shape[1], self.num_heads, columns)), (0, 2, 1, 3))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden": self.hidden,
            "num_heads": self.num_heads,
            "activation": tf.keras.activations.serialize(self.activation),
        }


@register
class CINExpert(FieldExpert):
    """`X[h] = sum_ij W[h, i, j] (x_l[i] * x_0[j])`: a layer of xDeepFM's compressed interaction network, H = F.

    Args:
      kernel_initializer: of W. Default: Glorot uniform, ours.

    Weights:
      kernel: (F, F, F).

    Call arguments:
      inputs: [x_l, x_0], both (B, F, K).

    Returns:
      (B, F, K).

    Raises:
      ValueError: the shapes differ or are not static.

    Example:
      >>> CINExpert()([tf.ones((8, 10, 16)), tf.ones((8, 10, 16))]).shape
      TensorShape([8, 10, 16])

    Source: Lian et al., xDeepFM (arXiv 1803.05170), equation 6; in AdaEnsemble's authors' code, unused there.
    """

    def build_weights(self, shape: tuple[int, ...]) -> None:
        fields, _ = shape
        self.kernel = self.add_weight(
            name="kernel", shape=(fields, fields, fields), initializer=self.kernel_initializer
        )

    def interact(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        return compressed_interaction(x, start, tf.convert_to_tensor(self.kernel))


@register
class InteractionMachineExpert(FieldExpert):
    """`D concat(e_1 .. e_P)`, `e_p = sum_{f_1 < .. < f_p} x_l[f_1] * .. * x_l[f_p]`: all interactions up to order P.

    The elementary symmetric polynomials come from power sums by Newton's identities, in O(P F K), in float32 or wider.

    Args:
      order: P. Authors: 5.
      kernel_initializer: of D. Authors: Glorot uniform.

    Weights:
      expand: the dense layer D.

    Call arguments:
      inputs: [x_l, x_0], both (B, F, K); x_0 has no part in it.

    Returns:
      (B, F, K).

    Raises:
      ValueError: order < 1, or the shapes differ or are not static.

    Example:
      >>> InteractionMachineExpert()([tf.ones((8, 10, 16)), tf.ones((8, 10, 16))]).shape
      TensorShape([8, 10, 16])

    Source: Yu et al., Deep Interaction Machine (CIKM 2020); in AdaEnsemble's authors' code, unused there.
    """

    def __init__(self, order: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if order < 1:
            raise ValueError(f"InteractionMachineExpert: order must be >= 1, got {order}")
        self.order = order

    def build_weights(self, shape: tuple[int, ...]) -> None:
        fields, width = shape
        self.expand = self.dense("expand", self.order * width, fields * width)

    def interact(self, x: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        return self.expand(tf.cast(tf.concat(elementary_symmetric(x, self.order)[1:], axis=1), x.dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "order": self.order}


def elementary_symmetric(x: tf.Tensor, order: int) -> list[tf.Tensor]:
    """`[e_0 .. e_order]` over the fields of (B, F, K), each (B, K): `p e_p = sum_{i=1}^p (-1)^(i-1) e_(p-i) s_i`."""
    x = at_least_float32(x)
    power, sums = tf.ones_like(x), []
    for _ in range(order):
        power = power * x
        sums.append(tf.reduce_sum(power, axis=1))
    found = [tf.ones_like(sums[0])]
    for p in range(1, order + 1):
        terms = [(-1.0) ** (i - 1) * found[p - i] * sums[i - 1] for i in range(1, p + 1)]
        found.append(tf.add_n(terms) / p)
    return found
