"""The table and the public names are the same set."""

import importlib
import pkgutil

import xdeepint_ext
from tests.conformance.table import TABLE
from xdeepint_ext.utils.registry import PUBLIC


def test_every_public_name_has_one_line_and_every_line_a_public_name():
    for module in pkgutil.walk_packages(xdeepint_ext.__path__, "xdeepint_ext."):
        if not module.name.rsplit(".", 1)[-1].startswith("_"):
            importlib.import_module(module.name)
    public = sorted(obj.__name__ for obj in PUBLIC.values() if obj.__module__.startswith("xdeepint_ext."))
    assert sorted(line.name for line in TABLE) == public
