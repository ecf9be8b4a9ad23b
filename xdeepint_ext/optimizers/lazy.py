"""Adam and Adagrad for embedding tables: a step touches the rows in the batch and no others."""

from typing import Any

import tensorflow as tf

from xdeepint_ext.optimizers.sparse_gradients import RowWise, refuse_weight_decay
from xdeepint_ext.utils.registry import register


@register
class LazyAdam(RowWise, tf.keras.optimizers.Adam):
    r"""Adam that leaves the moments and values of rows outside the batch as they are.

    For the rows r in a `tf.IndexedSlices` gradient, duplicates summed in batch order, at step t:

        m_r += (1 - beta_1) (g_r - m_r);    v_r += (1 - beta_2) (g_r^2 - v_r)
        w_r -= learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m_r / (sqrt(v_r) + epsilon)

    t is the optimizer's step count, not the row's. So there is no counter per row, and a row that is in every batch
    gets Adam's step; but a row that first appears late has its moments hardly corrected, and its first step is
    (1 - beta_1) / sqrt(1 - beta_2) learning rates long, 3.2 at the default betas, where Adam's first is 1. Keras's Adam
    decays the moments of all rows at every step, and moves them all.

    A dense gradient gets Keras's ordinary Adam step.

    Args:
      learning_rate: A float or a `LearningRateSchedule`; Keras's default, 0.001.
      beta_1, beta_2: Decay of the moments per step in which the row appears; Keras's defaults, 0.9 and 0.999.
      epsilon: Added to sqrt(v); Keras's default, 1e-7.
      amsgrad: Divide by the largest v so far.
      jit_compile: Whether Keras compiles each variable's step by XLA on a GPU. False by default: XLA would compile
        again for every new number of distinct rows.
      name: The optimizer's name.
      **kwargs: `clipnorm`, `clipvalue`, `global_clipnorm`, `use_ema`, `ema_momentum`, `ema_overwrite_frequency` of
        `tf.keras.optimizers.Optimizer`. A moving average (`use_ema`) passes over the whole table at every step.

    Raises:
      ValueError: If `weight_decay` is given, which would move all rows.

    Example:
    >>> table = tf.Variable([[1.0], [1.0]])
    >>> optimizer = LazyAdam(learning_rate=0.1)
    >>> _ = optimizer.apply_gradients([(tf.IndexedSlices(tf.constant([[2.0]]), tf.constant([1])), table)])
    >>> print(table.numpy().round(3))
    [[1. ]
     [0.9]]

    Source: Adam, arXiv 1412.6980, algorithm 1, in the form before section 2.1; the laziness is common practice.
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        jit_compile: bool = False,
        name: str = "LazyAdam",
        **kwargs: Any,
    ):
        refuse_weight_decay("LazyAdam", kwargs.pop("weight_decay", None))
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            amsgrad=amsgrad,
            jit_compile=jit_compile,
            name=name,
            **kwargs,
        )

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one variable; of a sparse gradient, whose indices must differ, only the rows in it."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        index = self._index_dict[self._var_key(variable)]
        rows, g = gradient.indices, gradient.values
        momentum, velocity = self._momentums[index], self._velocities[index]
        m, v = tf.gather(momentum, rows), tf.gather(velocity, rows)
        m += (g - m) * (1 - self.beta_1)
        v += (tf.square(g) - v) * (1 - self.beta_2)
        momentum.scatter_update(tf.IndexedSlices(m, rows))
        velocity.scatter_update(tf.IndexedSlices(v, rows))
        if self.amsgrad:
            largest = self._velocity_hats[index]
            v = tf.maximum(tf.gather(largest, rows), v)
            largest.scatter_update(tf.IndexedSlices(v, rows))
        step = (m * self._corrected_rate(g.dtype)) / (tf.sqrt(v) + self.epsilon)
        variable.scatter_update(tf.IndexedSlices(tf.gather(variable, rows) - step, rows))

    def _corrected_rate(self, dtype: tf.DType) -> tf.Tensor:
        """The learning rate times the bias corrections of the optimizer's step."""
        t = tf.cast(self.iterations + 1, dtype)
        correction_1 = 1 - tf.pow(tf.constant(self.beta_1, dtype), t)
        correction_2 = 1 - tf.pow(tf.constant(self.beta_2, dtype), t)
        return tf.cast(self.learning_rate, dtype) * tf.sqrt(correction_2) / correction_1


@register
class LazyAdagrad(RowWise, tf.keras.optimizers.Adagrad):
    r"""Adagrad that touches the rows in the batch and no others.

    For the rows r in a `tf.IndexedSlices` gradient, duplicates summed in batch order:

        n_r += g_r^2;    w_r -= learning_rate g_r / sqrt(n_r + epsilon)

    A row without a gradient does not move under Adagrad, so all rows equal those of the dense step. Keras's Adagrad is
    row-wise, too; this one is faster on a CPU, does not compile anew for every number of rows on a GPU, and clips a
    sparse gradient by the norm of its row sums. A dense gradient gets Keras's step.

    Args:
      learning_rate: A float or a `LearningRateSchedule`; Keras's default, 0.001.
      initial_accumulator_value: The start of n; Keras's default, 0.1.
      epsilon: Added to n under the root; Keras's default, 1e-7.
      jit_compile: Whether Keras compiles each variable's step by XLA on a GPU. False by default: XLA would compile
        again for every new number of distinct rows.
      name: The optimizer's name.
      **kwargs: `clipnorm`, `clipvalue`, `global_clipnorm`, `use_ema`, `ema_momentum`, `ema_overwrite_frequency` of
        `tf.keras.optimizers.Optimizer`. A moving average (`use_ema`) passes over the whole table at every step.

    Raises:
      ValueError: If `weight_decay` is given, which would move all rows.

    Example:
    >>> table = tf.Variable([[1.0], [1.0]])
    >>> optimizer = LazyAdagrad(learning_rate=0.1, initial_accumulator_value=0.0)
    >>> _ = optimizer.apply_gradients([(tf.IndexedSlices(tf.constant([[2.0]]), tf.constant([1])), table)])
    >>> print(table.numpy().round(3))
    [[1. ]
     [0.9]]

    Source: Duchi, Hazan, Singer, JMLR 12 (2011), the diagonal form.
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        jit_compile: bool = False,
        name: str = "LazyAdagrad",
        **kwargs: Any,
    ):
        refuse_weight_decay("LazyAdagrad", kwargs.pop("weight_decay", None))
        super().__init__(
            learning_rate=learning_rate,
            initial_accumulator_value=initial_accumulator_value,
            epsilon=epsilon,
            jit_compile=jit_compile,
            name=name,
            **kwargs,
        )

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one variable; of a sparse gradient, whose indices must differ, only the rows in it."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        accumulator = self._accumulators[self._index_dict[self._var_key(variable)]]
        rows, g = gradient.indices, gradient.values
        n = tf.gather(accumulator, rows) + g * g
        accumulator.scatter_update(tf.IndexedSlices(n, rows))
        step = tf.cast(self.learning_rate, g.dtype) * g / tf.sqrt(n + self.epsilon)
        variable.scatter_update(tf.IndexedSlices(tf.gather(variable, rows) - step, rows))
