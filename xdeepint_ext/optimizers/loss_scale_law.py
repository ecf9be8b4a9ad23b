"""The loss-scale law: what FTRL's constants become when the loss is a mean over the batch instead of a sum.

With gradients g/B in place of g, FTRL's state becomes z/B and n/B². The update

    w = z (t/|z| - 1) / ((beta + sqrt(n))/alpha + lambda2),   t proportional to lambda1

then gives the same weights if beta, lambda1 and lambda2 are divided by B and alpha stays; an initial accumulator, which
is an n, is divided by B². Published constants of FTRL therefore mean nothing without the reduction they were used with.

Source: xDeepInt's code trains on the summed loss; the law is derived from its formulas.
"""

from xdeepint_ext.utils.registry import register


@register
def group_ftrl_for_mean_loss(*, global_batch: int, beta: float, lambda1: float, lambda2: float) -> dict[str, float]:
    """Converts the constants of G-FTRL from a loss summed over the batch to its mean.

    Args:
      global_batch: B, the examples of one step over all replicas.
      beta: For the summed loss.
      lambda1: For the summed loss.
      lambda2: For the summed loss.

    Returns:
      {"beta": beta/B, "lambda1": lambda1/B, "lambda2": lambda2/B}, keywords of `GroupFtrl`.

    Raises:
      ValueError: If `global_batch` is not a positive integer.

    >>> group_ftrl_for_mean_loss(global_batch=4096, beta=1.0, lambda1=10.0, lambda2=10.0)["lambda1"]
    0.00244140625
    """
    _require_positive_integer(global_batch)
    return {"beta": beta / global_batch, "lambda1": lambda1 / global_batch, "lambda2": lambda2 / global_batch}


@register
def ftrl_for_mean_loss(
    *,
    global_batch: int,
    initial_accumulator_value: float = 0.1,
    l1_regularization_strength: float = 0.0,
    l2_regularization_strength: float = 0.0,
    beta: float = 0.0,
) -> dict[str, float]:
    """Converts the constants of `tf.keras.optimizers.Ftrl` from a loss summed over the batch to its mean.

    The law holds for ``learning_rate_power=-0.5``, Keras's default.

    Args:
      global_batch: B, the examples of one step over all replicas.
      initial_accumulator_value: For the summed loss; Keras's default, 0.1.
      l1_regularization_strength: For the summed loss; Keras's default, 0.
      l2_regularization_strength: For the summed loss; Keras's default, 0.
      beta: For the summed loss; Keras's default, 0.

    Returns:
      Keywords of `tf.keras.optimizers.Ftrl`: the accumulator divided by B², the others by B.

    Raises:
      ValueError: If `global_batch` is not a positive integer.

    >>> ftrl_for_mean_loss(global_batch=2, l1_regularization_strength=0.1)["l1_regularization_strength"]
    0.05
    >>> ftrl_for_mean_loss(global_batch=2)["initial_accumulator_value"]
    0.025
    """
    _require_positive_integer(global_batch)
    return {
        "initial_accumulator_value": initial_accumulator_value / global_batch**2,
        "l1_regularization_strength": l1_regularization_strength / global_batch,
        "l2_regularization_strength": l2_regularization_strength / global_batch,
        "beta": beta / global_batch,
    }


def _require_positive_integer(global_batch: int) -> None:
    if not isinstance(global_batch, int) or isinstance(global_batch, bool) or global_batch < 1:
        raise ValueError(f"global_batch must be a positive integer, got {global_batch!r}")
