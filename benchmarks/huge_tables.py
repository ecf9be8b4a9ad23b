"""Step time, touched rows and memory of embedding tables of 10 thousand to 100 million rows.

    python -m benchmarks.huge_tables [--largest=10000000] [--optimizers=adagrad,adam,paper]

A model is xDeepInt on 39 fields of width 16, whose tables have that many rows together; batches of 4096, ids by
Zipf's law with exponent 1.3 in each field, spread over the rows. `tables` is a step of the tables alone: look-up,
gradient, adding up equal ids, optimizer; `whole` is a training step of the model. All sizes of an optimizer live in one
process and take turns. A size is refused, by the check that a run makes too, where weights and slots would take more
than 70 % of the machine's memory, or more than is free.
"""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import time

import numpy as np
import tensorflow as tf

from benchmarks.memory import in_process_that_gives_back, peak_memory, status
from benchmarks.report import machine
from benchmarks.settings import BATCH, NUM_LAYERS, ZIPF
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.optimizer_options import make_optimizers
from xdeepint_ext.experiments.table_costs import available_memory, check_memory, table_costs
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.schema import Feature, Schema

FIELDS, WIDTH, SUBSPACES = 39, 16, 4
SIZES = (10_000, 1_000_000, 10_000_000, 100_000_000)
BATCHES = 8
SHARE = 0.7
GOAL = 1.6


class Case:
    """A model with tables of a size, and the times of its steps in milliseconds."""

    def __init__(self, rows: int, optimizer: str) -> None:
        self.rows, self.per_field = rows, rows // FIELDS
        self.config = Config(data_dir="-", optimizer=optimizer, batch_size=BATCH)
        self.schema = schema(self.per_field)
        self.tables: list[float] = []
        self.whole: list[float] = []

    def build(self) -> None:
        """Makes weights and slots."""
        self.model = XDeepInt(self.schema, width=WIDTH, num_layers=NUM_LAYERS, num_subspaces=SUBSPACES)
        self.model.build_from_schema()
        made = make_optimizers(self.config, 1000)
        self.model.compile({group: made[group] for group in ("embedding", "interaction", "default")})
        self.model.optimizer.build(self.model.trainable_variables)
        self.batches = [self._batch(number) for number in range(BATCHES)]
        self.touched = statistics.mean(
            sum(len(np.unique(ids)) for ids in features.values()) for features, _ in self.batches
        )
        self._optimizer = made["embedding"]
        self._tables = tf.function(self._tables_alone)
        self._whole = tf.function(lambda features, labels: self.model.train_step((features, labels)))
        for features, labels in self.batches:  # the first step of G-FTRL passes over the table
            self._whole(features, labels)
            self._tables(features)

    def _batch(self, number: int) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        random = np.random.default_rng(number)
        # A multiplier without a common divisor spreads the ranks over the rows, one to one.
        multiplier = next(m for m in itertools.count(self.per_field * 5 // 8 | 1) if math.gcd(m, self.per_field) == 1)
        ranks = (random.zipf(ZIPF, (BATCH, FIELDS)).astype(np.uint64) - 1) % self.per_field
        ids = 1 + (ranks.astype(np.int64) * multiplier) % self.per_field
        labels = random.integers(0, 2, (BATCH, 1)).astype(np.float32)
        return {f"f{n}": tf.constant(ids[:, n : n + 1]) for n in range(FIELDS)}, tf.constant(labels)

    def _tables_alone(self, features: dict[str, tf.Tensor]) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.model.embedding(features)))
        table = self.model.embedding.table
        self._optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    def turn(self, number: int) -> None:
        """A step of each kind."""
        features, labels = self.batches[number % BATCHES]
        for work, times in (
            (lambda: self._tables(features), self.tables),
            (lambda: self._whole(features, labels), self.whole),
        ):
            start = time.perf_counter()
            work()
            times.append(1e3 * (time.perf_counter() - start))


def schema(values: int) -> Schema:
    """Ids of 39 fields, each with so many values."""
    options = {"dtype": "int", "lookup": "identity", "num_values": values}
    return Schema([*(Feature(f"f{n}", **options) for n in range(FIELDS)), Feature("click", "numeric", "label")])


def measure(optimizer: str, largest: int, rounds: int) -> list[dict[str, object]]:
    """A row for each size."""
    cases, found, costs = [], [], []
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for rows in [size for size in SIZES if size <= largest]:
        case = Case(rows, optimizer)
        more = table_costs(case.config, case.schema)
        used = 1e6 * status("VmRSS")
        free = available_memory() or total
        try:
            check_memory(more, optimizer, int(min(free, SHARE * total - used) / 0.9))  # that keeps a tenth back itself
        except MemoryError as error:
            found.append({"rows": rows, "refused": str(error)})
            continue
        costs += more
        peak = peak_memory(case.build)
        held = status("VmRSS") - used / 1e6
        expected = sum(cost.total(optimizer) for cost in more) / 1e6
        found.append({"rows": rows, "expected": expected, "held": held, "peak": peak, "touched": case.touched})
        cases.append(case)
    for number in range(rounds):
        for case in cases:
            case.turn(number)
    for case in cases:
        row = next(row for row in found if row["rows"] == case.rows)
        row |= {"tables": statistics.median(case.tables), "whole": statistics.median(case.whole)}
        row["quartiles"] = statistics.quantiles(case.tables, n=4)
    return found


def show(optimizer: str, rows: list[dict[str, object]]) -> None:
    """Prints the table of an optimizer, and whether the goal is reached."""
    print(f"\n**--optimizer={optimizer}**\n")
    print("| rows | touched rows | tables, ms | quartiles | whole, ms | weights and slots, MB | held, MB | peak, MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        if "refused" in row:
            print(f"| {row['rows']:,} | | | | | | | | refused: {row['refused']}")
            continue
        low, _, high = row["quartiles"]  # type: ignore[misc]
        print(
            f"| {row['rows']:,} | {row['touched']:,.0f} | {row['tables']:.1f} | {low:.1f} - {high:.1f} | "
            f"{row['whole']:.1f} | {row['expected']:,.0f} | {row['held']:,.0f} | {row['peak']:,.0f} |"
        )
    times = {row["rows"]: row for row in rows if "tables" in row}
    if 1_000_000 in times and max(times) > 1_000_000:
        for kind in ("tables", "whole"):
            ratio = times[max(times)][kind] / times[1_000_000][kind]  # type: ignore[operator]
            print(
                f"\ngoal: {kind}, {max(times):,} rows over 1,000,000 <= {GOAL}: {ratio:.2f}, "
                f"{'yes' if ratio <= GOAL else 'NO'}"
            )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", default="adagrad,adam,paper", help="choices of --optimizer of experiments")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="rows of the largest tables")
    parser.add_argument("--rounds", type=int, default=40, help="steps of each kind and size")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.largest, options.rounds)))
        return
    print(f"{machine()}, TensorFlow {tf.__version__}", flush=True)
    for optimizer in options.optimizers.split(","):
        flags = [f"--one={optimizer}", f"--largest={options.largest}", f"--rounds={options.rounds}"]
        show(optimizer, in_process_that_gives_back("benchmarks.huge_tables", *flags))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
