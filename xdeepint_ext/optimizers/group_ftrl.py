"""G-FTRL: FTRL with a group penalty that sets whole embedding rows to zero."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.optimizers.loss_scale_law import group_ftrl_for_mean_loss
from xdeepint_ext.optimizers.sparse_gradients import RowWise, refuse_weight_decay
from xdeepint_ext.utils.registry import register

_AUTHORS_BATCH = 4096


@register
class GroupFtrl(RowWise):
    r"""FTRL whose first penalty acts on the norm of a row, so that rows without use become exactly zero.

    For a weight w with gradient g and state n = z = 0 (all of one shape, K columns), elementwise

        sigma = (sqrt(n + g^2) - sqrt(n)) / alpha;    n += g^2;    z += g - sigma w

    and per row, with t = lambda1 sqrt(K),

        w = 0                                                        if ||z|| <= t
        w = z (t / ||z|| - 1) / ((beta + sqrt(n)) / alpha + lambda2)   otherwise.

    **Groups.** A group is the slice along a variable's last axis: a row of a matrix or of any variable of higher rank.
    In a vector and in a scalar every entry is a group of its own (K = 1), which is FTRL.

    **Sparse gradients.** A `tf.IndexedSlices` gradient, such as a look-up's, touches the rows in it and no others. They
    get the dense update's values: on a CPU bit for bit in eager mode, with duplicates summed in batch order; to
    rounding in compiled graphs and on other devices.

    **The first step zeroes.** A row that no batch has touched has z = 0, and its update is w = 0. So the first step
    applied to a variable also sets all other rows to zero, by one write after the batch's rows were computed from
    their initial values. Later steps make no pass over the table; the flag that says so is part of the checkpoint.
    Weights trained earlier are zeroed, too, unless the optimizer's state comes with them or `preserve_initial` is set.

    **Slots.** ``state`` holds n and z side by side, shape (..., 2K), so that a row of them is one place in memory;
    ``zeroed`` is the flag, shape (1,). A sharded table has one flag for each shard, so its checkpoint restores onto the
    same number of shards and fails on another.

    Args:
      alpha: Step size, also `learning_rate`; a float or a `LearningRateSchedule`. Default 0.02, the authors'.
      beta: Smooths the first steps; 1/4096 by default.
      lambda1: Strength of the group penalty; 10/4096 by default.
      lambda2: Strength of the squared penalty; 10/4096 by default.
        The defaults of these three are the authors' for a loss summed over a batch of 4096, converted to the mean loss
        that Keras trains on. `from_sum_loss` converts for another batch.
      preserve_initial: Start z at -w0 (beta + sqrt(n0)) / alpha, n0 = 0, and zero nothing in the first step. Rows keep
        their initial value w0 until a batch touches them; at lambda1 = lambda2 = 0 they then move away from w0 instead
        of from zero, otherwise the penalties shrink w0 at the first touch. Needs beta > 0. False by default, as in the
        authors' code.
      jit_compile: Whether Keras compiles each variable's step by XLA on a GPU. False by default: the number of distinct
        rows changes from batch to batch, and XLA would compile again for each.
      name: The optimizer's name.
      **kwargs: `clipnorm`, `clipvalue`, `global_clipnorm`, `use_ema`, `ema_momentum`, `ema_overwrite_frequency` of
        `tf.keras.optimizers.Optimizer`. A moving average (`use_ema`) passes over the whole table at every step.

    Raises:
      ValueError: If `alpha` is not positive, if another constant is negative, if `preserve_initial` comes with
        beta = 0, or if `weight_decay` is given.

    Example:
    >>> table = tf.Variable([[0.3, -0.4], [0.1, 0.2]])
    >>> optimizer = GroupFtrl(alpha=0.1, beta=1.0, lambda1=0.5, lambda2=0.25)
    >>> _ = optimizer.apply_gradients([(tf.IndexedSlices(tf.constant([[1.0, -2.0]]), tf.constant([0])), table)])
    >>> print(table.numpy().round(3))
    [[ 0.088 -0.176]
     [ 0.     0.   ]]

    Source: xDeepInt (arXiv 2301.01089), section 3.5, and the authors' code, which has the formula.
    """

    def __init__(
        self,
        alpha: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.02,
        beta: float = 1 / _AUTHORS_BATCH,
        lambda1: float = 10 / _AUTHORS_BATCH,
        lambda2: float = 10 / _AUTHORS_BATCH,
        preserve_initial: bool = False,
        jit_compile: bool = False,
        name: str = "GroupFtrl",
        **kwargs: Any,
    ):
        refuse_weight_decay("GroupFtrl", kwargs.pop("weight_decay", None))
        is_schedule = isinstance(alpha, tf.keras.optimizers.schedules.LearningRateSchedule)
        if not is_schedule and not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha!r}")
        for argument, value in {"beta": beta, "lambda1": lambda1, "lambda2": lambda2}.items():
            if not value >= 0:
                raise ValueError(f"{argument} must not be negative, got {value!r}")
        if preserve_initial and beta == 0:
            raise ValueError("preserve_initial=True needs beta > 0, got beta=0: no state z would stand for the weights")
        # weight_decay=None: Keras's default of 0 makes a pass over every variable at every step.
        super().__init__(name=name, weight_decay=None, jit_compile=jit_compile, **kwargs)
        self._learning_rate = self._build_learning_rate(alpha)
        self.beta = beta
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.preserve_initial = preserve_initial

    @classmethod
    def from_sum_loss(
        cls,
        alpha: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.02,
        beta: float = 1.0,
        lambda1: float = 10.0,
        lambda2: float = 10.0,
        *,
        global_batch: int,
        **kwargs: Any,
    ) -> "GroupFtrl":
        """Makes the optimizer for a mean loss from constants that were meant for the loss summed over the batch.

        Args:
          alpha: Step size, which the law leaves alone. Default 0.02; this and the next three are the authors' code's.
          beta: For the summed loss, 1 by default.
          lambda1: For the summed loss, 10 by default.
          lambda2: For the summed loss, 10 by default.
          global_batch: The examples of one step over all replicas.
          **kwargs: Further arguments of `GroupFtrl`.

        Returns:
          A `GroupFtrl` with beta, lambda1 and lambda2 divided by `global_batch`.

        Raises:
          ValueError: If `global_batch` is not a positive integer.

        >>> GroupFtrl.from_sum_loss(global_batch=1024).lambda1
        0.009765625
        """
        kwargs |= group_ftrl_for_mean_loss(global_batch=global_batch, beta=beta, lambda1=lambda1, lambda2=lambda2)
        return cls(alpha, **kwargs)

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the slots of the given variables."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._states, self._zeroed = [], []
        for variable in var_list:
            self._states.append(self._add_state(variable))
            self._zeroed.append(self.add_variable_from_reference(variable, "zeroed", [1]))
        self._built = True

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one variable; of a sparse gradient, whose indices must differ, only the rows in it."""
        index = self._index_dict[self._var_key(variable)]
        state, zeroed = self._states[index], self._zeroed[index]
        if isinstance(gradient, tf.IndexedSlices):
            rows = gradient.indices
            next_w, next_state = self._next(tf.gather(variable, rows), tf.gather(state, rows), gradient.values)
            if not self.preserve_initial:
                _zero_once(variable, zeroed)
            variable.scatter_update(tf.IndexedSlices(next_w, rows))
            state.scatter_update(tf.IndexedSlices(next_state, rows))
        else:
            next_w, next_state = self._next(tf.convert_to_tensor(variable), tf.convert_to_tensor(state), gradient)
            variable.assign(next_w)
            state.assign(next_state)
            zeroed.assign(tf.ones_like(zeroed))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        alpha = self._serialize_hyperparameter(self._learning_rate)
        config.update(
            alpha=alpha if isinstance(alpha, dict) else float(alpha),
            beta=self.beta,
            lambda1=self.lambda1,
            lambda2=self.lambda2,
            preserve_initial=self.preserve_initial,
        )
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "GroupFtrl":
        """Makes the optimizer that `get_config` described."""
        config = dict(config)
        if isinstance(config["alpha"], dict):
            config["alpha"] = tf.keras.optimizers.schedules.deserialize(config["alpha"], custom_objects)
        return cls(**config)

    def _build_learning_rate(self, learning_rate: Any) -> Any:
        # Keras would keep a float in float32, which is wrong in the eighth digit for float64 variables.
        if isinstance(learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule):
            return super()._build_learning_rate(learning_rate)
        with tf.init_scope():
            return tf.Variable(learning_rate, name="learning_rate", dtype=tf.float64, trainable=False)

    def _add_state(self, variable: tf.Variable) -> tf.Variable:
        """Creates n = 0 beside z = 0, or beside the z whose weights are the variable's present ones."""
        shape = variable.shape if variable.shape.rank > 1 else [*variable.shape, 1]
        if not self.preserve_initial:
            return self.add_variable_from_reference(variable, "state", [*shape[:-1], 2 * shape[-1]])
        weights = tf.reshape(variable, shape)
        z = -weights * (self.beta / tf.cast(self.learning_rate, weights.dtype))
        return self.add_variable_from_reference(variable, "state", None, tf.concat([tf.zeros_like(z), z], -1))

    def _next(self, weights: tf.Tensor, state: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One step on rows, or on the single entries of a vector or scalar: the next weights and state."""
        is_matrix = weights.shape.rank > 1
        w, g = (weights, gradient) if is_matrix else (weights[..., tf.newaxis], gradient[..., tf.newaxis])
        n, z = tf.split(state, 2, -1)
        alpha = tf.cast(self.learning_rate, w.dtype)
        n, root_before = n + g * g, tf.sqrt(n)
        root = tf.sqrt(n)
        z += g - (root - root_before) / alpha * w
        width = w.shape[-1]
        norm = tf.abs(z) if width == 1 else tf.sqrt(tf.reduce_sum(z * z, -1, keepdims=True))
        threshold = self.lambda1 * width**0.5
        shrink = tf.where(norm <= threshold, tf.zeros_like(norm), threshold / norm - 1)
        # A column that never had a gradient has n = z = 0; without beta and lambda2 it would be 0/0.
        w = tf.math.divide_no_nan(z * shrink, root / alpha + (self.beta / alpha + self.lambda2))
        return w if is_matrix else tf.squeeze(w, -1), tf.concat([n, z], -1)


def _zero_once(variable: tf.Variable, zeroed: tf.Variable) -> None:
    """Sets the variable to zero unless the flag says that it was done, and sets the flag."""

    def zero() -> None:
        # One zero for all rows, in place: `assign` would need a second table, and then a third for its copy.
        every = tf.range(tf.constant(variable.shape[0], tf.int32 if variable.shape[0] <= tf.int32.max else tf.int64))
        variable.scatter_update(tf.IndexedSlices(tf.zeros([], variable.dtype), every))
        zeroed.assign(tf.ones_like(zeroed))

    tf.cond(zeroed[0] > 0, lambda: None, zero)
