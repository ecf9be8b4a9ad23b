"""What the commands of the experiments share: flags, messages, exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import app, flags, logging

from xdeepint_ext.experiments.flags import config_of_flags, define_flags, find_flagfiles
from xdeepint_ext.experiments.running import run

__all__ = ["launch", "summary"]

flags.disclaim_key_flags()
SHOWN = ("auc", "logloss", "gauc")


def launch(model: str, doc: str | None) -> None:
    """The main program of a model's experiment: reads the flags, runs, and prints the metrics.

    Args:
      model: name in `MODELS`.
      doc: shown by `--help`.
    """
    define_flags([model])
    sys.modules["__main__"].__doc__ = doc

    def main(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments {argv[1:]}")
        quieten()
        try:
            config = config_of_flags(model)
            if not config.model_dir:
                raise ValueError("--model_dir must name the directory for the results")
            metrics = run(config)
        except (ValueError, OSError, ImportError, NotImplementedError, FloatingPointError) as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit("interrupted; the same command goes on from the last checkpoint")
        print(summary(config.model_dir, metrics))

    try:
        arguments = find_flagfiles(sys.argv)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    app.run(main, argv=arguments)


def quieten() -> None:
    """Leaves TensorFlow's and absl's informational lines out, unless `--verbosity` asks for them."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        tf.get_logger().setLevel("WARNING")


def summary(model_dir: str, metrics: Mapping[str, Any]) -> str:
    """The main metrics, and where everything is, in a few lines."""
    lines = [
        f"{metrics['model']} on {metrics['dataset']}: {metrics['steps']:,} steps ({metrics['finished']}), "
        f"best at {metrics['best_step']}, {metrics['examples_per_second']:,.0f} examples/s"
    ]
    for name, value in metrics.items():
        part = name.rpartition(".")
        if part[2] in SHOWN and ".slice." not in name:
            lines.append(f"  {name:24} {value:.5f}")
    lines += [f"  note: {note}" for note in metrics["notes"]]
    for name in ("metrics.json", "report.html", "saved_model", "tensorboard", "checkpoints"):
        path = os.path.join(model_dir, name)
        if os.path.exists(path):
            lines.append(f"  {path}")
    return "\n".join(lines)
