"""Experiments: `run(config)` trains and evaluates a model on a prepared directory; one command a paper."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdeepint_ext.experiments.config import Config
    from xdeepint_ext.experiments.running import Run, execute, run

__all__ = ["Config", "Run", "execute", "run"]

_HOME = {"Config": "config", "Run": "running", "execute": "running", "run": "running"}


def __getattr__(name: str) -> Any:
    """Imports on first use (PEP 562): the launcher of local clusters needs no TensorFlow."""
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
