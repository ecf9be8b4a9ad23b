"""Times a training step of DynInt's layers beside xDeepInt's, with the memory that it takes.

    python -m benchmarks.dynamic_step

39 fields of width 16, four sub-spaces, three layers, reduction ratio 16, on a field matrix of 4096 examples: forward,
loss, and the gradient with respect to weights and embeddings; no tables, no optimizer. All models take turns; the table
has medians. Memory is the growth of the peak resident size during one step (Linux only), in a process of its own in
which what is freed goes back to the system at once.
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
from xdeepint_ext.models import DynInt, RankingModel, XDeepInt

FIELDS, WIDTH, BATCH = 39, 16, 4096
SHAPE = {"num_layers": 3, "num_subspaces": 4}
MODELS: dict[str, tuple[Callable[..., RankingModel], float]] = {
    "xDeepInt": (functools.partial(XDeepInt.from_embeddings, FIELDS, WIDTH, **SHAPE), 1.0),
    **{
        name: (functools.partial(DynInt.from_embeddings, FIELDS, WIDTH, **SHAPE, **options), goal)
        for name, options, goal in (
            ("DynInt, activation", {"mode": "activation"}, 2.0),
            ("DynInt, generated, rank 64", {"mode": "generated", "rank": 64}, 2.0),
            *(
                (f"DynInt, weighted, rank {rank}", {"mode": "weighted", "rank": rank}, rank + 1.0)
                for rank in (1, 2, 3, 4)
            ),
        )
    },
}
"""Name -> model, and how many times xDeepInt's step it may take."""
GROWTH = (1024, 2048, 4096, 8192)


class Step:
    """Forward and backward of a model on a batch of its own."""

    def __init__(self, name: str, batch: int) -> None:
        random = np.random.default_rng(0)
        self.model = MODELS[name][0]()
        self.model.build_from_schema()
        self.x = tf.constant(random.normal(scale=0.25, size=(batch, FIELDS, WIDTH)), tf.float32)
        self.labels = tf.constant(random.integers(0, 2, (batch, 1)), tf.float32)
        self.gradients = tf.function(self._gradients)

    def _gradients(self, x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = self.model(x, training=True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(self.labels, logits))
        return [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, [x, *self.model.trainable_weights])]

    def __call__(self) -> None:
        """One step."""
        np.asarray(self.gradients(self.x)[0])


def measure(rounds: int) -> dict[str, Timing]:
    """Model -> median seconds of a step."""
    steps = {name: Step(name, BATCH) for name in MODELS}
    found: dict[str, list[Timing]] = {name: [] for name in MODELS}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(time_steps(step, 1))
    return {name: median(timings) for name, timings in found.items()}


def memory() -> dict[str, list[float]]:
    """Model -> megabytes that a step takes, for each batch of `GROWTH`."""
    return {name: [_memory_of(Step(name, batch)) for batch in GROWTH] for name in MODELS}


def _memory_of(step: Step) -> float:
    step()
    return peak_memory(step)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", action="store_true", help="prints the memory of the steps as JSON, no times")
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(memory()))
        return
    print(f"{machine()}, TensorFlow {tf.__version__}\n")
    times = measure(arguments.rounds)
    sizes = in_process_that_gives_back("benchmarks.dynamic_step", "--memory")
    base = times["xDeepInt"]
    heads = " | ".join(f"MB at {batch}" for batch in GROWTH)
    print(f"| model | ms | processor ms | of xDeepInt's | goal | {heads} |\n|{' --- |' * (5 + len(GROWTH))}")
    for name, timing in times.items():
        ratio, goal = timing.wall / base.wall, MODELS[name][1]
        said = f"{goal:.0f}: {'yes' if ratio <= goal else 'NO'}" if goal > 1 else ""
        cells = [f"{1e3 * timing.wall:.1f}", f"{1e3 * timing.processor:.1f}", f"{ratio:.2f}", said]
        print(f"| {' | '.join([name, *cells, *(f'{size:.0f}' for size in sizes[name])])} |")


if __name__ == "__main__":
    main()
