"""Options stated as data: a dataclass field with a help text is also a command line flag."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["check_choices", "flag_types", "item_type", "option", "options_of"]


def option(default: Any, help: str, choices: Iterable[str] | None = None, changes: str = "training") -> Any:
    """A dataclass field that is also a flag.

    Args:
      default: its default.
      help: one line for `--help`.
      choices: the values it may have; None = any.
      changes: what another value changes: `training` (a run cannot go on with another value), `report` (only what is
        made of the trained model), or `nothing` (places, speed and display).
    """
    choices = None if choices is None else tuple(choices)
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "changes": changes})


def options_of(cls: type) -> Mapping[str, dataclasses.Field[Any]]:
    """The fields of a dataclass that were made with `option`, by name."""
    return {field.name: field for field in dataclasses.fields(cls) if "help" in field.metadata}


def flag_types(cls: type) -> dict[str, type]:
    """Flag name -> `str`, `int`, `float`, `bool`, or `tuple` for several words."""
    hints = typing.get_type_hints(cls)
    found: dict[str, type] = {}
    for name in options_of(cls):
        kinds = [kind for kind in typing.get_args(hints[name]) or (hints[name],) if kind not in (type(None), Ellipsis)]
        is_tuple = typing.get_origin(hints[name]) is tuple
        found[name] = tuple if is_tuple else kinds[0]
    return found


def item_type(cls: type, name: str) -> type:
    """Of what the items of an option of several words are: `str`, `int` or `float`."""
    found: type = typing.get_args(typing.get_type_hints(cls)[name])[0]
    return found


def check_choices(value: Any) -> None:
    """Checks a dataclass instance against its options' choices.

    Raises:
      ValueError: an option has a value that is none of its choices.
    """
    for name, field in options_of(type(value)).items():
        choices, given = field.metadata["choices"], getattr(value, name)
        if choices and given not in choices:
            raise ValueError(f"{name} must be one of {choices}, got {given!r}")
