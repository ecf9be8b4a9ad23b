"""Compressed interaction network (CIN): the interaction layers of xDeepFM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.subspaces import check_field_matrix
from xdeepint_ext.utils.initializers import as_dense
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag


def compressed_interaction(x_l: tf.Tensor, x_0: tf.Tensor, kernel: Any) -> tf.Tensor:
    """One CIN layer: `out[o] = sum_ij kernel[o, i, j] (x_l[i] * x_0[j])`, the product column by column.

    All products of the batch exist at once: B K H F numbers.

    Args:
      x_l: (B, H, K).
      x_0: (B, F, K).
      kernel: (H_out, H, F).

    Returns:
      (B, H_out, K).

    Example:
      >>> compressed_interaction(tf.ones((2, 3, 4)), tf.ones((2, 5, 4)), tf.ones((6, 3, 5))).shape
      TensorShape([2, 6, 4])

    Source: Lian et al., xDeepFM (arXiv 1803.05170), equation 6.
    """
    (_, rows, width), fields, outputs = x_l.shape, x_0.shape[1], kernel.shape[0]
    # Columns before rows: then the sum over pairs is one plain matrix product.
    products = tf.reshape(tf.einsum("bik,bjk->bkij", x_l, x_0), (-1, rows * fields))
    mapped = tf.matmul(products, tf.reshape(kernel, (outputs, rows * fields)), transpose_b=True)
    return tf.transpose(tf.reshape(mapped, (-1, width, outputs)), (0, 2, 1))


@register
class CIN(tf.keras.layers.Layer):
    """`X_l[o] = a(sum_ij W_l[o, i, j] (X_{l-1}[i] * X_0[j]))`, l = 1 .. L; the rows of all X_l, each summed up.

    Args:
      units: rows H_l of each X_l. Paper: three layers of 200 on Criteo, of 100 on its other data, our default.
      split_half: of all but the last X_l only the first half goes on to X_{l+1}, and only the second half to the
        output. Authors' code; paper: False.
      activation: a. None = identity, the paper's best.
      kernel_initializer: of W. Our choice: Glorot uniform, of H_{l-1} F inputs and H_l outputs.
      kernel_regularizer: of W, added to the loss.

    Weights:
      kernels: list of L variables (H_l, H_{l-1}, F) in the optimizer group `interaction`.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, sum of H_l), with `split_half` (B, sum of H_l / 2 over all but the last plus H_L).

    Raises:
      ValueError: there are no units, one is < 1, or one to be split is odd.

    Example:
      >>> CIN([6, 5])(tf.ones((8, 10, 16))).shape
      TensorShape([8, 11])

    Source: Lian et al., xDeepFM (arXiv 1803.05170), equations 6 to 8.
    """

    def __init__(
        self,
        units: Sequence[int] = (100, 100, 100),
        split_half: bool = False,
        activation: Any = None,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not units or any(rows < 1 for rows in units):
            raise ValueError(f"CIN: units must be numbers of rows > 0, got {list(units)}")
        if split_half and any(rows % 2 for rows in units[:-1]):
            raise ValueError(f"CIN: split_half wants even units in all but the last layer, got {list(units)}")
        self.units = list(units)
        self.split_half = split_half
        self.activation = tf.keras.activations.get(activation)
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        fields, _ = check_field_matrix(input_shape, 1, "CIN")
        self.kernels = []
        before = fields
        for index, rows in enumerate(self.units):
            kernel = self.add_weight(
                name=f"kernel_{index}",
                shape=(rows, before, fields),
                initializer=as_dense(self.kernel_initializer),
                regularizer=self.kernel_regularizer,
            )
            self.kernels.append(tag(kernel, "interaction"))
            before = rows // 2 if self.split_half else rows
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x, outputs = inputs, []
        for index, kernel in enumerate(self.kernels):
            x = pooled = self.activation(compressed_interaction(x, inputs, kernel))
            if self.split_half and index < len(self.kernels) - 1:
                x, pooled = tf.split(x, 2, axis=1)
            outputs.append(tf.reduce_sum(pooled, axis=2))
        return tf.concat(outputs, axis=1)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        *split, last = self.units
        return tf.TensorShape([tf.TensorShape(input_shape)[0], sum(split) // (1 + self.split_half) + last])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": list(self.units),
            "split_half": self.split_half,
            "activation": tf.keras.activations.serialize(self.activation),
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": tf.keras.regularizers.serialize(self.kernel_regularizer),
        }
