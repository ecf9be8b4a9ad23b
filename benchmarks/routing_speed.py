"""Times AdaEnsemble's inference, computing what is chosen, beside its own dense form: all experts at full depth.

    python -m benchmarks.routing_speed

39 fields of width 16, four layers of the authors' five experts, two chosen for an example, which leaves at depth 1, 2,
3 or 4 with the shares .4, .3, .2, .1: at depth 2 in the mean. Nothing is trained: of many draws of a router's centroids
the one is kept whose shares come nearest to those, for experts nearest to equal ones. Both forms have the same weights
and take turns; the table has medians. The third form is the compiled dense one, which XLA would run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks.report import machine
from benchmarks.timing import Timing, median, time_steps
from xdeepint_ext.layers import TopKGate
from xdeepint_ext.models import AdaEnsemble

FIELDS, WIDTH, CHOSEN = 39, 16, 2
EXIT_SHARES = (0.4, 0.3, 0.2, 0.1)
BATCHES = {4096: 5, 64: 50}
"""Batch size -> calls a turn."""
GOALS = {4096: 0.45, 64: 1.0}
DRAWS = 300


def make(dispatch: str) -> AdaEnsemble:
    """The model, built."""
    model = AdaEnsemble.from_embeddings(
        FIELDS, WIDTH, num_layers=len(EXIT_SHARES), k=CHOSEN, exit_k=1, expert_prior=[0.2] * 5, dispatch=dispatch
    )
    model.build_from_schema()
    return model


def settle(gate: TopKGate, x: tf.Tensor, shares: np.ndarray) -> None:
    """Gives a router the drawn centroids with which it routes a batch nearest to the shares."""
    random = np.random.default_rng(0)
    draws = random.normal(size=(DRAWS, *gate.centroids.shape))
    distances = []
    for draw in draws:
        gate.centroids.assign(draw)
        chosen = np.mean(gate(x, training=False).numpy() > 0, axis=0)
        distances.append(np.abs(chosen - shares * chosen.sum()).sum())
    gate.centroids.assign(draws[int(np.argmin(distances))])


def routed(batch: int) -> tuple[dict[str, Callable[[], tf.Tensor]], float, np.ndarray]:
    """Form -> a call on a batch; the mean depth; the experts' shares in the layers."""
    x = tf.constant(np.random.default_rng(1).normal(size=(batch, FIELDS, WIDTH)), tf.float32)
    sparse, dense = make("gather"), make("dense")
    flat = tf.reshape(x, (batch, -1))
    settle(sparse.exits.gate, flat, np.array(EXIT_SHARES))
    for layer in sparse.exits.layers:
        settle(layer.gate, flat, np.full(5, 0.2))
    dense.set_weights(sparse.get_weights())
    functions = {
        "chosen experts and depths": tf.function(lambda: sparse(x, training=False)),
        "all experts, full depth": tf.function(lambda: dense(x, training=False)),
        "the same, compiled by XLA": tf.function(lambda: dense(x, training=False), jit_compile=True),
    }
    logits = [function().numpy() for function in functions.values()]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-4)
    np.testing.assert_allclose(logits[2], logits[0], atol=1e-4)
    exits, gates = sparse.routing(x)
    depth = float(np.mean(np.asarray(exits) @ np.arange(1, len(EXIT_SHARES) + 1)))
    return functions, depth, np.mean(np.asarray(gates) > 0, axis=0)


def measure(batch: int, rounds: int) -> dict[str, Timing]:
    """Form -> median seconds of a call."""
    functions, depth, shares = routed(batch)
    print(f"\nbatch {batch}: mean depth {depth:.2f} of 4, experts' shares {shares.min():.2f} to {shares.max():.2f}\n")
    found: dict[str, list[Timing]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            found[name].append(time_steps(lambda f=function: [f() for _ in range(BATCHES[batch])], BATCHES[batch]))
    return {name: median(timings) for name, timings in found.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(f"{machine()}, TensorFlow {tf.__version__}")
    for batch, goal in GOALS.items():
        times = measure(batch, rounds)
        whole = times["all experts, full depth"]
        print("| form | ms | processor ms | of the dense form |\n| --- | ---: | ---: | ---: |")
        for name, timing in times.items():
            row = f"{1e3 * timing.wall:.2f} | {1e3 * timing.processor:.2f} | {timing.wall / whole.wall:.2f}"
            print(f"| {name} | {row} |")
        share = times["chosen experts and depths"].wall / whole.wall
        print(f"\ngoal: at most {goal:.2f} of the dense form: {share:.2f}, {'yes' if share <= goal else 'NO'}")


if __name__ == "__main__":
    main()
