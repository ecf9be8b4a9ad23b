"""How codebooks of a GroupCE run fare: dead and expired codes, errors, and users who change their codes.

    python -m xdeepint_ext.experiments.codebook_health --data_dir=DATA --flagfile=kuairand_groupce --output=health.md

A row for each codebook size, batch size, and kind of codebook: with expiry and k-means start as they are, and without
both. Two epochs each. Dead: no training record has the code after the first epoch. Expired: share of a level's codes in
a step, over the steps that may expire codes; where two epochs have hardly any, training goes on until half the steps
may. Error: mean squared length of what the levels so far leave of a training record's user after the first epoch, over
that of the user. Changed: share of the training users whose code up to the level is another one after the second epoch.
Of several seeds, the worst share of dead and expired codes, and the means of the rest. Any other flag of
experiments.groupce changes all rows.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app

from xdeepint_ext.experiments.code_watch import changed_shares, different_users, quantize_users
from xdeepint_ext.experiments.command_line import quieten
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.flags import define_flags, define_options, find_flagfiles, given_flags, values_of_flags
from xdeepint_ext.experiments.group_measures import CodeUse, code_use
from xdeepint_ext.experiments.list_inputs import open_inputs
from xdeepint_ext.experiments.options import option
from xdeepint_ext.experiments.run_directory import write_atomically
from xdeepint_ext.experiments.running import make_model
from xdeepint_ext.experiments.settings import QUIET, make_config

__all__ = ["Health", "Options", "measure", "table"]

KINDS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "no expiry, random start": {"expire_below": 0.0, "random_codebooks": True},
}
MOST_DEAD, MOST_EXPIRED = 0.05, 0.01


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says besides the flags of the runs. Each field is a flag.

    Raises:
      ValueError: seeds is below 1.
    """

    sizes: tuple[int, ...] = option((8, 32, 128, 256), "codebook sizes")
    batch_sizes: tuple[int, ...] = option((512, 2048, 8192), "batch sizes")
    seeds: int = option(1, "each row is trained with the seeds 0 .. SEEDS - 1")
    output: str = option("", "gets the table, Markdown")

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"--seeds must be >= 1, got {self.seeds}")


@dataclasses.dataclass(frozen=True)
class Health:
    """Figures of a level each, (L,); see the module.

    Args:
      steps: of an epoch.
      dead: after the first epoch.
      expired: mean over the steps that may expire codes; 0 where none may.
      errors: after the first epoch.
      changed: in the second epoch.
    """

    steps: int
    dead: np.ndarray
    expired: np.ndarray
    errors: np.ndarray
    changed: np.ndarray

    @property
    def failures(self) -> list[str]:
        """What is not as it should be."""
        falls = (np.diff(self.errors) < 0).all() and self.errors[0] < 1
        rules = {
            f"more than {MOST_DEAD:.0%} dead": (self.dead > MOST_DEAD).any(),
            f"{MOST_EXPIRED:.0%} or more expire": (self.expired >= MOST_EXPIRED).any(),
            "the error does not fall": not falls,
        }
        return [text for text, wrong in rules.items() if wrong]


def measure(config: Config) -> Health:
    """Trains two epochs at least, without any evaluation.

    Args:
      config: of model groupce with objective groupce.
    """
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(config.seed)
    inputs = open_inputs(config)
    steps = inputs.steps_per_epoch
    model: Any = make_model(config, inputs, 2 * steps)
    users = different_users(inputs.batches("train"), model.fields.names)
    quantize, batches = quantize_users(model), iter(inputs.train(0))

    @tf.function
    def train(iterator: Any, count: tf.Tensor) -> None:
        for _ in tf.range(count):
            model.train_step(next(iterator))

    codes: list[np.ndarray] = []
    uses: list[CodeUse] = []
    # So many steps -> what is done after them.
    plan: list[tuple[int, Callable[[], None]]] = [
        (steps, lambda: uses.append(code_use(model, inputs.batches("train")))),
        *((epochs * steps, lambda: codes.append(quantize(users)[1].numpy())) for epochs in (1, 2)),
    ]
    if model.quantizer.expire_below > 0:
        first = model.quantizer.first_expiry
        plan += [(first, model.reset_metrics), (2 * first, lambda: None)]
    done = 0
    for step, act in sorted(plan, key=lambda part: part[0]):
        train(batches, tf.constant(step - done))
        act()
        done = step
    expired = [metric.result() for metric in model.metrics if metric.name.startswith("expired_codes")]
    changed = changed_shares(*codes)
    return Health(steps, uses[0].dead, np.array(expired, np.float64), uses[0].errors, np.array([*changed.values()]))


def combine(found: Sequence[Health]) -> Health:
    """Of several seeds: the worst shares of dead and expired codes, the means of the rest."""
    dead, expired = (np.max([getattr(health, name) for health in found], axis=0) for name in ("dead", "expired"))
    errors, changed = (np.mean([getattr(health, name) for health in found], axis=0) for name in ("errors", "changed"))
    return Health(found[0].steps, dead, expired, errors, changed)


def table(found: Mapping[tuple[int, int, str], Health]) -> str:
    """The Markdown table.

    Args:
      found: (codebook size, batch size, kind) -> health.
    """
    heads = ["K", "batch", "codebooks", "steps", "dead", "expired", "error", "changed", "as it should be"]
    rows = [
        [*map(str, (size, batch, kind, health.steps)), *_cells(health)] for (size, batch, kind), health in found.items()
    ]
    lines = [heads, ["---:", "---:", "---", *["---:"] * 5, "---"], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(health: Health) -> list[str]:
    shares = [" / ".join(f"{x:.1%}" for x in values) for values in (health.dead, health.expired)]
    errors = " / ".join(f"{x:.3f}" for x in health.errors)
    changed = " / ".join(f"{x:.1%}" for x in health.changed)
    return [*shares, errors, changed, "; ".join(health.failures) or "yes"]


def run(options: Options, given: Mapping[str, Any]) -> str:
    """Measures all rows, says each as it comes, and writes the table.

    Args:
      options: the command's own flags.
      given: flags of the runs, `data_dir` among them.
    """
    found = {}
    for size, batch, kind in itertools.product(options.sizes, options.batch_sizes, KINDS):
        values = {**QUIET, **given, "model": "groupce", "batch_size": batch, "codebook_size": size, **KINDS[kind]}
        found[size, batch, kind] = combine([measure(make_config({**values, "seed": n})) for n in range(options.seeds)])
        print(table({(size, batch, kind): found[size, batch, kind]}).splitlines()[-1], file=sys.stderr, flush=True)
    text = table(found)
    if options.output:
        write_atomically(options.output, text)
    return text


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    quieten()
    try:
        print(run(Options(**values_of_flags(Options)), given_flags(["groupce"])), end="")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    define_options([Options])
    define_flags(["groupce"])
    try:
        arguments = find_flagfiles(sys.argv)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    app.run(main, argv=arguments)
