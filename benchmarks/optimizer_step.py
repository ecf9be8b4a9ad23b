"""Times one optimizer step on embedding tables of growing size, at equal touched rows.

    python benchmarks/optimizer_step.py

A step gets what a look-up of 4096 examples with 39 fields sends back: 159,744 ids, drawn from Zipf(1.3) in each field,
and a gradient row for each. The distinct ids of a block are the same number for all of its tables; they are spread over
the rows at random. Batches alternate, so that a table's rows are not all in the cache from the step before, and all
optimizers and tables take turns within a round. All steps run in a tf.function on the CPU.

Memory is the growth of the peak resident size during a pass over the batches, after freed memory was given back to the
system (Linux only); what the allocator keeps all the same can serve a step, so read the largest number of a column. The
first step, with GroupFtrl's one pass over the table, is reported by itself.
"""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from benchmarks.memory import peak_memory
from xdeepint_ext.optimizers import GroupFtrl, LazyAdagrad, LazyAdam
from xdeepint_ext.optimizers.sparse_gradients import sum_duplicates

FIELDS, EXPONENT = 39, 1.3
OPTIMIZERS: dict[str, Callable[[], tf.keras.optimizers.Optimizer]] = {
    "GroupFtrl": lambda: GroupFtrl.from_sum_loss(global_batch=4096),
    "LazyAdam": lambda: LazyAdam(),
    "LazyAdagrad": lambda: LazyAdagrad(),
    "Keras Adagrad": lambda: tf.keras.optimizers.Adagrad(jit_compile=False),
    "Keras Adam": lambda: tf.keras.optimizers.Adam(jit_compile=False),
}
DENSE_UP_TO = {"Keras Adam": 1_000_000}  # a step of it passes over the table; at ten million rows it takes seconds


@dataclasses.dataclass
class Batch:
    ids: tf.Tensor
    gradient: tf.Tensor


class Case:
    """An optimizer on a table, and the times of its steps."""

    def __init__(self, name: str, rows: int, width: int):
        self.name, self.rows = name, rows
        self.table = tf.Variable(tf.random.normal([rows, width], stddev=0.25))
        self.optimizer = OPTIMIZERS[name]()
        self.optimizer.build([self.table])
        self.milliseconds: list[float] = []

        @tf.function
        def step(ids: tf.Tensor, gradient: tf.Tensor) -> None:
            slices = tf.IndexedSlices(gradient, ids, tf.constant([rows, width]))
            self.optimizer.apply_gradients([(slices, self.table)])

        self._step = step.get_concrete_function(
            tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, width], tf.float32)
        )

    def step(self, batch: Batch) -> float:
        start = time.perf_counter()
        self._step(batch.ids, batch.gradient)
        return 1e3 * (time.perf_counter() - start)


def make_batches(vocabulary: int, rows: int, batch_size: int, width: int, count: int) -> list[Batch]:
    """Look-ups of `vocabulary` ids, the same for every number of rows, at random places of the table."""
    rng = np.random.default_rng(0)
    per_field = vocabulary // FIELDS
    batches = []
    place = np.random.default_rng(1).permutation(rows)[: per_field * FIELDS]
    for _ in range(count):
        rank = (rng.zipf(EXPONENT, size=(batch_size, FIELDS)) - 1) % per_field
        ids = place[(rank + np.arange(FIELDS) * per_field).ravel()]
        gradient = rng.normal(scale=1e-3, size=(ids.size, width)).astype(np.float32)
        batches.append(Batch(tf.constant(ids, tf.int64), tf.constant(gradient)))
    return batches


def run_block(vocabulary: int, sizes: list[int], arguments: argparse.Namespace) -> None:
    """Prints one table: all optimizers on all table sizes, at the same touched rows."""
    batches = {
        rows: make_batches(vocabulary, rows, arguments.batch_size, arguments.width, arguments.batches) for rows in sizes
    }
    touched = statistics.mean(len(np.unique(batch.ids)) for batch in batches[sizes[0]])
    cases, first, memory = [], {}, {}
    for rows in sizes:
        for name in OPTIMIZERS:
            if rows > DENSE_UP_TO.get(name, rows):
                continue
            case = Case(name, rows, arguments.width)
            cases.append(case)
            start = time.perf_counter()
            peak = peak_memory(lambda case=case, rows=rows: case.step(batches[rows][0]))
            first[case] = (1e3 * (time.perf_counter() - start), peak)
            memory[case] = peak_memory(lambda case=case, rows=rows: [case.step(b) for b in batches[rows]] and None)
    for turn in range(arguments.rounds):
        for case in cases:
            case.milliseconds.append(case.step(batches[case.rows][turn % arguments.batches]))

    ids = arguments.batch_size * FIELDS
    print(f"\n{ids:,} ids a step, {touched:,.0f} rows touched (mean of {arguments.batches} batches)")
    print(f"{'':14} {'':>10} {'every step':^39} {'first step':^13}")
    print(f"{'optimizer':14} {'rows':>10} {'ms':>8} {'quartiles':>15} {'ratio':>6} {'MB':>6} {'ms':>6} {'MB':>6}")
    smallest = {case.name: statistics.median(case.milliseconds) for case in reversed(cases)}
    for case in sorted(cases, key=lambda case: list(OPTIMIZERS).index(case.name)):
        low, median, high = statistics.quantiles(case.milliseconds, n=4)
        print(
            f"{case.name:14} {case.rows:10,} {median:8.2f} {low:7.2f}-{high:7.2f} {median / smallest[case.name]:6.2f} "
            f"{memory[case]:6.0f} {first[case][0]:6.0f} {first[case][1]:6.0f}"
        )


def pieces(arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Times the parts of a GroupFtrl step on one million rows, each in a tf.function of its own."""
    rows, width = 1_000_000, arguments.width
    (batch,) = make_batches(rows, rows, arguments.batch_size, width, 1)
    table = tf.Variable(tf.random.normal([rows, width]))
    optimizer = GroupFtrl()
    slices = tf.IndexedSlices(batch.gradient, batch.ids, tf.constant([rows, width]))
    distinct, positions = tf.unique(batch.ids)
    summed, weights = sum_duplicates(slices), tf.gather(table, distinct)
    state = tf.Variable(tf.zeros([rows, 2 * width]))
    old = tf.gather(state, distinct)

    def scatter() -> None:
        table.scatter_update(tf.IndexedSlices(weights, distinct))
        state.scatter_update(tf.IndexedSlices(old, distinct))

    parts = {
        "tf.unique": lambda: tf.unique(tf.cast(batch.ids, tf.int32), out_idx=tf.int64),
        "sum_duplicates (tf.unique included)": lambda: sum_duplicates(slices).values,
        "tf.math.unsorted_segment_sum instead": lambda: tf.math.unsorted_segment_sum(
            batch.gradient, positions, tf.size(distinct)
        ),
        "gather weights and state": lambda: (tf.gather(table, distinct), tf.gather(state, distinct)),
        "the formula": lambda: optimizer._next(weights, old, summed.values),
        "scatter weights and state": scatter,
    }
    for name, part in parts.items():
        function = tf.function(part, autograph=False)
        function()
        times = []
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
        yield name, statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="steps timed for each optimizer and table")
    parser.add_argument("--batch_size", type=int, default=4096)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batches", type=int, default=8, help="different batches, which take turns")
    parser.add_argument("--largest", type=int, default=10_000_000, help="rows of the largest table")
    arguments = parser.parse_args()
    for vocabulary, sizes in ((10_000, [10_000, 1_000_000, 10_000_000]), (1_000_000, [1_000_000, 10_000_000])):
        run_block(vocabulary, [rows for rows in sizes if rows <= arguments.largest], arguments)
    print("\nparts of a GroupFtrl step, one million rows of both ids and table")
    for name, milliseconds in pieces(arguments):
        print(f"{name:38} {milliseconds:8.2f} ms")


if __name__ == "__main__":
    main()
