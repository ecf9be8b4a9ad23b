"""Which optimizer a variable belongs to, said where the variable is created."""

from __future__ import annotations

from typing import TypeVar

DEFAULT_GROUP = "default"
_ATTRIBUTE = "_xdeepint_optimizer_group"

_V = TypeVar("_V")


def tag(variable: _V, group: str) -> _V:
    """Puts a variable (and, of a sharded one, every shard) into an optimizer group, and returns it.

    Args:
      variable: what `add_weight` returned.
      group: name of the group: `embedding`, `interaction`, `default`, or a name of your own.

    Example:
      >>> import tensorflow as tf
      >>> optimizer_group(tag(tf.Variable(0.0), "embedding"))
      'embedding'
    """
    for shard in getattr(variable, "variables", [variable]):
        setattr(_innermost(shard), _ATTRIBUTE, group)
    return variable


def optimizer_group(variable: object) -> str:
    """The group that `tag` put the variable into; "default" for one that was never tagged."""
    return getattr(_innermost(variable), _ATTRIBUTE, DEFAULT_GROUP)


def _innermost(variable: object) -> object:
    """The variable inside AutoCastVariable wrappers, of which a layer and a list of weights may hold different ones."""
    while hasattr(variable, "_variable"):
        variable = variable._variable
    return variable
