"""Random tables and look-ups with duplicates, for the tests of the row-wise optimizers."""

import dataclasses

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from tests.optimizers.reference import sum_in_batch_order


@dataclasses.dataclass
class Training:
    """A table and the gradients of a few batches of look-ups in it."""

    table: np.ndarray
    ids: list[np.ndarray]
    values: list[np.ndarray]

    def sparse(self, step: int) -> tf.IndexedSlices:
        return tf.IndexedSlices(
            tf.constant(self.values[step]), tf.constant(self.ids[step]), tf.constant(self.table.shape)
        )

    def dense(self, step: int) -> tf.Tensor:
        return tf.constant(sum_in_batch_order(self.ids[step], self.values[step], len(self.table)))

    @property
    def steps(self) -> range:
        return range(len(self.ids))

    @property
    def touched(self) -> set[int]:
        return {int(row) for ids in self.ids for row in ids}


def draw(seed: int, rows: int, width: int, lookups: list[int], dtype: type = np.float32) -> Training:
    """A training of len(lookups) batches; a fifth of the gradients is exactly zero."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, rows, size=m).astype(np.int64) for m in lookups]
    values = [(rng.normal(size=(m, width)) * (rng.random((m, 1)) > 0.2)).astype(dtype) for m in lookups]
    return Training(rng.normal(size=(rows, width)).astype(dtype), ids, values)


trainings = st.builds(
    draw,
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 7),
    width=st.sampled_from([1, 2, 3, 5, 8, 16, 31, 33]),
    lookups=st.lists(st.integers(0, 12), min_size=1, max_size=4),
)
