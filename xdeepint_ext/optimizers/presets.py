"""The optimizers of the xDeepInt paper, for a batch size."""

from typing import Any

import tensorflow as tf

from xdeepint_ext.optimizers.group_ftrl import GroupFtrl
from xdeepint_ext.optimizers.loss_scale_law import ftrl_for_mean_loss
from xdeepint_ext.utils.registry import register

# Step size of both FTRLs. The penalties are printed nowhere but in the authors' code, so both presets take them there.
_LEARNING_RATES = {"code": 0.02, "paper": 0.01}


@register
def paper_optimizers(batch_size: int, *, preset: str = "code") -> dict[str, tf.keras.optimizers.Optimizer]:
    """The paper's split: G-FTRL on the embeddings, FTRL on the interaction layers; Adam on all else.

    The authors' constants are for a loss summed over the batch. They are converted here to the mean loss
    (`loss_scale_law`), which is what Keras trains on.

    * ``"embedding"``: `GroupFtrl`, beta 1, lambda1 = lambda2 = 10 for the sum.
    * ``"interaction"``: `tf.keras.optimizers.Ftrl`, l1 = l2 = 0.1 and initial accumulator 0.1 for the sum, power -0.5.
    * ``"default"``: Adam with step 0.001. The paper trains xDeepInt on the two above only; Adam at 0.001 is its choice
      for the baselines, and ours here for what is neither table nor interaction (a DNN beside the PIN, temperatures).

    Args:
      batch_size: B, the examples of one step over all replicas.
      preset: "code" for the learning rate of the authors' code, 0.02; "paper" for the paper's, 0.01. Ours: "code",
        since the penalties come from there.

    Returns:
      Group name -> optimizer, as `OptimizerGroups` and ``RankingModel.compile`` take it.

    Raises:
      ValueError: If `batch_size` is not a positive integer or `preset` is unknown.

    >>> optimizers = paper_optimizers(4096)
    >>> optimizers["embedding"].lambda1
    0.00244140625

    Source: xDeepInt (arXiv 2301.01089), sections 3.5 and 4.1.4, and the authors' code.
    """
    if preset not in _LEARNING_RATES:
        raise ValueError(f"preset must be one of {sorted(_LEARNING_RATES)}, got {preset!r}")
    learning_rate = _LEARNING_RATES[preset]
    interaction: dict[str, Any] = ftrl_for_mean_loss(
        global_batch=batch_size,
        initial_accumulator_value=0.1,
        l1_regularization_strength=0.1,
        l2_regularization_strength=0.1,
    )
    return {
        "embedding": GroupFtrl.from_sum_loss(learning_rate, global_batch=batch_size),
        "interaction": tf.keras.optimizers.Ftrl(learning_rate, learning_rate_power=-0.5, **interaction),
        "default": tf.keras.optimizers.Adam(0.001),
    }
