"""What a quantiser reports about its codes while it trains."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.layers.codebooks import perplexity


class DeadCodes(tf.keras.metrics.Metric):
    """Share of the codes that no row was assigned to since the last reset: in an epoch of Keras, one full pass.

    Args:
      size: K.
      name: of the metric.
    """

    def __init__(self, size: int, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, dtype=tf.float32, **kwargs)
        self.size = size
        self.rows = self.add_weight(name="rows_of_codes", shape=(size,), initializer="zeros")

    def update_state(self, counts: tf.Tensor) -> None:
        """Adds a batch's rows of each code, (K,)."""
        self.rows.assign_add(tf.cast(counts, self.rows.dtype))

    def result(self) -> tf.Tensor:
        return tf.reduce_mean(tf.cast(tf.equal(self.rows, 0), tf.float32))

    def reset_state(self) -> None:
        self.rows.assign(tf.zeros_like(self.rows))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size}


class CodeMetrics:
    """The metrics of every level, from 1 on.

    Attributes:
      perplexity: `perplexity_1`, ...: means over the steps of the batch's perplexity.
      dead: `dead_codes_1`, ...: shares of the codes without a row; see `DeadCodes`.
      expired: `expired_codes_1`, ...: means over the steps of the share of the codes that expire.
    """

    def __init__(self, levels: int, size: int) -> None:
        numbers = range(1, levels + 1)
        self.perplexity = [tf.keras.metrics.Mean(f"perplexity_{level}") for level in numbers]
        self.dead = [DeadCodes(size, f"dead_codes_{level}") for level in numbers]
        self.expired = [tf.keras.metrics.Mean(f"expired_codes_{level}") for level in numbers]

    @property
    def all(self) -> list[tf.keras.metrics.Metric]:
        """Every metric, kind by kind."""
        return [*self.perplexity, *self.dead, *self.expired]

    def update(self, counts: tf.Tensor, expired: tf.Tensor) -> None:
        """Adds a step: the rows of each code and whether it expired, both (L, K)."""
        shares = tf.reduce_mean(tf.cast(expired, tf.float32), axis=1)
        for level, batch in enumerate(tf.unstack(counts)):
            self.perplexity[level].update_state(perplexity(batch))
            self.dead[level].update_state(batch)
            self.expired[level].update_state(shares[level])
