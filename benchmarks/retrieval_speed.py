"""Times retrieval: a training step of every loss beside sampled softmax's, and exact search of a whole catalogue.

    python -m benchmarks.retrieval_speed [--quick]

A step is a whole one, drawn batch, towers, loss, gradient and LazyAdam, of 512 targets and 5,120 shared candidates in a
catalogue of 40,981 items, and of ten times as many. The losses take turns within a round; the tables show medians over
the rounds, on the clock and of all threads together. Search: 29,858 users with some 27 seen items each, Gowalla's
sizes, blocks of 256 users, with its peak memory.
"""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import argparse
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.memory import peak_memory
from benchmarks.timing import Timing, median, time_steps
from xdeepint_ext.data.sequences import Catalogue, Sampling, Sequences, training_batches
from xdeepint_ext.losses import BPRLoss, CROLambdaLoss, CROLoss, SoftmaxCrossEntropyLoss, TripletLoss
from xdeepint_ext.metrics import best_items
from xdeepint_ext.models import MatrixFactorization
from xdeepint_ext.optimizers import LazyAdam
from xdeepint_ext.schema import Feature, Schema

USERS, ITEMS, BEHAVIOURS, WIDTH = 29_858, 40_981, 810_128, 64
BATCH, NEGATIVES, STEPS = 512, 5120, 8
REFERENCE = "sampled softmax"


def losses(num_items: int) -> dict[str, Any]:
    """The losses of the paper, which are told that a row has one positive."""
    one = {"max_positives": 1}
    return {
        REFERENCE: SoftmaxCrossEntropyLoss(),
        "triplet": TripletLoss(**one),
        "BPR": BPRLoss(**one),
        **{f"CROLoss {kernel}, 1.0": CROLoss(kernel, **one) for kernel in ("softplus", "exp", "hinge", "sigmoid")},
        "CROLoss softplus, 1.4": CROLoss("softplus", 1.4, num_items, **one),
        "CROLoss-lambda sigmoid/softplus": CROLambdaLoss(num_items=num_items, **one),
        "CROLoss-lambda sigmoid/exp, 1.4": CROLambdaLoss(kernel="exp", weighting=1.4, num_items=num_items, **one),
    }


def users_of(num_items: int) -> tuple[Schema, Sequences]:
    """A made-up training part, as large as Gowalla's."""
    schema = Schema(
        [
            Feature("user", role="user", num_values=USERS),
            Feature("item", "multi", "item", max_length=1, num_values=num_items, source="targets"),
        ]
    )
    catalogue, random = Catalogue.of(schema), np.random.default_rng(0)
    splits = np.concatenate([[0], np.sort(random.integers(0, BEHAVIOURS, USERS - 1)), [BEHAVIOURS]])
    items = random.integers(catalogue.first, catalogue.first + num_items, BEHAVIOURS).astype(np.int32)
    users = np.arange(2, 2 + USERS)
    return schema, Sequences(catalogue, users, items, splits, items[:0], np.zeros(USERS + 1, np.int64))


class Trained:
    """A loss, and the times of its steps."""

    def __init__(self, loss: Any, schema: Schema, sequences: Sequences) -> None:
        model = MatrixFactorization(schema, width=WIDTH)
        model.compile({"embedding": LazyAdam(0.003)}, loss=loss)
        model.build_from_schema()
        model.optimizer.build(model.trainable_variables)
        self._iterator = iter(training_batches(sequences, Sampling(BATCH, negatives=NEGATIVES)))
        self.timings: list[Timing] = []

        @tf.function
        def steps(iterator: Any, count: tf.Tensor) -> None:
            for _ in tf.range(count):
                model.train_step(next(iterator))

        self._steps = steps
        self.turn()
        self.timings.clear()

    def turn(self) -> None:
        count = tf.constant(STEPS)
        self.timings.append(time_steps(lambda: self._steps(self._iterator, count), STEPS))


def train(num_items: int, rounds: int) -> None:
    schema, sequences = users_of(num_items)
    measured = {name: Trained(loss, schema, sequences) for name, loss in losses(num_items).items()}
    for _ in range(rounds):
        for case in measured.values():
            case.turn()
    medians = {name: median(case.timings) for name, case in measured.items()}
    print(f"{num_items:,} items, {BATCH} targets, {NEGATIVES:,} candidates")
    print("| loss | ms a step | processor ms | of sampled softmax, clock | processor |")
    print("| --- | ---: | ---: | ---: | ---: |")
    one = medians[REFERENCE]
    for name, found in medians.items():
        ratios = f"{found.wall / one.wall:.2f} | {found.processor / one.processor:.2f}"
        print(f"| {name} | {1e3 * found.wall:.1f} | {1e3 * found.processor:.1f} | {ratios} |")


def search(users: int) -> None:
    random = np.random.default_rng(0)
    vectors, items = (random.normal(size=(n, WIDTH)).astype(np.float32) for n in (users, ITEMS))
    splits = np.arange(users + 1) * 27
    seen = random.integers(0, ITEMS, splits[-1])
    best_items(vectors[:256], items, 20, seen[: 256 * 27], splits[:257])
    print(f"exact search, {users:,} users x {ITEMS:,} items, {WIDTH} columns")
    print("| N | blocks | seconds | processor seconds | peak MB |\n| ---: | --- | ---: | ---: | ---: |")
    for n, blocks in ((20, (256, 65_536)), (500, (256, 65_536)), (20, (256, 4096))):
        timings: list[Timing] = []

        def work(n: int = n, blocks: tuple[int, int] = blocks, timings: list[Timing] = timings) -> None:
            timings.append(time_steps(lambda: best_items(vectors, items, n, seen, splits, *blocks), 1))

        memory = peak_memory(work)
        print(
            f"| {n} | {blocks[0]} x {blocks[1]:,} | {timings[0].wall:.1f} | {timings[0].processor:.1f} | {memory:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three rounds, one catalogue, a tenth of the users")
    arguments = parser.parse_args()
    for num_items in (ITEMS,) if arguments.quick else (ITEMS, 10 * ITEMS):
        train(num_items, 3 if arguments.quick else arguments.rounds)
    search(USERS // 10 if arguments.quick else USERS)


if __name__ == "__main__":
    main()
