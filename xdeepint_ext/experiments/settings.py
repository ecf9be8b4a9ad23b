"""From a table's rows, the settings of a search, flags and flagfiles to configs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from absl import flags

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.flags import FLAGFILES, define_flags, find_flagfiles, given_flags
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.options import options_of
from xdeepint_ext.experiments.tables import Table

__all__ = ["flagfile", "flagfile_values", "make_config", "parse_setting", "settings_of_table"]

QUIET = {"cache": True, "progress": False}  # many short runs in one process


def settings_of_table(table: Table, given: Mapping[str, Any]) -> dict[str, Config]:
    """Row name -> config: the table's flagfile, its base, the given flags, the row's own.

    Args:
      table: the table.
      given: flags for all rows.
    """
    base = {**flagfile_values(table.flagfile), **QUIET, **table.base, **given}
    return {name: make_config({**base, **row}) for name, row in table.rows.items()}


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


def parse_setting(model: str, text: str) -> dict[str, Any]:
    """`"width=8 units=128,64 lambda=5"` -> flag values in their types; `lambda` stands for both penalties of G-FTRL.

    Args:
      model: whose flags there are besides those of every run.
      text: `flag=value ...`, as on a command line.

    Raises:
      ValueError: a part is not `flag=value`, the model has no such flag, or the value is of no use.
    """
    arguments = []
    for part in text.split():
        flag, _, value = part.partition("=")
        arguments += [f"--{name}={value}" for name in (("lambda1", "lambda2") if flag == "lambda" else (flag,))]
    flag_values = flags.FlagValues()
    define_flags([model], flag_values)
    try:
        flag_values(["setting", *arguments])
    except flags.Error as error:
        raise ValueError(f"setting {text!r} of model {model!r}: {error}") from None
    return given_flags([model], flag_values)


def flagfile_values(name: str) -> dict[str, Any]:
    """The flags that a flagfile gives; none without a name."""
    if not name:
        return {}
    flag_values = flags.FlagValues()
    flags.DEFINE_string("flagfile", "", "", flag_values=flag_values)
    define_flags(MODELS, flag_values)
    flag_values(["compare", *find_flagfiles([f"--flagfile={name}"])])
    return given_flags(MODELS, flag_values)


def flagfile(name: str) -> str:
    """Path of the package's flagfile of that name, or "" where there is none."""
    path = os.path.join(FLAGFILES, f"{name}.cfg")
    return path if os.path.exists(path) else ""
