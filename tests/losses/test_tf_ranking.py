"""Where TF-Ranking has the loss, ours agrees with it up to the documented normalisation."""

import importlib

import numpy as np
import pytest

from xdeepint_ext import losses
from xdeepint_ext.utils.tf_ranking import import_tensorflow_ranking

RANDOM = np.random.default_rng(3)
LABELS = RANDOM.integers(0, 4, (6, 5)).astype(np.float32)
LABELS[:, 0] = 2.0
LABELS[:4, 3:] = -1.0  # padding, and in every list a grade above 0
LOGITS = RANDOM.normal(size=(6, 5)).astype(np.float32)
VALID = LABELS >= 0


@pytest.fixture(scope="module")
def tfr():
    return import_tensorflow_ranking()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_softmax_is_the_sum_without_normalisation(tfr):
    theirs = tfr.keras.losses.SoftmaxLoss()(LABELS, LOGITS)
    close(losses.softmax_cross_entropy(LABELS, LOGITS, normalize=False), theirs)
    one = tfr.keras.losses.SoftmaxLoss()(LABELS[:1], LOGITS[:1])
    total = np.where(VALID, LABELS, 0)[:1].sum()
    close(losses.softmax_cross_entropy(LABELS[:1], LOGITS[:1]), one / total)


def test_weights_of_lists(tfr):
    weights = np.arange(1.0, 7.0, dtype=np.float32)
    theirs = tfr.keras.losses.SoftmaxLoss()(LABELS, LOGITS, weights[:, np.newaxis])
    close(losses.softmax_cross_entropy(LABELS, LOGITS, normalize=False, sample_weight=weights), theirs)


def test_list_ce_is_theirs_on_log_sigmoids(tfr):
    theirs = tfr.keras.losses.SoftmaxLoss()(LABELS, -np.log1p(np.exp(-LOGITS)))
    close(losses.list_cross_entropy(LABELS, LOGITS, normalize=False), theirs)


def test_pairwise_logistic_is_divided_by_all_items_there(tfr):
    """Theirs is the sum over pairs divided by batch x list size; ours the mean over pairs, or its sum over lists."""
    theirs = tfr.keras.losses.PairwiseLogisticLoss()(LABELS, LOGITS)
    ours = losses.PairwiseLogisticLoss(normalize=False, reduction="sum")(LABELS, LOGITS)
    close(ours / LABELS.size, theirs)


def test_approx_ndcg(tfr):
    close(losses.approx_ndcg(LABELS, LOGITS), tfr.keras.losses.ApproxNDCGLoss()(LABELS, LOGITS))
    theirs = tfr.keras.losses.ApproxNDCGLoss(temperature=0.5)(LABELS, LOGITS)
    close(losses.approx_ndcg(LABELS, LOGITS, temperature=0.5), theirs)


def test_neural_sort(tfr):
    # It is no Keras loss there.
    losses_impl = importlib.import_module("tensorflow_ranking.python.losses_impl")
    loss = losses_impl.NeuralSortCrossEntropyLoss("neural_sort", temperature=1.0)
    per_list, weight = loss.compute_unreduced_loss(LABELS, LOGITS)
    assert weight.numpy().all()
    close(losses.neural_sort(LABELS, LOGITS), np.mean(per_list))
