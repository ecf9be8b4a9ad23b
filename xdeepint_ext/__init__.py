"""Recommender and ranking models for TensorFlow: layers to subclass, experiments to launch, SavedModels to serve.

Importing this package sets ``TF_USE_LEGACY_KERAS=1`` unless the variable has a value already, because everything here
needs the Keras 2 behaviour of ``tf.keras``. Import it before the first use of ``tf.keras``.

The sub-packages load on first use, so ``import xdeepint_ext`` alone does not import TensorFlow:

>>> import xdeepint_ext
>>> pin = xdeepint_ext.layers.PIN(num_layers=2)
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from xdeepint_ext._keras_guard import require_keras_2

require_keras_2()

if TYPE_CHECKING:
    from xdeepint_ext import data, layers, losses, metrics, models, optimizers, schema, serving

__version__ = "0.1.0"

__all__ = ["data", "layers", "losses", "metrics", "models", "optimizers", "schema", "serving"]


def __getattr__(name: str) -> ModuleType:
    """Imports a sub-package on first use (PEP 562)."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its sub-packages are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
