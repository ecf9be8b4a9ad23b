"""Runs the guides' Python, each guide's blocks one after another as its reader would."""

import pathlib
import re

import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("guide", ["losses.md", "papers/groupce.md"])
def test_the_guide_runs(guide):
    if not DOCS.is_dir():
        pytest.skip("an installed package has no docs/")
    text = (DOCS / guide).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    known = {}
    for block in blocks:
        exec(compile(block, guide, "exec"), known)
