"""Times a training step of GroupRanker beside that of its backbone alone, with the memory that it takes.

    python -m benchmarks.groupce_step

12 fields of the user and 12 of the item, of width 16 and 10,000 ids each, three levels of 32 codes, batches of 8192:
look-ups, forward, losses, backward, codebooks, and the default optimizers, in one graph; no input pipeline. All models
take turns; the table has medians, and ratios of processor time, which others on the machine disturb less. Memory is the
growth of the peak resident size during one step (Linux only), in a process of its own in which what is freed goes back
to the system at once.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks.memory import in_process_that_gives_back, peak_memory
from benchmarks.report import machine
from benchmarks.timing import Timing, median, time_steps
from xdeepint_ext.models import GroupRanker, RankingModel, XDeepInt
from xdeepint_ext.models.baselines import DCNV2, DNN
from xdeepint_ext.schema import Feature, Schema

FIELDS, IDS, BATCH = 12, 10_000, 8192
SCHEMA = Schema(
    [
        *(Feature(f"{side}_{i}", role=side, num_values=IDS) for side in ("user", "item") for i in range(FIELDS)),
        Feature("click", "numeric", "label"),
    ]
)
BACKBONES = {"DCN-V2": DCNV2, "DNN": DNN, "xDeepInt": XDeepInt}
GROUPS = functools.partial(GroupRanker, num_levels=3, codebook_size=32)
FORMS: dict[str, tuple[Callable[..., RankingModel], float]] = {
    "alone": (lambda schema, backbone: backbone(schema), 1.0),
    "and groups": (functools.partial(GROUPS, auxiliary_weight=0.0), 1.2),
    "and groups, auxiliary pass": (GROUPS, 2.2),
}
"""Name -> model, and how many times the backbone's step it may take."""
GROWTH = (2048, 4096, 8192, 16384)


class Step:
    """A training step on a batch of its own."""

    def __init__(self, backbone: str, form: str, batch: int) -> None:
        random = np.random.default_rng(0)
        ids = {name: random.integers(1, IDS, (batch, 1)) for name in (f.name for f in SCHEMA.inputs)}
        features = {name: tf.constant(values) for name, values in ids.items()}
        labels = tf.constant(random.integers(0, 2, (batch, 1)), tf.float32)
        model = FORMS[form][0](SCHEMA, backbone=BACKBONES[backbone])
        model.compile()
        model.build_from_schema()
        model.optimizer.build(model.trainable_variables)
        self._step = tf.function(lambda: model.train_step((features, labels))["loss"])

    def __call__(self) -> None:
        """One step."""
        np.asarray(self._step())


def measure(backbone: str, rounds: int) -> dict[str, Timing]:
    """Form -> median seconds of a step."""
    steps = {form: Step(backbone, form, BATCH) for form in FORMS}
    found: dict[str, list[Timing]] = {form: [] for form in FORMS}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for form, step in steps.items():
            found[form].append(time_steps(step, 1))
    return {form: median(timings) for form, timings in found.items()}


def memory(backbone: str) -> dict[str, list[float]]:
    """Form -> megabytes that a step takes, for each batch of `GROWTH`."""
    return {form: [_memory_of(Step(backbone, form, batch)) for batch in GROWTH] for form in FORMS}


def _memory_of(step: Step) -> float:
    step()
    return peak_memory(step)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", action="store_true", help="prints one backbone's memory as JSON, no times")
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(memory(arguments.backbones[0])))
        return
    print(f"{machine()}, TensorFlow {tf.__version__}\n")
    heads = " | ".join(f"MB at {batch}" for batch in GROWTH)
    print(f"| model | ms | processor ms | of the backbone's | goal | {heads} |\n|{' --- |' * (5 + len(GROWTH))}")
    for backbone in arguments.backbones:
        times = measure(backbone, arguments.rounds)
        sizes = in_process_that_gives_back("benchmarks.groupce_step", "--memory", f"--backbones={backbone}")
        base = times["alone"]
        for form, timing in times.items():
            ratio, goal = timing.processor / base.processor, FORMS[form][1]
            said = f"{goal}: {'yes' if ratio <= goal else 'NO'}" if goal > 1 else ""
            cells = [f"{1e3 * timing.wall:.0f}", f"{1e3 * timing.processor:.0f}", f"{ratio:.2f}", said]
            print(f"| {' | '.join([f'{backbone} {form}', *cells, *(f'{size:.0f}' for size in sizes[form])])} |")


if __name__ == "__main__":
    main()
