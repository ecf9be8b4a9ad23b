"""Bad input to losses on lists: a clear error, while tracing where it can be known."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext import losses

Y, S = np.array([[1.0, 0.0, 2.0]]), np.array([[0.5, 1.0, -1.0]])
FLAT = {"label": np.array([1.0, 0.0, 1.0]), "group_ids": np.array([1, 1, 2])}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.softmax_cross_entropy(Y[0], S[0]), r"y_pred must be \(B, L\), a list a row, got \(3,\)"),
        (lambda: losses.softmax_cross_entropy(Y, S, in_batch=True), r"with in_batch y_pred must be \(B,\) or \(B, 1\)"),
        (
            lambda: losses.softmax_cross_entropy(Y[:, :2], S),
            r"label must have the shape of y_pred, \(1, 3\), got \(1, 2\)",
        ),
        (lambda: losses.softmax_cross_entropy(Y, S[np.newaxis]), r"y_pred must be \(B, L\)"),
        (
            lambda: losses.jrc([1.0, 0.0], [[0.1, 0.2, 0.3]] * 2),
            r"y_pred must have 2 logits an item, got shape \(2, 3\)",
        ),
        (lambda: losses.jrc([1.0, 2.0], [[0.1, 0.2]] * 2), "labels must be 0 or 1, or below 0 where padding"),
        (lambda: losses.bpr(Y, S), "labels must be 0 or 1"),
        (lambda: losses.triplet(Y, S), "labels must be 0 or 1"),
        (lambda: losses.cro(Y, S), "labels must be 0 or 1"),
        (lambda: losses.rankmax(Y, S, sample_weight=[-1.0]), "sample_weight must not be negative"),
        (lambda: losses.rankmax(Y, S, sample_weight=[1.0, 2.0]), "sample_weight must have the shape"),
        (
            lambda: losses.log_loss([1.0, 0.0], [0.0, 1.0], sample_weight=[1.0, -1.0]),
            "sample_weight must not be negative",
        ),
        (
            lambda: losses.rankmax(FLAT["label"], S[0], group_ids=["a", "a", "b"]),
            "group_ids must be integers, got string",
        ),
        (
            lambda: losses.rankmax(FLAT["label"], S[0], group_ids=[1.0, 1.0, 2.0]),
            "group_ids must be integers, got float32",
        ),
        (lambda: losses.rankmax(FLAT["label"], S[0], group_ids=[1, 2]), "group_ids must have the shape"),
        (lambda: losses.RankmaxLoss()(FLAT, S[0]), "group_ids need in_batch=True or grouped=True"),
        (lambda: losses.RankmaxLoss(grouped=True)(FLAT["label"], S[0]), r"y_true lacks \['group_ids'\]"),
        (lambda: losses.RankmaxLoss()({"labels": Y}, S), r"y_true lacks \['label'\]; got \['labels'\]"),
        (lambda: losses.SoftmaxDistillationLoss()({"label": Y}, S), r"y_true lacks \['teacher'\]"),
        (lambda: losses.cro(Y[:, :2], S[:, :2], item_ids=[[1, 2, 3]]), "item_ids must have the shape"),
        (lambda: losses.soft_sort(Y, S, temperature=0.0), "temperature must be > 0, got 0.0"),
        (lambda: losses.soft_sort(Y, S, label_temperature=-1.0), "label_temperature must be > 0, got -1.0"),
        (lambda: losses.soft_sort(Y, S, power=3), "power must be 1 or 2, got 3"),
        (lambda: losses.neural_sort(Y, S, temperature=-2.0), "temperature must be > 0, got -2.0"),
        (lambda: losses.approx_ndcg(Y, S, temperature=0), "temperature must be > 0, got 0"),
        (lambda: losses.jrc([1.0], [[0.1, 0.2]], alpha=1.5), r"alpha must be in \[0, 1\], got 1.5"),
        (lambda: losses.list_cross_entropy(Y, S, transform="tanh"), r"transform must be one of .*, got 'tanh'"),
        (lambda: losses.triplet(Y, S, margin=0.0), "margin must be > 0, got 0.0"),
        (lambda: losses.adaptive_margin_rankmax(Y, S, margin="wide"), "margin must be one of .*, got 'wide'"),
        (lambda: losses.adaptive_margin_rankmax(Y, S, delta=0.0), "delta must be > 0, got 0.0"),
        (lambda: losses.softmax_distillation(Y, S, teacher="label"), "teacher must be one of .*, got 'label'"),
        (lambda: losses.softmax_distillation(Y, S, temperature=0.0), "temperature must be > 0, got 0.0"),
        (lambda: losses.weighted_log_loss_distillation(Y, S, weight="p"), "weight must be one of .*, got 'p'"),
    ],
)
def test_the_error_says_what_came_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_shapes_are_found_wrong_while_tracing():
    graph = tf.function(lambda y, s: losses.rankmax(y, s))
    with pytest.raises(ValueError, match="label must have the shape of y_pred"):
        graph.get_concrete_function(tf.TensorSpec([None, 4]), tf.TensorSpec([None, 5]))


def test_values_are_found_wrong_in_a_graph():
    graph = tf.function(lambda y, s, w: losses.bpr(y, s, sample_weight=w))
    assert np.isfinite(graph(tf.constant([[1.0, 0.0]]), tf.constant([[0.5, 1.0]]), tf.constant([1.0])))
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be 0 or 1"):
        graph(tf.constant([[2.0, 0.0]]), tf.constant([[0.5, 1.0]]), tf.constant([1.0]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="sample_weight must not be negative"):
        graph(tf.constant([[1.0, 0.0]]), tf.constant([[0.5, 1.0]]), tf.constant([-1.0]))


def test_ragged_rows_must_have_one_length():
    ragged = [tf.ragged.constant(x) for x in ([[1.0, 0.0], [1.0]], [[0.5, 0.1], [0.3]], [[0.5], [0.1, 0.3]])]
    assert np.isfinite(losses.rankmax(ragged[0], ragged[1]))
    with pytest.raises(ValueError, match="must have rows of the same lengths"):
        losses.rankmax(ragged[0], ragged[2])
    with pytest.raises(ValueError, match="y_pred or label must be ragged"):
        losses.rankmax(tf.zeros((2, 2)), tf.zeros((2, 2)), sample_weight=ragged[1])


def test_reduction_none_gives_the_lists():
    labels, logits = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]]), np.array([[0.5, 1.0], [2.0, 0.0], [1.0, 1.0]])
    found = losses.SoftmaxCrossEntropyLoss(reduction="none")(labels, logits, [2.0, 1.0, 1.0])
    np.testing.assert_allclose(found, [2 * np.log(1 + np.exp(0.5)), 0, 0], rtol=1e-12)
    total = losses.SoftmaxCrossEntropyLoss(reduction="sum")(labels, logits)
    np.testing.assert_allclose(total, np.log(1 + np.exp(0.5)), rtol=1e-12)
    mean = losses.SoftmaxCrossEntropyLoss()(labels, logits)
    np.testing.assert_allclose(mean, np.log(1 + np.exp(0.5)) / 2, rtol=1e-12)  # two lists have a positive


ITEM_LOSSES = [
    losses.BPRLoss,
    losses.TripletLoss,
    losses.CROLoss,
    losses.CROLambdaLoss,
    losses.JRCLoss,
    losses.WeightedLogLossDistillation,
]


@pytest.mark.parametrize("spoilt", [0, 1], ids=["positive", "negative"])
@pytest.mark.parametrize("cls", ITEM_LOSSES, ids=lambda cls: cls.__name__)
def test_nan_stays_in_its_group_and_at_its_items(cls: type, spoilt: int):
    """Items of three lists, shuffled into a batch of groups, have the losses that they have in rows, NaN ones too."""
    random = np.random.default_rng(0)
    labels = np.tile([1.0, 0.0, 0.0], (3, 1))
    logits = random.normal(size=(3, 3, cls.num_logits)).squeeze(-1 if cls.num_logits == 1 else ())
    logits[2, spoilt] = np.nan
    rows = cls(in_batch=False, reduction="none")({cls.target: labels}, logits).numpy()
    order = random.permutation(9)
    y_true = {cls.target: labels.ravel()[order], "group_ids": np.repeat([7, 3, 5], 3)[order]}
    flat = logits.reshape(9, *logits.shape[2:])[order]
    found = cls(grouped=True, reduction="none")(y_true, flat).numpy()
    np.testing.assert_allclose(found, rows.ravel()[order], rtol=1e-9)
    assert np.isnan(rows[2, spoilt])
    assert not np.isnan(rows[:2]).any()
