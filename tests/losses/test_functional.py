"""The functional forms are the classes."""

import inspect
import re

import numpy as np
import pytest

from tests.losses.cases import CASES, Case, draw, target
from xdeepint_ext import losses

CLASSES = [cls for cls in vars(losses).values() if inspect.isclass(cls) and issubclass(cls, losses.RankingLoss)]
PUBLIC = [cls for cls in CLASSES if cls not in (losses.RankingLoss, losses.ListwiseLoss)]


def twin(cls: type) -> str:
    name = cls.__name__ if cls is losses.LogLoss else cls.__name__.removesuffix("Loss")
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_every_class_has_a_twin_in_its_file(cls: type):
    function = getattr(losses, twin(cls))
    assert function.__module__ == cls.__module__
    parameters = inspect.signature(function).parameters
    assert [p for p in parameters][:2] == ["y_true", "y_pred"]
    keywords = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert keywords[0] == "sample_weight"
    assert function.__doc__.startswith(f"Functional form of `{cls.__name__}`")


def by_class() -> list[Case]:
    return list({case.loss: case for case in CASES}.values())


@pytest.mark.parametrize("case", by_class(), ids=str)
def test_rows_groups_and_weights(case: Case):
    labels, logits, mask, weights = draw(case, 0, 4, 5)
    function = getattr(losses, twin(case.loss))
    y_true = target(case, labels, mask)
    expected = case.loss(**case.options)(y_true, logits, weights)
    np.testing.assert_array_equal(function(y_true, logits, sample_weight=weights, **case.options), expected)
    groups = np.repeat(np.arange(4), 5)
    flat = {name: x.ravel() for name, x in y_true.items()} if isinstance(y_true, dict) else y_true.ravel()
    found = function(flat, logits.ravel(), sample_weight=weights.ravel(), group_ids=groups, **case.options)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_jrc():
    logits = np.random.default_rng(0).normal(size=(6, 2))
    labels, groups = np.array([1.0, 0, 1, 0, 0, 1]), np.array([4, 4, 7, 7, 7, 7])
    expected = losses.JRCLoss(0.3)({"label": labels, "group_ids": groups}, logits)
    np.testing.assert_array_equal(losses.jrc(labels, logits, group_ids=groups, alpha=0.3), expected)


def test_side_inputs_are_keywords():
    labels, logits = np.array([[1.0, 0, 0]]), np.array([[0.5, 1.0, -1.0]])
    ids, q = np.array([[7, 7, 8]]), np.array([[0.5, 0.2, 0.1]])
    for function, loss in ((losses.cro, losses.CROLoss()), (losses.cro_lambda, losses.CROLambdaLoss())):
        expected = loss({"label": labels, "item_ids": ids, "sampling_probability": q}, logits)
        np.testing.assert_array_equal(function(labels, logits, item_ids=ids, sampling_probability=q), expected)
    for function, loss in ((losses.bpr, losses.BPRLoss()), (losses.triplet, losses.TripletLoss())):
        np.testing.assert_array_equal(
            function(labels, logits, item_ids=ids), loss({"label": labels, "item_ids": ids}, logits)
        )
