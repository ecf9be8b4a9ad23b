"""Times the online part of pre-ranking: one user against cached items, by dot product, IntTower, RankTower and COLD.

    python -m benchmarks.tower_latency [--results=results/kuairand_lists.csv]

The towers have 4 heads of width 16 and the dot product a vector of as many numbers; ten features of users and ten of
items have width 16. The online part is what is left when the user's representation and the items' are at hand; of
COLD, whose one network sees every pair as a whole, the looked-up vectors are. COLD has its default network, 1024 to 64,
and once more that of the competitors' table, 128 and 64. All is compiled by XLA for the number of items. Models take
turns, in an order that is drawn anew for each round; nothing is trained. `--results` names what `experiments.compare`
wrote for trained models of these kinds, for a column of how well they rank; their widths may be others.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.report import machine
from xdeepint_ext.models import RankTower, TwoTower
from xdeepint_ext.models.baselines import COLD, IntTower
from xdeepint_ext.models.towers import TowerModel
from xdeepint_ext.schema import Feature, Schema

FEATURES, VALUES = 10, 100
HEADS, HEAD_DIM = 4, 16
HIDDEN = [300, 300]
ITEMS = (100, 1000, 10000)
LEAST_ROUNDS = 20
SMALL_COLD = "COLD, 128 and 64"
ROWS = {"dot product": "twotower", "IntTower": "inttower", "RankTower": "ranktower", SMALL_COLD: "cold"}
"""Model -> its row in the competitors' table."""
QUALITY = "test.candidates.recall_at_50"
GOALS = {"IntTower": 4.0, "COLD": 0.1}
"""Model -> RankTower's median at 1,000 items, as a multiple of that model's, must not be above this."""


class Online(NamedTuple):
    """The online part of a model for a number of items.

    Args:
      score: makes the scores.
      bytes_per_item: of what is kept of an item, in float32.
    """

    score: Callable[[], tf.Tensor]
    bytes_per_item: int


def schema() -> Schema:
    """Ids of users, then of items."""
    options = {"dtype": "int", "lookup": "identity", "num_values": VALUES}
    return Schema(Feature(f"{side}_{n}", role=side, **options) for side in ("user", "item") for n in range(FEATURES))


def features(items: int) -> dict[str, tf.Tensor]:
    """Ids of one user and some items."""
    random = np.random.default_rng(0)
    rows = {"user": 1, "item": items}
    return {f.name: tf.constant(random.integers(1, VALUES, (rows[f.roles[0]], 1))) for f in schema().inputs}


def of_towers(model: TowerModel, items: int) -> Online:
    """What `score` needs, and its call."""
    given = features(items)
    user, kept = model.user_tower(given), model.item_tower(given)[tf.newaxis]
    score = tf.function(model.score, jit_compile=True)
    return Online(lambda: score(user, kept), kept.dtype.size * int(np.prod(kept.shape[2:])))


def of_cold(model: COLD, items: int) -> Online:
    """The vectors of user and items, and the network."""
    model.build_from_schema()
    given = features(items)
    user, kept = (model.embedding(given, only=[n for n in given if n.startswith(side)]) for side in ("user", "item"))

    @tf.function(jit_compile=True)
    def score(user: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
        return model.trunk(tf.concat([tf.repeat(user, items, axis=0), kept], axis=1))

    return Online(lambda: score(user, kept), kept.dtype.size * int(np.prod(kept.shape[1:])))


def online(items: int) -> dict[str, Online]:
    """Model -> its online part, called once."""
    given = schema()
    heads = {"num_heads": HEADS, "head_dim": HEAD_DIM}
    found = {
        "dot product": of_towers(TwoTower(given, units=[*HIDDEN, HEADS * HEAD_DIM], similarity="dot"), items),
        "IntTower": of_towers(IntTower(given, **heads), items),
        "RankTower": of_towers(RankTower(given, **heads), items),
        "COLD": of_cold(COLD(given), items),
        SMALL_COLD: of_cold(COLD(given, units=[128, 64]), items),
    }
    for part in found.values():
        part.score()
    return found


def measure(parts: dict[str, Online], seconds: float) -> dict[str, np.ndarray]:
    """Model -> seconds of each call."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    random = np.random.default_rng(0)
    until = time.perf_counter() + seconds
    rounds = 0
    while time.perf_counter() < until or rounds < LEAST_ROUNDS:
        rounds += 1
        for name in random.permutation(list(parts)).tolist():
            start = time.perf_counter()
            parts[name].score().numpy()
            times[name].append(time.perf_counter() - start)
    return {name: np.array(found) for name, found in times.items()}


def quality(file: str, metric: str) -> dict[str, str]:
    """Model -> mean and standard deviation of a metric over the seeds of its row in a file of results.

    Raises:
      ValueError: the file lacks the metric or a row, or a row has runs of several settings.
    """
    with open(file, encoding="utf-8", newline="") as stream:
        runs = list(csv.DictReader(stream))
    found = {}
    for name, row in ROWS.items():
        own = [run for run in runs if run["row"] == row and run.get(metric)]
        if not own:
            raise ValueError(f"--results: {file} has no run of row {row!r} with {metric}")
        if len({(run["data"], run["settings"]) for run in own}) > 1:
            raise ValueError(f"--results: row {row!r} of {file} has runs of several settings or data")
        values = [float(run[metric]) for run in own]
        spread = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        found[name] = f"{statistics.mean(values):.4f}{spread}"
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each number of items, all models together")
    parser.add_argument("--results", help="CSV of the competitors' table")
    parser.add_argument("--metric", default=QUALITY, help="its column to show")
    options = parser.parse_args()
    shown = quality(options.results, options.metric) if options.results else {}
    print(f"{machine()}, TensorFlow {tf.__version__}\n")
    titles = [
        "p50, ms",
        "p99, ms",
        "of RankTower's p50",
        "bytes an item",
        "calls",
        *([options.metric] if shown else []),
    ]
    print(f"| items | model | {' | '.join(titles)} |")
    print(f"| ---: | --- |{' ---: |' * len(titles)}")
    medians = {}
    for items in ITEMS:
        parts = online(items)
        times = measure(parts, options.seconds)
        medians[items] = {name: float(np.median(found)) for name, found in times.items()}
        for name, found in times.items():
            p50, p99 = (1e3 * np.quantile(found, q) for q in (0.5, 0.99))
            share = medians[items][name] / medians[items]["RankTower"]
            cells = [f"{p50:.3f}", f"{p99:.3f}", f"{share:.2f}", f"{parts[name].bytes_per_item:,}", str(len(found))]
            print(
                f"| {items:,} | {name} | {' | '.join([*cells, *([shown.get(name, '')] if shown else [])])} |",
                flush=True,
            )
    for name, goal in GOALS.items():
        share = medians[1000]["RankTower"] / medians[1000][name]
        verdict = "yes" if share <= goal else "NO"
        print(f"\ngoal: RankTower at 1,000 items at most {goal:g} times {name}: {share:.2f}, {verdict}")


if __name__ == "__main__":
    main()
