r"""Trains a model that answers questions about reports with one span or several.

    python -m xdeepint_ext.experiments.mseqa --model_dir=MODEL
    python -m xdeepint_ext.experiments.mseqa --model_dir=MODEL --data_dir=DATA --tokenizer_dir=ROBERTA \
        --size=base --checkpoint=ROBERTA/model.safetensors --learning_rate=3e-5 --epochs=3

Without `--data_dir` it generates smart-home reports; `python -m xdeepint_ext.data.qa.prepare` makes directories of
public data. `--flagfile` takes a file, or the name of one in `experiments/flagfiles/`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags

from xdeepint_ext.experiments.cluster_config import is_chief
from xdeepint_ext.experiments.command_line import quieten, told_errors
from xdeepint_ext.experiments.flags import define_options, find_flagfiles, values_of_flags
from xdeepint_ext.experiments.mseqa_config import MseqaConfig
from xdeepint_ext.experiments.mseqa_running import run_mseqa

__all__ = ["main", "summary"]

flags.disclaim_key_flags()
SHOWN = ("exact_f1", "partial_f1", "drop_em", "drop_f1")


def summary(metrics: Mapping[str, Any]) -> str:
    """The main metrics in a few lines."""
    lines = [f"{metrics['heads']} on {metrics['dataset']}: {metrics['steps']:,} steps ({metrics['finished']})"]
    lines += [f"  {name:28} {value:.5f}" for name, value in metrics.items() if name.rpartition(".")[2] in SHOWN]
    return "\n".join([*lines, *(f"  note: {note}" for note in metrics["notes"])])


def main(argv: Sequence[str]) -> None:
    """The command."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    quieten()
    with told_errors():
        config = MseqaConfig(**values_of_flags(MseqaConfig))
        if not config.model_dir:
            raise ValueError("--model_dir must name the directory for the results")
        metrics = run_mseqa(config)
    if is_chief(config.strategy):
        print(summary(metrics))


if __name__ == "__main__":
    define_options([MseqaConfig])
    try:
        arguments = find_flagfiles(sys.argv)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    app.run(main, argv=arguments)
