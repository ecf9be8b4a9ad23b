"""Products of fields: the product layer of PNN."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.pairs import field_pairs
from xdeepint_ext.layers.subspaces import check_field_matrix
from xdeepint_ext.utils.initializers import stacked
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import tag

OUTER_PRODUCTS = ("superposition", "matrix", "vector", "number")


@register
class InnerProduct(tf.keras.layers.Layer):
    """`<v_i, v_j>` of all pairs of fields i < j.

    Args:
      self_products: also i = j, as the paper's sums over all i and j have it. Authors' code: False, our default.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, F (F - 1) / 2), first the pairs of row 0; with `self_products` the F squares follow.

    Raises:
      ValueError: F is not static, or below two.

    Example:
      >>> InnerProduct()(tf.ones((8, 10, 16))).shape
      TensorShape([8, 45])

    Source: Qu et al., Product-based Neural Networks (arXiv 1611.00144), §III-A.
    """

    def __init__(self, self_products: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.self_products = self_products

    def build(self, input_shape: Any) -> None:
        fields, _ = check_field_matrix(input_shape, 1, "InnerProduct")
        left, right = field_pairs(fields, "InnerProduct")
        both = list(range(fields)) if self.self_products else []
        self._places = [i * fields + j for i, j in zip(left + both, right + both, strict=True)]
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Not tensorflow-recommenders' DotInteraction: it masks the products, which fails in float16 on a CPU, or with
        # `skip_gather` leaves F (F + 1) / 2 zeros, for which the next layer then has weights.
        products = tf.matmul(inputs, inputs, transpose_b=True)
        flat = tf.reshape(products, (-1, inputs.shape[1] * inputs.shape[1]))
        return tf.gather(flat, self._places, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "self_products": self.self_products}


@register
class OuterProduct(tf.keras.layers.Layer):
    """The outer product of the fields' sum with itself, or a kernel's sum over the outer product of each pair.

    Args:
      kind: what becomes of the products `v_i v_j^T`:

        * `superposition`: their sum over all i and j, `(sum_i v_i)(sum_j v_j)^T`. The paper's, default.
        * `matrix`: `v_i^T W_ij v_j` for each pair i < j. This and the next two: the kernel products of the paper's
          extension, arXiv 1807.00311.
        * `vector`: `sum_k w_ijk v_ik v_jk`.
        * `number`: `w_ij <v_i, v_j>`.
      kernel_initializer: of W. Our choice: Glorot uniform, each pair's on its own (that of a vector or number as a
        kernel of one output).
      kernel_regularizer: of W, added to the loss.

    Weights:
      kernel: (F (F - 1) / 2, K, K), or K or 1 in the place of K, K; none for `superposition`. Optimizer group
        `interaction`.

    Call arguments:
      inputs: (B, F, K), F and K static.

    Returns:
      (B, K K) for `superposition`, otherwise (B, F (F - 1) / 2).

    Raises:
      ValueError: kind is unknown, or F or K is not static, or F is below two where there are pairs.

    Example:
      >>> OuterProduct()(tf.ones((8, 10, 16))).shape
      TensorShape([8, 256])

    Source: Qu et al., Product-based Neural Networks (arXiv 1611.00144), §III-B.
    """

    def __init__(
        self,
        kind: str = "superposition",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kind not in OUTER_PRODUCTS:
            raise ValueError(f"OuterProduct: kind must be one of {OUTER_PRODUCTS}, got {kind!r}")
        self.kind = kind
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: Any) -> None:
        fields, width = check_field_matrix(input_shape, 1, "OuterProduct")
        if self.kind != "superposition":
            self._left, self._right = field_pairs(fields, "OuterProduct")
            shape = {"matrix": (width, width), "vector": (width, 1), "number": (1, 1)}[self.kind]
            self.kernel = tag(
                self.add_weight(
                    name="kernel",
                    shape=(len(self._left), *shape),
                    initializer=stacked(self.kernel_initializer),
                    regularizer=self.kernel_regularizer,
                ),
                "interaction",
            )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.kind == "superposition":
            total = tf.reduce_sum(inputs, axis=1)
            outer = total[:, :, tf.newaxis] * total[:, tf.newaxis]
            return tf.reshape(outer, (-1, outer.shape[1] * outer.shape[2]))
        left, right = tf.gather(inputs, self._left, axis=1), tf.gather(inputs, self._right, axis=1)
        if self.kind == "matrix":
            return tf.reduce_sum(tf.einsum("bpk,pkl->bpl", left, self.kernel) * right, axis=2)
        return tf.reduce_sum(left * right * self.kernel[:, :, 0], axis=2)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": tf.keras.regularizers.serialize(self.kernel_regularizer),
        }
