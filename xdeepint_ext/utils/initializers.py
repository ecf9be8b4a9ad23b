"""Initializers for several weights."""

from __future__ import annotations

from typing import Any


def fresh(initializer: Any) -> Any:
    """A copy of an initializer: one instance gives the same values at every call."""
    return (
        initializer.__class__.from_config(initializer.get_config())
        if hasattr(initializer, "get_config")
        else initializer
    )
