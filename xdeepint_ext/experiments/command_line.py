"""What the commands of the experiments share: flags, messages, exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import app, flags, logging

from xdeepint_ext.experiments.cluster_config import is_chief
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.flags import config_of_flags, define_flags, find_flagfiles, given_flags
from xdeepint_ext.experiments.kinds import LISTS, USERS
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.options import options_of
from xdeepint_ext.experiments.preemption import LOST, PREEMPTED, LostProcess, Preempted, ends_on_sigterm
from xdeepint_ext.experiments.running import run
from xdeepint_ext.experiments.settings import make_config

__all__ = ["launch", "summary"]

flags.disclaim_key_flags()
EXIT_CODES: dict[type, int] = {Preempted: PREEMPTED, LostProcess: LOST}
SHOWN = ("auc", "logloss", "gauc")


def launch(model: str, doc: str | None, others: Sequence[str] = (), defaults: Mapping[str, Any] | None = None) -> None:
    """The main program of a model's experiment: reads the flags, runs, and prints the metrics.

    Args:
      model: name in `MODELS`.
      doc: shown by `--help`.
      others: models that `--model` may name in its place.
      defaults: flags whose defaults are not those of `Config` here.
    """
    define_flags([model, *others])
    for name, value in (defaults or {}).items():
        flags.FLAGS.set_default(name, value)
    if others:
        flags.DEFINE_enum("model", model, [model, *others], "which model")
    sys.modules["__main__"].__doc__ = doc

    def main(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments {argv[1:]}")
        quieten()
        with told_errors():
            config = config_of_models([model, *others], defaults or {}) if others else config_of_flags(model)
            if not config.model_dir:
                raise ValueError("--model_dir must name the directory for the results")
            metrics = run(config)
        if is_chief(config.strategy):
            print(summary(config.model_dir, metrics))

    try:
        arguments = find_flagfiles(sys.argv)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    app.run(main, argv=arguments)


@contextlib.contextmanager
def told_errors() -> Iterator[None]:
    """Ends the process where an error comes that its message explains, or SIGTERM, with the exit code that says so."""
    ends_on_sigterm()
    try:
        yield
    except (ValueError, OSError, ImportError, MemoryError, NotImplementedError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except (Preempted, LostProcess) as ended:
        print(ended, file=sys.stderr, flush=True)
        os._exit(EXIT_CODES[type(ended)])  # the threads of a broken cluster could keep the process alive
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last checkpoint")


def config_of_models(
    models: Sequence[str], defaults: Mapping[str, Any], flag_values: flags.FlagValues = flags.FLAGS
) -> Config:
    """The `Config` of the flags that were given, for the model that `--model` names.

    Args:
      models: those whose flags there are; a flag of several has each one's own default.
      defaults: flags whose defaults are not those of `Config`.
      flag_values: with the flags of `define_flags`, and `model`.

    Raises:
      ValueError: a flag was given that only other models have.
    """
    model = str(flag_values["model"].value)
    given = given_flags(models, flag_values)
    wrong = [name for name in given if name not in {**options_of(Config), **options_of(MODELS[model])}]
    if wrong:
        raise ValueError(f"--{wrong[0]} is no flag of model {model}, which has {sorted(options_of(MODELS[model]))}")
    return make_config({**defaults, **given, "model": model})


def quieten() -> None:
    """Leaves TensorFlow's and absl's informational lines out, unless `--verbosity` asks for them."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        tf.get_logger().setLevel("WARNING")


def summary(model_dir: str, metrics: Mapping[str, Any]) -> str:
    """The main metrics, and where everything is, in a few lines."""
    lines = [
        f"{metrics['model']} on {metrics['dataset']}: {metrics['steps']:,} steps ({metrics['finished']}), "
        f"best at {metrics['best_step']}, {metrics['examples_per_second']:,.0f} records/s"
    ]
    for name, value in metrics.items():
        of_split = name.partition(".")[2]
        if of_split in (*LISTS.columns, *USERS.columns) or (name.rpartition(".")[2] in SHOWN and ".slice." not in name):
            lines.append(f"  {name:30} {value:.5f}")
    lines += [f"  note: {note}" for note in metrics["notes"]]
    for name in ("metrics.json", "report.html", "saved_model", "tensorboard", "checkpoints"):
        path = os.path.join(model_dir, name)
        if os.path.exists(path):
            lines.append(f"  {path}")
    return "\n".join(lines)
