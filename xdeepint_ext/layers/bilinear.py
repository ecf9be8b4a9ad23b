"""The two layers of FiBiNET: weights of the fields, and bilinear products of their pairs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.pairs import field_pairs
from xdeepint_ext.layers.subspaces import check_field_matrix
from xdeepint_ext.utils.initializers import fresh, stacked
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag

BILINEAR_KINDS = ("field_all", "field_each", "field_interaction")


@register
class SENET(tf.keras.layers.Layer):
    """Squeeze and excitation: field f times `a_f`, where `a = s(s(z W_1) W_2)` and `z_f` is the mean of field f.

    Args:
      reduction_ratio: r; W_1 has `max(1, F // r)` outputs. Paper: 3.
      activation: s. Paper: relu.
      kernel_initializer: of W_1 and W_2. Our choice: Glorot uniform.

    Weights:
      squeeze: (F, max(1, F // r)); excite: (max(1, F // r), F). Optimizer group `default`: FTRL pulls a network of two
        layers to zero.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, F, K).

    Raises:
      ValueError: reduction_ratio is below 1, or F or K is not static.

    Example:
      >>> SENET(reduction_ratio=3)(tf.ones((8, 10, 16))).shape
      TensorShape([8, 10, 16])

    Source: Huang et al., FiBiNET (arXiv 1905.09433), §3.3.
    """

    def __init__(
        self,
        reduction_ratio: int = 3,
        activation: Any = "relu",
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if reduction_ratio < 1:
            raise ValueError(f"SENET: reduction_ratio must be >= 1, got {reduction_ratio}")
        self.reduction_ratio = reduction_ratio
        self.activation = tf.keras.activations.get(activation)
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        fields, _ = check_field_matrix(input_shape, 1, "SENET")
        hidden = max(1, fields // self.reduction_ratio)
        initializer = self.kernel_initializer
        self.squeeze = self.add_weight(name="squeeze", shape=(fields, hidden), initializer=fresh(initializer))
        self.excite = self.add_weight(name="excite", shape=(hidden, fields), initializer=fresh(initializer))
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        hidden = self.activation(tf.matmul(tf.reduce_mean(inputs, axis=2), self.squeeze))
        return inputs * self.activation(tf.matmul(hidden, self.excite))[:, :, tf.newaxis]

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "activation": tf.keras.activations.serialize(self.activation),
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
        }


@register
class BilinearInteraction(tf.keras.layers.Layer):
    """`(v_i W) * v_j` of all pairs of fields i < j.

    Args:
      kind: `field_all`: one W; `field_each`: one W_i for each left field; `field_interaction`: one W_ij for each pair.
        The paper compares the three; the default is that of the authors' code.
      kernel_initializer: of W. Our choice: Glorot uniform, each matrix on its own.
      kernel_regularizer: of W, added to the loss.

    Weights:
      kernel: (N, K, K), N = 1, F - 1 (the last field is never the left one) or F (F - 1) / 2, in the optimizer group
        `interaction`.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, F (F - 1) / 2, K), first the pairs of row 0.

    Raises:
      ValueError: kind is unknown, or F or K is not static, or F is below two.

    Example:
      >>> BilinearInteraction("field_each")(tf.ones((8, 10, 16))).shape
      TensorShape([8, 45, 16])

    Source: Huang et al., FiBiNET (arXiv 1905.09433), §3.4.
    """

    def __init__(
        self,
        kind: str = "field_all",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in BILINEAR_KINDS:
            raise ValueError(f"BilinearInteraction: kind must be one of {BILINEAR_KINDS}, got {kind!r}")
        self.kind = kind
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        fields, width = check_field_matrix(input_shape, 1, "BilinearInteraction")
        self._left, self._right = field_pairs(fields, "BilinearInteraction")
        number = {"field_all": 1, "field_each": fields - 1, "field_interaction": len(self._left)}[self.kind]
        self.kernel = tag(
            self.add_weight(
                name="kernel",
                shape=(number, width, width),
                initializer=stacked(self.kernel_initializer),
                regularizer=self.kernel_regularizer,
            ),
            "interaction",
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        right = tf.gather(inputs, self._right, axis=1)
        if self.kind == "field_interaction":
            return tf.einsum("bpk,pkl->bpl", tf.gather(inputs, self._left, axis=1), self.kernel) * right
        if self.kind == "field_each":
            mapped = tf.einsum("bfk,fkl->bfl", inputs[:, :-1], self.kernel)
        else:
            mapped = tf.einsum("bfk,kl->bfl", inputs, self.kernel[0])
        return tf.gather(mapped, self._left, axis=1) * right

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        batch, fields, width = tf.TensorShape(input_shape)
        return tf.TensorShape([batch, fields * (fields - 1) // 2, width])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": tf.keras.regularizers.serialize(self.kernel_regularizer),
        }
