"""From a trained model to scores: `export` writes a SavedModel, `prune` shrinks it, `serving.query` asks it.

The names load on first use, so that the query tool needs TensorFlow alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdeepint_ext.serving.exporting import export
    from xdeepint_ext.serving.pruning import Pruned, PruningError, prune

__all__ = ["Pruned", "PruningError", "export", "prune"]

_HOMES = {"export": "exporting", "prune": "pruning", "Pruned": "pruning", "PruningError": "pruning"}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
