"""Examples a second of training: XDeepInt from memory and from records, DeepCTR, and the multiply-add limit.

    python -m benchmarks.training_speed

Every case of every setting has its turn in each round, so that all of them meet the same machine; medians over the
rounds are printed. All runs are on the CPU, with TensorFlow's own choice of threads.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping

import tensorflow as tf

from benchmarks import clicks, peers, report
from benchmarks.limit import Limit
from benchmarks.report import LIMIT, OURS, Case
from benchmarks.runner import Runner
from benchmarks.settings import BATCH, OPTIMIZERS, PEERS, SETTINGS, SOURCES
from benchmarks.timing import Timing
from xdeepint_ext.data.read import SHUFFLE_BUFFER
from xdeepint_ext.utils.progress import Progress

RECORDS = 4 * SHUFFLE_BUFFER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", default="abc", help="which of a, b, c; c needs 12 GB of memory")
    parser.add_argument("--rounds", type=int, default=5, help="runs of every case")
    parser.add_argument("--quick", action="store_true", help="one round of a and b, to see whether it works")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="measure DeepCTR, too")
    arguments = parser.parse_args()
    tf.config.set_visible_devices([], "GPU")
    settings, rounds = ("ab", 1) if arguments.quick else (arguments.settings, arguments.rounds)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="xdeepint-benchmark-"))
        runs = {}
        for name in settings:
            runs |= _our_runs(name, directory)
        versions = f"TensorFlow {tf.__version__}"
        if arguments.peers:
            deepctr = stack.enter_context(peers.Peers(directory))
            versions += f"; {deepctr.versions}"
            runs |= {Case(s, peer): _peer_run(deepctr, s, peer) for s in settings for peer in PEERS}
        measured = _measure(runs, rounds)
    ordered = {case: measured[case] for name in settings for case in measured if case.setting == name}
    print(f"{report.machine()}; {versions}; batches of {BATCH}; medians of {rounds} rounds\n")
    print(report.table(ordered), report.limits(ordered), report.goals(ordered), sep="\n\n")


def _our_runs(name: str, directory: str) -> dict[Case, Callable[[], Timing]]:
    setting = SETTINGS[name]
    ranks, labels = clicks.draw(setting, RECORDS)
    peers.save(setting, ranks, labels, directory)
    runner = Runner(setting, ranks, labels, os.path.join(directory, name))
    runs: dict[Case, Callable[[], Timing]] = {Case(name, LIMIT): Limit(setting).run}
    for optimizers in OPTIMIZERS:
        for source in SOURCES:
            runs[Case(name, OURS, optimizers, source)] = lambda o=optimizers, s=source: runner.run(o, s)
    return runs


def _peer_run(deepctr: peers.Peers, name: str, peer: str) -> Callable[[], Timing]:
    return lambda: deepctr.run(SETTINGS[name], peer)


def _measure(runs: Mapping[Case, Callable[[], Timing]], rounds: int) -> dict[Case, list[Timing]]:
    """Every case's timings, one for each round; a first round, which traces and fills caches, does not count."""
    measured: dict[Case, list[Timing]] = {case: [] for case in runs}
    with Progress((1 + rounds) * len(runs), "runs", "benchmark") as progress:
        for turn in range(1 + rounds):
            for case, run in runs.items():
                timing = run()
                if turn:
                    measured[case].append(timing)
                progress.update(1)
    return measured


if __name__ == "__main__":
    main()
