"""From a table's rows, flags and grids to configs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.flags import define_flags, find_flagfiles, given_flags
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.options import flag_types, options_of
from xdeepint_ext.experiments.tables import Table

__all__ = ["make_config", "parse_grid", "settings_of_table"]


def settings_of_table(table: Table, given: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> dict[str, Config]:
    """Row name -> config: the table's flagfile, its base, the given flags, the grid's values, the row's own.

    Args:
      table: the table.
      given: flags for all rows.
      grid: flag -> values; every row is made once for each combination.
    """
    base = {**flagfile_values(table.flagfile), "cache": True, "progress": False, **table.base, **given}
    settings = {}
    for name, row in table.rows.items():
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            title = " ".join([name, *(f"{flag}={value}" for flag, value in point.items())])
            settings[title] = make_config({**base, **row, **point})
    return settings


def make_config(values: Mapping[str, Any]) -> Config:
    """A config of flag values, the model's own among them; options of other models are left out.

    Raises:
      ValueError: a name is no flag at all.
    """
    values = dict(values)
    model = values.pop("model", "xdeepint")
    common, own = options_of(Config), options_of(MODELS[model])
    known = {name for options in MODELS.values() for name in options_of(options)} | set(common)
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no flag of any run; there are {sorted(known)}")
    options = {name: value for name, value in values.items() if name in own}
    return Config(model=model, model_options=options, **{n: v for n, v in values.items() if n in common})


def flagfile_values(name: str) -> dict[str, Any]:
    """The flags that a flagfile gives."""
    if not name:
        return {}
    flag_values = flags.FlagValues()
    flags.DEFINE_string("flagfile", "", "", flag_values=flag_values)
    define_flags(MODELS, flag_values)
    flag_values(["sweep", *find_flagfiles([f"--flagfile={name}"])])
    return given_flags(MODELS, flag_values)


def parse_grid(text: str) -> dict[str, list[Any]]:
    """`"a=1,2 b=x"` -> {"a": [1, 2], "b": ["x"]}, in the types of the flags; a tuple's items are joined by `+`.

    Raises:
      ValueError: a part is not `flag=value,value`, or names no flag.
    """
    types: dict[str, type] = {}
    for cls in (*MODELS.values(), Config):
        types |= flag_types(cls)
    grid: dict[str, list[Any]] = {}
    for part in text.split():
        flag, separator, values = part.partition("=")
        if not separator or flag not in types:
            raise ValueError(f"grid: expected FLAG=VALUE,VALUE with a flag of a run, got {part!r}")
        grid[flag] = [_parsed(types[flag], value) for value in values.split(",")]
    return grid


def _parsed(kind: type, value: str) -> Any:
    if kind is bool:
        return {"true": True, "false": False}[value.lower()]
    if kind is tuple:
        items = [item for item in value.split("+") if item]
        return tuple(int(item) if item.isdigit() else item for item in items)
    return kind(value)
