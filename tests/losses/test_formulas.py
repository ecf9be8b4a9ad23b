"""Every loss on lists against its reference: rows, ragged rows, the batch as a list, groups of the batch, blocks."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.cases import CASES, Case, draw, expected, target
from xdeepint_ext.losses import pairs

ONCE = settings(max_examples=4, deadline=None)
SIZES = {"seed": st.integers(0, 2**32 - 1), "lists": st.integers(1, 5), "length": st.integers(1, 7)}

each_case = pytest.mark.parametrize("case", CASES, ids=str)


@each_case
@given(**SIZES)
@ONCE
def test_rows(case: Case, seed: int, lists: int, length: int):
    labels, logits, mask, weights = draw(case, seed, lists, length)
    found = case.loss(**case.options)(target(case, labels, mask), logits, weights)
    np.testing.assert_allclose(found, expected(case, labels, logits, mask, weights), rtol=1e-9, atol=1e-12)


@each_case
def test_a_weight_of_a_row_is_that_of_its_items(case: Case):
    labels, logits, mask, _ = draw(case, 1, 6, 5)
    of_rows = np.arange(1.0, 7.0)
    found = case.loss(**case.options)(target(case, labels, mask), logits, of_rows)
    weights = np.repeat(of_rows[:, np.newaxis], 5, axis=1)
    np.testing.assert_allclose(found, expected(case, labels, logits, mask, weights), rtol=1e-9)


@each_case
def test_ragged_rows(case: Case):
    labels, logits, _, weights = draw(case, 2, 5, 6)
    lengths = np.array([6, 0, 3, 1, 5])
    mask = np.arange(6) < lengths[:, np.newaxis]
    ragged = [tf.RaggedTensor.from_tensor(x, lengths) for x in (labels, logits, weights)]
    found = case.loss(**case.options)(ragged[0], ragged[1], ragged[2])
    np.testing.assert_allclose(found, expected(case, labels, logits, mask, weights), rtol=1e-9)


@each_case
@given(**SIZES)
@ONCE
def test_groups_of_a_batch(case: Case, seed: int, lists: int, length: int):
    labels, logits, mask, weights = draw(case, seed, lists, length)
    groups = np.repeat(np.random.default_rng(seed).permutation(9)[:lists] * 7 - 20, length)
    order = np.random.default_rng(seed).permutation(lists * length)
    y_true = tf.nest.map_structure(lambda x: x.ravel()[order], target(case, labels, mask))
    y_true = {**(y_true if isinstance(y_true, dict) else {"label": y_true}), "group_ids": groups[order]}
    loss = case.loss(in_batch=True, **case.options)
    found = loss(y_true, logits.ravel()[order][:, np.newaxis], weights.ravel()[order])
    np.testing.assert_allclose(found, expected(case, labels, logits, mask, weights), rtol=1e-9, atol=1e-12)


@each_case
def test_a_batch_is_one_list(case: Case):
    labels, logits, _, weights = draw(case, 3, 1, 12)
    mask = np.arange(12)[np.newaxis] % 4 > 0
    y_true = tf.nest.map_structure(lambda x: x[0], target(case, labels, mask))
    found = case.loss(in_batch=True, **case.options)(y_true, logits[0], weights[0])
    np.testing.assert_allclose(found, expected(case, labels, logits, mask, weights), rtol=1e-9)


@pytest.mark.parametrize("size", ["known", pytest.param("unknown", marks=pytest.mark.slow)])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("case", [case for case in CASES if "normalize" not in case.options][::5], ids=str)
def test_long_lists_go_by_blocks(case: Case, grouped: bool, size: str, monkeypatch):
    labels, logits, _, weights = draw(case, 4, 3, 11)
    mask = np.arange(11)[np.newaxis] % 5 < np.array([[3], [4], [5]])

    def run():
        y_true, s, w = target(case, labels, mask), logits, weights
        if grouped:
            y_true = y_true if isinstance(y_true, dict) else {"label": y_true}
            y_true = {name: x.ravel() for name, x in y_true.items()} | {"group_ids": np.repeat(range(3), 11)}
            s, w = s.ravel(), w.ravel()
        given = tf.nest.map_structure(tf.constant, (y_true, s, w))
        loss = case.loss(in_batch=grouped, **case.options)

        def value_and_gradient(y_true, s, w):
            with tf.GradientTape() as tape:
                tape.watch(s)
                value = loss(y_true, s, w)
            return value, tape.gradient(value, s)

        if size == "known":
            return value_and_gradient(*given)
        none = tf.nest.map_structure(lambda x: tf.TensorSpec([None] * x.shape.rank, x.dtype), given)
        return tf.function(value_and_gradient, input_signature=none)(*given)

    whole = run()
    monkeypatch.setattr(pairs, "MOST_PAIRS", 20)
    monkeypatch.setattr(pairs, "PAIRS_OF_A_BLOCK", 50)
    in_blocks = run()
    np.testing.assert_allclose(whole[0], expected(case, labels, logits, mask, weights), rtol=1e-9)
    for a, b in zip(in_blocks, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("jit", [False, True])
def test_blocks_in_a_graph(jit: bool, monkeypatch):
    case = CASES[0]
    labels, logits, mask, weights = draw(case, 5, 1, 40)
    monkeypatch.setattr(pairs, "MOST_PAIRS", 20)
    monkeypatch.setattr(pairs, "PAIRS_OF_A_BLOCK", 130)

    @tf.function(jit_compile=jit, input_signature=[tf.TensorSpec([None, None], tf.float64)] * 3)
    def value_and_gradient(y, s, w):
        with tf.GradientTape() as tape:
            tape.watch(s)
            value = case.loss()(y, s, w)
        return value, tape.gradient(value, s)

    value, gradient = value_and_gradient(target(case, labels, mask), logits, weights)
    np.testing.assert_allclose(value, expected(case, labels, logits, mask, weights), rtol=1e-9)
    step = 1e-6 * np.cos(np.arange(40.0))
    ahead, behind = (expected(case, labels, logits + sign * step, mask, weights) for sign in (1, -1))
    np.testing.assert_allclose(2 * np.sum(gradient * step), ahead - behind, rtol=1e-6)
