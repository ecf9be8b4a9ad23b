"""Times forward and backward of every loss on one core, beside TF-Ranking's, with the memory that a step takes.

    python -m benchmarks.loss_step

TensorFlow has one thread in operations and one between them. All cases of a shape take turns within a round, a turn
being at least 50 ms of steps; the tables have medians over the rounds. A step is the loss and its gradient with respect
to the logits, in float32, of static shapes. Lists and batches hold grades 0 .. 4, of which 3 and 4, a tenth, are
positive where a loss wants binary labels.

Memory is the growth of the peak resident size during one step (Linux only), in a process of its own in which what is
freed goes back to the system at once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping

import tensorflow as tf

from benchmarks.loss_cases import BATCH, CODES, LEVELS, PEER, SHAPES, Data, Step, dcn_step, groupwise_step, of_shape
from benchmarks.memory import in_process_that_gives_back, peak_memory
from benchmarks.report import machine

TURN = 0.05
GROUPWISE = "GroupwiseListCrossEntropy"


def steps_of(shape: str) -> dict[str, Step]:
    """Name -> step, of all that is measured at a shape."""
    if shape == "codes":
        steps = {f"{GROUPWISE}, B = {rows}": groupwise_step(rows) for rows in (BATCH, 2 * BATCH)}
        return {**steps, "DCN-V2's layers": dcn_step()}
    data = Data(shape)
    return {name: run for case in of_shape(shape) for name, run in data.steps(case).items()}


def times_of(shape: str, rounds: int) -> dict[str, float]:
    """Name -> median of the milliseconds of a step."""
    steps, repeats = steps_of(shape), {}
    for name, run in steps.items():
        first = seconds(run, 1)
        repeats[name] = 1 if first > 1 else max(1, round(TURN / seconds(run, 1)))
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, run in steps.items():
            found[name].append(1e3 * seconds(run, repeats[name]))
    return {name: statistics.median(times) for name, times in found.items()}


def seconds(run: Step, repeat: int) -> float:
    """Seconds of one step, the mean of `repeat`."""
    start = time.perf_counter()
    for _ in range(repeat):
        run()
    return (time.perf_counter() - start) / repeat


def memory_of(shape: str) -> dict[str, float]:
    """Name -> MB at the peak of a step above those before it."""
    found = {}
    for name, run in steps_of(shape).items():
        run()
        found[name] = peak_memory(run)
    return found


def table(times: Mapping[str, float], memory: Mapping[str, float]) -> Iterator[str]:
    """Markdown."""
    yield "| loss | ms | TF-Ranking's, ms | ratio | MB | TF-Ranking's, MB |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for name, ours in times.items():
        if name.startswith(PEER):
            continue
        theirs = times.get(PEER + name)
        cells = ["", "", f"{memory[name]:.0f}", ""]
        if theirs is not None:
            cells = [f"{theirs:.2f}", f"{ours / theirs:.2f}", f"{memory[name]:.0f}", f"{memory[PEER + name]:.0f}"]
        yield f"| {' | '.join([name, f'{ours:.2f}', *cells])} |"


def goals(times: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Markdown: what was to be reached, and what was."""
    yield "| goal | reached | |"
    yield "| --- | ---: | --- |"
    checks = []
    for shape, found in times.items():
        for name in found:
            if PEER + name in found:
                checks.append((f"{SHAPES[shape]}: {name} over TF-Ranking's", 1.0, found[name] / found[PEER + name]))
    if "codes" in times:
        one, two, dcn = times["codes"].values()
        checks += [
            (f"group-wise, B = {BATCH}: ms", 3.0, one),
            ("group-wise: share of DCN-V2's layers", 0.05, one / dcn),
            (f"group-wise: B = {2 * BATCH} over B = {BATCH}", 2.3, two / one),
        ]
    for text, goal, value in checks:
        yield f"| {text} <= {goal:g} | {value:.3g} | {'met' if value <= goal else 'NO'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes = [*SHAPES, "codes"]
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--shapes", nargs="+", default=shapes, choices=shapes)
    parser.add_argument("--memory", choices=shapes, help="prints the memory of the steps at a shape as JSON, no times")
    arguments = parser.parse_args()
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    if arguments.memory:
        print(json.dumps(memory_of(arguments.memory)))
        return
    print(f"{machine()}, of which one is used; TensorFlow {tf.__version__}; medians of {arguments.rounds} rounds")
    titles = {**SHAPES, "codes": f"groups by {LEVELS} levels of {CODES} codes"}
    times = {}
    for shape in arguments.shapes:
        times[shape] = times_of(shape, arguments.rounds)
        print(f"\n{titles[shape]}\n")
        print(
            "\n".join(table(times[shape], in_process_that_gives_back("benchmarks.loss_step", f"--memory={shape}"))),
            flush=True,
        )
        print(f"\nload average of the last minute: {os.getloadavg()[0]:.1f}", flush=True)
    print("\n" + "\n".join(goals(times)))


if __name__ == "__main__":
    main()
