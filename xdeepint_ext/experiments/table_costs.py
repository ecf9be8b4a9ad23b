"""What each embedding table of a run costs, with its optimizer's slots, before anything of it is allocated."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import tensorflow as tf

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.optimizer_options import OPTIMIZERS, SLOTS
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.tables import embeddings, parts

__all__ = ["TableCost", "available_memory", "check_memory", "describe_tables", "table_costs"]

FLOAT_BYTES = 4
"""Weights and slots are float32 under every policy of `--mixed_precision`."""
SPARE = 0.1
"""Share of the free memory that must be left for batches, activations and the system; our choice."""
GROUP = "embedding"


@dataclasses.dataclass(frozen=True)
class TableCost:
    """One table of one embedding layer.

    Args:
      name: of the table.
      rows: ids, padding included.
      width: numbers of a row.
      trainable: only then it has slots.
    """

    name: str
    rows: int
    width: int
    trainable: bool = True

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        return self.rows * self.width * FLOAT_BYTES

    def slots(self, optimizer: str) -> int:
        """Bytes of the slots under a choice of `--optimizer`."""
        return self.weights * SLOTS[OPTIMIZERS[optimizer][GROUP]] if self.trainable else 0

    def total(self, optimizer: str) -> int:
        """Bytes of both."""
        return self.weights + self.slots(optimizer)


def table_costs(config: Config, schema: Schema) -> list[TableCost]:
    """The tables of a run's model, largest first; a table that several layers have stands there as often.

    The model is made, but none of its weights.

    Args:
      config: of the run.
      schema: whose tables' sizes are known.

    Raises:
      ValueError: the model cannot be made of the schema.
    """
    rows = {name: table.rows for name, table in schema.tables.items()}
    model = config.options.make(schema)
    found = []
    for layer in embeddings(model):
        found += [TableCost(name, rows[name], *key) for name, (key, _) in parts(layer).items()]
    for layer in model.submodules:
        if isinstance(layer, tf.keras.layers.Embedding):  # a number or row for each item beside its vector
            found.append(TableCost(f"{layer.name} of items", layer.input_dim, layer.output_dim))
    return sorted(found, key=lambda cost: -cost.weights)


def available_memory() -> int | None:
    """Bytes of host memory that a process may still take: the system's and its container's; None = not known."""
    known = []
    meminfo = pathlib.Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        known.append(1024 * int(lines["MemAvailable"].split()[0]))
    limit, used = (pathlib.Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and limit.read_text().strip().isdecimal():
        known.append(int(limit.read_text()) - int(used.read_text()))
    return min(known, default=None)


def check_memory(costs: Iterable[TableCost], optimizer: str, available: int | None, copies: int = 1) -> None:
    """Refuses tables that do not fit, before they are allocated.

    Args:
      costs: see `table_costs`.
      optimizer: choice of `--optimizer`.
      available: bytes; None = not known, and then nothing is refused.
      copies: how many devices of this memory hold them all.

    Raises:
      MemoryError: names the largest table, with the sum.
    """
    costs = list(costs)
    total = copies * sum(cost.total(optimizer) for cost in costs)
    if available is None or total <= (1 - SPARE) * available:
        return
    largest = max(costs, key=lambda cost: cost.weights)
    others = [name for name in OPTIMIZERS if copies * sum(c.total(name) for c in costs) <= (1 - SPARE) * available]
    raise MemoryError(
        f"the embedding tables do not fit: weights {_size(copies * sum(c.weights for c in costs))} + slots of "
        f"--optimizer={optimizer} {_size(copies * sum(c.slots(optimizer) for c in costs))} = {_size(total)}"
        f"{f' ({copies} replicas)' if copies > 1 else ''}, and {_size(available)} are free, of which {SPARE:.0%} stay "
        f"for the rest; the largest table is {largest.name!r}, {largest.rows:,} rows x {largest.width}. Take "
        + (f"--optimizer={' or '.join(others)}, " if others else "")
        + "a smaller width, fewer rows (data.prepare --min_count or --max_values, or hash buckets), or shards of the "
        "table on several machines"
    )


def describe_tables(costs: Sequence[TableCost], optimizer: str, shown: int = 10) -> str:
    """The report: a line a table, the sum, and the sum under the other optimizers.

    Args:
      costs: see `table_costs`.
      optimizer: choice of `--optimizer`.
      shown: tables with a line of their own; the others share one.
    """
    lines = [f"{'table':24} {'rows':>14} {'width':>6} {'weights':>10} {'slots':>10}"]
    for cost in costs[:shown]:
        slots = _size(cost.slots(optimizer))
        lines.append(f"{cost.name:24} {cost.rows:14,} {cost.width:6} {_size(cost.weights):>10} {slots:>10}")
    parts = [(f"{len(costs) - shown} others", costs[shown:])] if len(costs) > shown else []
    for name, some in [*parts, ("together", costs)]:
        weights, slots = (_size(sum(x)) for x in ([c.weights for c in some], [c.slots(optimizer) for c in some]))
        lines.append(f"{name:24} {sum(cost.rows for cost in some):14,} {'':6} {weights:>10} {slots:>10}")
    sums = [f"{name} {_size(sum(cost.total(name) for cost in costs))}" for name in OPTIMIZERS]
    return "\n".join([*lines, f"weights and slots by --optimizer: {', '.join(sums)}"])


def copies_on_host(strategy: tf.distribute.Strategy) -> int:
    """How many copies of each table a strategy keeps in this host's memory: one for each logical CPU."""
    if strategy.num_replicas_in_sync == 1:
        return 1
    devices = {device.rpartition("/")[2] for device in strategy.extended.parameter_devices}
    return max(1, sum("CPU" in device for device in devices))


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
