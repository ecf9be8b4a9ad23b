"""Flags made of options stated as data, such as `Config` and the models', and flagfiles by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags

from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.options import flag_types, item_type, options_of

__all__ = ["FLAGFILES", "config_of_flags", "define_flags", "define_options", "find_flagfiles", "parse"]

FLAGFILES = os.path.join(os.path.dirname(__file__), "flagfiles")
# `--help` lists them under the program that calls, not under this module.
flags.disclaim_key_flags()
_DEFINE: dict[type, Any] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
    tuple: flags.DEFINE_list,
}


def define_flags(models: Iterable[str], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of `Config` and of the models' own options.

    Args:
      models: whose options; an option that several models have is one flag.
      flag_values: where.
    """
    define_options((Config, *(MODELS[model] for model in models)), flag_values)


def define_options(classes: Iterable[type], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of dataclasses of `option`s.

    Args:
      classes: an option that several have is one flag.
      flag_values: where.
    """
    defined: set[str] = set()
    for cls in classes:
        types = flag_types(cls)
        for name, field in options_of(cls).items():
            if name in defined:
                continue
            defined.add(name)
            choices, text = field.metadata["choices"], field.metadata["help"]
            default: Any = field.default
            default = list(map(str, default)) if types[name] is tuple else default
            if choices and types[name] is str:
                flags.DEFINE_enum(name, default, choices, text, flag_values=flag_values)
            else:
                _DEFINE[types[name]](name, default, text, flag_values=flag_values)


def config_of_flags(model: str, flag_values: flags.FlagValues = flags.FLAGS) -> Config:
    """The `Config` that parsed flags state.

    Args:
      model: name of the model.
      flag_values: with the flags of `define_flags`.
    """
    return Config(
        model=model,
        model_options=values_of_flags(MODELS[model], flag_values),
        **values_of_flags(Config, flag_values),
    )


def values_of_flags(cls: type, flag_values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """The values of a class's options that parsed flags state."""
    return {name: _converted(cls, name, flag_values[name].value) for name in options_of(cls)}


def given_flags(models: Iterable[str], flag_values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """Only the flags that were given, by name, in the types of the options."""
    found: dict[str, Any] = {}
    for cls in (*(MODELS[model] for model in models), Config):
        given = [name for name in options_of(cls) if flag_values[name].present]
        found |= {name: _converted(cls, name, flag_values[name].value) for name in given}
    return found


def parse(model: str, arguments: Sequence[str]) -> Config:
    """The `Config` of command line arguments, without touching the process's flags.

    Args:
      model: name of the model.
      arguments: such as `["--data_dir=D", "--flagfile=xdeepint_adult"]`.

    Raises:
      flags.Error: a flag is unknown, or its value is of no use.
    """
    flag_values = flags.FlagValues()
    flags.DEFINE_string("flagfile", "", "", flag_values=flag_values)
    define_flags([model], flag_values)
    flag_values(["experiment", *find_flagfiles(arguments)])
    return config_of_flags(model, flag_values)


def find_flagfiles(arguments: Sequence[str]) -> list[str]:
    """The arguments, in which `--flagfile=NAME` of a file of this package's `flagfiles/` has its path.

    Raises:
      FileNotFoundError: there is neither such a file nor such a name.
    """
    found = []
    for argument in arguments:
        flag, _, name = argument.partition("=")
        if flag.lstrip("-") == "flagfile" and argument.startswith("-") and name and not os.path.isfile(name):
            path = os.path.join(FLAGFILES, f"{name}.cfg")
            if not os.path.exists(path):
                known = sorted(file.removesuffix(".cfg") for file in os.listdir(FLAGFILES) if file.endswith(".cfg"))
                raise FileNotFoundError(f"--flagfile={name}: no such file, and none of the names {known}")
            argument = f"--flagfile={path}"
        found.append(argument)
    return found


def _converted(cls: type, name: str, value: Any) -> Any:
    """Lists as tuples, their items in the option's type."""
    if flag_types(cls)[name] is not tuple:
        return value
    kind = item_type(cls, name)
    try:
        return tuple(kind(item) for item in value)
    except ValueError:
        raise flags.IllegalFlagValueError(
            f"flag --{name}={','.join(value)}: expected items of {kind.__name__}"
        ) from None
