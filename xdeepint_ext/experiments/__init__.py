"""Experiments: `run(config)` trains and evaluates a model on a prepared directory; one command a paper."""

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.running import Run, execute, run

__all__ = ["Config", "Run", "execute", "run"]
