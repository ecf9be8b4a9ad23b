"""Runs the examples in the package's docstrings, each docstring as if it were the first thing in the process."""

import doctest
import importlib
import pathlib

import pytest
import tensorflow as tf

import xdeepint_ext

PACKAGE = pathlib.Path(xdeepint_ext.__file__).parent
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules_with_examples():
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    docstrings = [found for found in doctest.DocTestFinder().find(importlib.import_module(name)) if found.examples]
    assert docstrings, f"{name} holds '>>> ' outside its docstrings only"
    for docstring in docstrings:
        tf.keras.backend.clear_session()  # layers are numbered from the start
        runner.run(docstring, out=report.append)
    assert runner.failures == 0, "".join(report)
