"""The table and the public names are the same set."""

import importlib
import pkgutil

import xdeepint_ext
from tests.conformance import test_properties  # noqa: F401 - fills PROPERTIES
from tests.conformance.table import PROPERTIES, TABLE
from xdeepint_ext.utils.registry import PUBLIC


def test_every_public_name_has_one_line_and_every_line_a_public_name():
    for module in pkgutil.walk_packages(xdeepint_ext.__path__, "xdeepint_ext."):
        if not module.name.rsplit(".", 1)[-1].startswith("_"):
            try:
                importlib.import_module(module.name)
            except ImportError as error:  # a module of an extra, which has no line
                assert "pip install 'xdeepint-ext[" in str(error), module.name
    public = sorted(obj.__name__ for obj in PUBLIC.values() if obj.__module__.startswith("xdeepint_ext."))
    assert sorted(line.name for line in TABLE) == public


def test_lines_are_excused_from_properties_that_exist_and_for_a_reason():
    for line in TABLE:
        assert set(line.exempt) <= {*PROPERTIES, "*"}, line.name
        assert all(why.strip() for why in line.exempt.values()), line.name


def test_every_kind_has_a_leader():
    kinds = {line.kind for line in TABLE} - {"function"}
    assert {line.kind for line in TABLE if line.leads} == kinds
