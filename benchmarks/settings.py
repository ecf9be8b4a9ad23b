"""What is measured: the tables' sizes, the batches and the models. No TensorFlow here: both environments read it."""

from __future__ import annotations

import dataclasses

BATCH = 4096
ZIPF = 1.3
NUM_LAYERS = 3
CROSS_LAYERS = 3
DNN_UNITS = (400, 400, 400)
PEERS = ("DCN-V2", "xDeepFM")
SOURCES = ("memory", "materialised", "raw")
OPTIMIZERS = ("G-FTRL + FTRL", "LazyAdam + Adam")
# Every run begins with one call that is not timed, so that all buffers are as they are in the middle of an epoch.
TIMED_CALLS = 4


@dataclasses.dataclass(frozen=True)
class Setting:
    """One size of problem.

    Args:
      name: a, b or c.
      fields: F.
      ids: of all fields together, divided equally.
      width: K.
      num_subspaces: h; 4 does not divide a width of 10.
      steps: XDeepInt's timed steps in one run; a whole number of shuffle windows, so that reading ahead saves nothing.
      peer_steps: the peers' timed steps in one run.
    """

    name: str
    fields: int
    ids: int
    width: int
    num_subspaces: int
    steps: int
    peer_steps: int

    @property
    def ids_per_field(self) -> int:
        return self.ids // self.fields

    @property
    def rows(self) -> int:
        """m: rows of the field matrix after sub-space crossing."""
        return self.fields * self.num_subspaces

    @property
    def columns(self) -> int:
        """s: columns of a sub-space."""
        return self.width // self.num_subspaces

    @property
    def operations(self) -> int:
        """Multiplications and additions of the PIN in one step: forward once, backward twice (kernels and inputs)."""
        return 3 * 2 * NUM_LAYERS * self.rows**2 * self.columns * BATCH

    def __str__(self) -> str:
        return (
            f"({self.name}) {self.fields} fields, {self.ids:,} ids, width {self.width}, {self.num_subspaces} sub-spaces"
        )


SETTINGS = {
    "a": Setting("a", 10, 5_000, 10, 5, steps=64, peer_steps=16),
    "b": Setting("b", 39, 1_000_000, 16, 4, steps=16, peer_steps=4),
    "c": Setting("c", 39, 10_000_000, 16, 4, steps=16, peer_steps=4),
}
