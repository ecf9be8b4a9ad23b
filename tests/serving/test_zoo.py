"""Every model of the zoo as TF Serving runs it: its signatures, its scores, its operations, its warm-up requests."""

import importlib.util
import pathlib

import numpy as np
import pytest
from tensorflow.python.framework import op_def_registry

from tests.serving import c_api, zoo
from xdeepint_ext import models
from xdeepint_ext.models import baselines

DEFAULT = ("GroupRanker",)
"""In the default run; towers, catalogues and spans have tests of their own there."""
BASES = {"RankingModel", "RetrievalModel", "TowerModel", "WrappedModel"}
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "signatures.md"

NO_TOKENIZERS = importlib.util.find_spec("tokenizers") is None


def _marks(name):
    marks = [] if name in DEFAULT else [pytest.mark.slow]
    return [*marks, pytest.mark.skipif(name in zoo.READERS and NO_TOKENIZERS, reason="needs the extra qa")]


needs_page = pytest.mark.skipif(not PAGE.is_file(), reason="an installed package has no docs/")
every_model = pytest.mark.parametrize("name", [pytest.param(name, marks=_marks(name)) for name in zoo.ZOO])


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    """Model -> (export, answers by signature, answers to the warm-up requests): one process of the C API for all."""
    items = [item for item in request.session.items if item.module is request.module and hasattr(item, "callspec")]
    selected = {item.callspec.params["name"] for item in items} - (set(zoo.READERS) if NO_TOKENIZERS else set())
    found = {name: zoo.export(name, tmp_path_factory.mktemp(name)) for name in zoo.ZOO if name in selected}
    calls, owners = [], []
    for name, exported in found.items():
        replayed = zoo.warm_up_requests(exported.folder)
        for place, (signature, inputs) in enumerate([*exported.requests.items(), *replayed]):
            calls.append((exported.folder, signature, inputs))
            owners.append((name, place < len(exported.requests), signature))
    answers = {name: ({}, {}) for name in found}
    for (name, asked, signature), outputs in zip(owners, c_api.run_signatures(calls), strict=True):
        answers[name][0 if asked else 1][signature] = outputs
    return {name: (exported, *answers[name]) for name, exported in found.items()}


@every_model
def test_scores_are_those_of_training(served, name):
    exported, answers, _ = served[name]
    for signature, expected in exported.expected.items():
        for output, values in expected.items():
            found = answers[signature][output]
            if values.dtype.kind in "iu":
                np.testing.assert_array_equal(found, values, err_msg=f"{signature} {output}")
            else:
                assert np.ptp(values[np.isfinite(values)]) > 0 or values.size < 2, "nothing to tell scores apart by"
                np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-6, err_msg=f"{signature} {output}")


@needs_page
@every_model
def test_signatures_are_the_documented_ones(served, name):
    page = zoo.documented(PAGE.read_text())
    expected = {signature: table for (model, signature), table in page.items() if model == name}
    assert zoo.tables(served[name][0].folder) == expected


@every_model
def test_every_operation_is_tensorflow_s_own(served, name):
    graph = c_api.meta_graph(served[name][0].folder).graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    functions = {function.signature.name for function in graph.library.function}
    unknown = {node.op for node in nodes if op_def_registry.get(node.op) is None} - functions
    assert not unknown and len(nodes) > 10
    assert not {node.op for node in nodes if "PyFunc" in node.op or node.op.startswith("Xla")}


@every_model
def test_warm_up_requests_reach_every_signature(served, name):
    exported, _, replayed = served[name]
    assert {*replayed, "preprocess"} >= set(exported.requests), "a signature is cold when the first request comes"
    for signature, outputs in replayed.items():
        assert set(outputs) >= set(exported.expected[signature])


def test_the_zoo_is_complete():
    assert set(zoo.ZOO) == {*models.__all__, *baselines.__all__} - BASES


@needs_page
def test_the_page_has_every_model():
    assert {model for model, _ in zoo.documented(PAGE.read_text())} == set(zoo.ZOO)
