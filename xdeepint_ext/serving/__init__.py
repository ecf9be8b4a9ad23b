"""From a trained model to scores: `export` writes a SavedModel, `prune` shrinks it, `serving.query` asks it.

Two-tower models have an item cache besides: `serving.cache_items` writes it, `serving.prerank` ranks with it, and
`serving.index` makes an index of it. The names load on first use, so that these tools need TensorFlow alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdeepint_ext.serving.approximate import ApproximateIndex, build_index
    from xdeepint_ext.serving.cache_items import write_item_cache
    from xdeepint_ext.serving.cache_shard import CacheError
    from xdeepint_ext.serving.calibration import Calibration, CalibrationError
    from xdeepint_ext.serving.calibration_fits import fit_calibration
    from xdeepint_ext.serving.exporting import export
    from xdeepint_ext.serving.index import export_index
    from xdeepint_ext.serving.item_cache import ItemCache
    from xdeepint_ext.serving.loaded_towers import LoadedTowers
    from xdeepint_ext.serving.prerank import Preranker, Ranked
    from xdeepint_ext.serving.pruning import Pruned, PruningError, prune

__all__ = [
    "ApproximateIndex",
    "CacheError",
    "Calibration",
    "CalibrationError",
    "ItemCache",
    "LoadedTowers",
    "Preranker",
    "Pruned",
    "PruningError",
    "Ranked",
    "build_index",
    "export",
    "export_index",
    "fit_calibration",
    "prune",
    "write_item_cache",
]

_HOMES = {
    "approximate": ("ApproximateIndex", "build_index"),
    "cache_items": ("write_item_cache",),
    "calibration": ("Calibration", "CalibrationError"),
    "calibration_fits": ("fit_calibration",),
    "exporting": ("export",),
    "index": ("export_index",),
    "cache_shard": ("CacheError",),
    "item_cache": ("ItemCache",),
    "loaded_towers": ("LoadedTowers",),
    "prerank": ("Preranker", "Ranked"),
    "pruning": ("Pruned", "PruningError", "prune"),
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
