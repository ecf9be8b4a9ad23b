"""A training step under each `--mixed_precision`, with and without `--jit_compile`, of models with dense parts.

    python -m benchmarks.precision [--models=xdeepint,dcnv2] [--rounds=20] [--batch_size=4096]

Models have their experiments' default hyper-parameters on 39 fields of width 16 with 10,000 ids each, and the
optimizers of `--optimizer=adam`. All variants of a model live in one process and take turns; the first steps, which
trace and compile, are reported by themselves. It runs on the first GPU, or on the CPU where there is none.
"""

import xdeepint_ext  # noqa: F401, I001  # before TensorFlow, as it chooses Keras 2

import argparse
import itertools
import statistics
import time

import numpy as np
import tensorflow as tf

from benchmarks.huge_tables import FIELDS, schema
from benchmarks.report import machine
from xdeepint_ext.experiments.config import PRECISIONS, Config
from xdeepint_ext.experiments.optimizer_options import make_optimizers
from xdeepint_ext.experiments.running import process_settings
from xdeepint_ext.losses import LogLoss

VALUES = 10_000
MODELS = "xdeepint,dynint,adaensemble,dcnv2,dnn"
WARM = 2


class Case:
    """A model under one policy, and the milliseconds of its steps."""

    def __init__(self, model: str, precision: str, jit_compile: bool, batch_size: int) -> None:
        self.precision, self.jit_compile = precision, jit_compile
        self.times: list[float] = []
        config = Config(
            data_dir="-",
            model=model,
            optimizer="adam",
            batch_size=batch_size,
            mixed_precision=precision,
            jit_compile=jit_compile,
        )
        random = np.random.default_rng(0)
        ids = random.integers(1, VALUES, (batch_size, FIELDS))
        self._batch = (
            {f"f{n}": tf.constant(ids[:, n : n + 1]) for n in range(FIELDS)},
            tf.constant(random.integers(0, 2, (batch_size, 1)).astype(np.float32)),
        )
        with process_settings(config):
            self._model = config.options.make(schema(VALUES))
            self._model.build_from_schema()
            self._model.compile(make_optimizers(config, 1000), loss=LogLoss(), jit_compile=jit_compile)
            self._step = tf.function(self._model.train_step)
            start = time.perf_counter()
            for _ in range(WARM):
                self._step(self._batch)
            self.first = time.perf_counter() - start

    def step(self) -> None:
        """A timed step."""
        start = time.perf_counter()
        loss = self._step(self._batch)["loss"].numpy()
        self.times.append(1e3 * (time.perf_counter() - start))
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} under {self.precision}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS, help="names of models of experiments")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each variant")
    parser.add_argument("--batch_size", type=int, default=4096)
    options = parser.parse_args()
    device = next((gpu.name for gpu in tf.config.list_logical_devices("GPU")), "CPU")
    print(f"{machine()}, {device}, TensorFlow {tf.__version__}\n")
    print("| model | precision | jit_compile | ms | quartiles | of float32 without jit | first steps, s |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for model in options.models.split(","):
        variants = itertools.product(PRECISIONS, (False, True))
        cases = [Case(model, precision, jit, options.batch_size) for precision, jit in variants]
        for _ in range(options.rounds):
            for case in cases:
                case.step()
        base = statistics.median(cases[0].times)
        for case in cases:
            low, median, high = statistics.quantiles(case.times, n=4)
            print(
                f"| {model} | {case.precision} | {'yes' if case.jit_compile else 'no'} | {median:.1f} | "
                f"{low:.1f} - {high:.1f} | {median / base:.2f} | {case.first:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
