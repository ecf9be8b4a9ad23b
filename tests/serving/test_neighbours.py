"""An approximate index against exact search."""

import numpy as np
import pytest

from xdeepint_ext.serving.neighbours import approximate_recall


def test_the_index_finds_most_of_the_best():
    pytest.importorskip("faiss", reason="faiss-cpu is the extra [ann]")
    random = np.random.default_rng(0)
    users, items = (random.normal(size=(n, 8)).astype(np.float32) for n in (50, 3000))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    report = approximate_recall(users, items, 20)
    assert 0.9 < report.recall <= 1
    hardly = approximate_recall(users, items, 20, neighbours=2, effort=1)
    assert hardly.recall < report.recall


def test_without_faiss_it_says_how(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"xdeepint-ext\[ann\]"):
        approximate_recall(np.zeros((1, 2), np.float32), np.ones((3, 2), np.float32), 1)
