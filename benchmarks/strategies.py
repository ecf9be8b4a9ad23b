"""Examples a second of training under each strategy, on the CPU of this machine.

    python -m benchmarks.strategies --data_dir=DATA

One process with two threads against two workers with one thread each: both have two cores. (Threads are those inside of
an operation; beside them each process has two between operations, or it would wait for ever.) What a strategy costs is
the share of the one process's rate that is lost. Every case has its turn in each round; medians are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import statistics
import sys
import tempfile

from xdeepint_ext.experiments.local_cluster import LocalCluster


@dataclasses.dataclass(frozen=True)
class Case:
    """Args: the strategy; its processes that train; threads of each; parameter servers."""

    strategy: str
    workers: int
    threads: int
    ps: int = 0


CASES = (
    Case("one_device", 1, 1),
    Case("one_device", 1, 2),
    Case("multi_worker", 2, 1),
    Case("parameter_server", 2, 1, ps=1),
)
BASE = CASES[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="what data.prepare wrote")
    parser.add_argument("--rounds", type=int, default=3, help="runs of every case")
    parser.add_argument("--steps", type=int, default=400, help="training steps of a run")
    parser.add_argument("--batch_size", type=int, default=4096)
    parser.add_argument("--quick", action="store_true", help="one round of 40 steps, to see whether it works")
    arguments = parser.parse_args()
    rounds, steps = (1, 40) if arguments.quick else (arguments.rounds, arguments.steps)
    rates: dict[Case, list[float]] = {case: [] for case in CASES}
    for _ in range(rounds):
        for case in CASES:
            rates[case].append(_rate(case, arguments.data_dir, arguments.batch_size, steps))
    base = statistics.median(rates[BASE])
    print("| strategy | processes x threads | examples/s | of one process |\n|---|---|---:|---:|")
    for case, found in rates.items():
        rate = statistics.median(found)
        print(f"| {case.strategy} | {case.workers} x {case.threads} | {rate:,.0f} | {rate / base:.2f} |")


def _rate(case: Case, data_dir: str, batch_size: int, steps: int) -> float:
    """Examples a second of a run, its first steps and its evaluation not counted."""
    with tempfile.TemporaryDirectory(prefix="xdeepint-strategies-") as directory:
        flags = [f"--data_dir={data_dir}", f"--model_dir={directory}/run", f"--batch_size={batch_size}"]
        flags += [f"--max_steps={steps}", "--epochs=100000", "--early_stopping=none", f"--eval_every={steps}"]
        flags += ["--evaluate=test", "--noreport", "--noprogress", f"--strategy={case.strategy}"]
        command = [sys.executable, "-m", "xdeepint_ext.experiments.xdeepint", *flags]
        output = io.StringIO()
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        cluster = LocalCluster(
            command, case.workers, case.ps, environment=environment, threads=case.threads, output=output
        )
        cluster.start()
        if cluster.wait():
            sys.exit(output.getvalue()[-4000:])
        with open(os.path.join(directory, "run", "metrics.json"), encoding="utf-8") as stream:
            return float(json.load(stream)["examples_per_second"])


if __name__ == "__main__":
    main()
