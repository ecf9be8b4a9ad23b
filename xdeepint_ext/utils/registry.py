"""One decorator that makes a class loadable by Keras and public at once."""

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

PACKAGE = "xdeepint_ext"

PUBLIC: dict[str, Any] = {}
"""Every registered object by its qualified name, for example ``"xdeepint_ext.layers.pin.PIN"``."""

_T = TypeVar("_T", bound=Callable[..., Any])


def register(obj: _T) -> _T:
    """Registers a class with Keras and marks it public; marks a function public.

    A class is registered under the package ``xdeepint_ext``, so that saved models find it without
    ``custom_objects``. The name of the class or function is appended to the ``__all__`` of the module that defines it,
    and the object enters `PUBLIC`.

    Args:
      obj: A class with ``get_config`` (layer, loss, metric, optimizer, model), or a function, defined at the top level
        of its module.

    Returns:
      `obj` itself.

    Raises:
      TypeError: If `obj` is neither a class nor a function, or is a class without ``get_config``.
      ValueError: If `obj` is not at the top level of its module, or if Keras already has another class of this name.

    >>> from xdeepint_ext.layers import PIN  # a class with @register above it
    >>> tf.keras.utils.get_registered_name(PIN)
    'xdeepint_ext>PIN'
    """
    if not (inspect.isclass(obj) or inspect.isfunction(obj)):
        raise TypeError(f"register expects a class or a function, got {obj!r} of type {type(obj).__name__}")
    qualified = f"{obj.__module__}.{obj.__qualname__}"
    if obj.__name__ != obj.__qualname__:
        raise ValueError(f"register expects a name at the top level of its module, got {qualified}")
    if inspect.isclass(obj):
        _register_with_keras(obj, qualified)
    exported = sys.modules[obj.__module__].__dict__.setdefault("__all__", [])
    if obj.__name__ not in exported:
        exported.append(obj.__name__)
    PUBLIC[qualified] = obj
    return obj


def _register_with_keras(cls: type, qualified: str) -> None:
    if not hasattr(cls, "get_config"):
        raise TypeError(f"register expects a class with get_config, and {qualified} has none")
    present = tf.keras.utils.get_registered_object(f"{PACKAGE}>{cls.__name__}")
    # A reloaded module may register its class again; a second class of the same name would make saved models ambiguous.
    if present is not None and present.__module__ != cls.__module__:
        raise ValueError(f"{qualified} has the Keras name of {present.__module__}.{present.__qualname__}: rename one")
    tf.keras.utils.register_keras_serializable(package=PACKAGE)(cls)
