"""The specification's numeric cases and identities (papers/ranking_losses_and_towers.md, section 6)."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.losses import reference
from xdeepint_ext import losses

S = np.array([1.2, -0.3, 0.4, -1.5, 2.0, 0.0])
Y = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
CODES = [(0, 0), (0, 1), (0, 0), (1, 0), (1, 0), (1, 0)]
F = np.array([(0.1, 0.5), (0.3, -0.2), (-0.4, 0.9), (0.0, 0.0)])
CLICKS = np.array([1.0, 0.0, 1.0, 0.0])
Z, GRADES = np.array([[0.2, 1.5, -0.7, 0.9]]), np.array([[1.0, 3.0, 0.0, 2.0]])
COSINES = np.array([[0.6, 0.5, -0.2, 0.7], [0.1, 0.3, 0.0, -0.4]])
FIRST = np.array([[1.0, 0.0, 0.0, 0.0]] * 2)
CRO = {
    "exp": {0: 0.0443893375, 0.8: 8.3037892468, 1: 1.7891516116, 1.2: 7.2013461685, 1.4: 7.0167420007},
    "softplus": {0: 0.0209810724, 0.8: 6.9158909968, 1: 1.1016327466, 1.2: 6.9088362527, 1.4: 6.9084443905},
    "sigmoid": {0: 0.0143590409, 0.8: 6.2531263712, 1: 0.7308847722, 1.2: 6.7313640923, 1.4: 6.8347836130},
}


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=6e-11)


def gradient(loss, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x)
    return tape.gradient(value, x).numpy()


# -- 6.1 GroupCE ------------------------------------------------------------------------------------------------------


def test_losses_of_one_batch():
    close(losses.log_loss(Y, S), 0.7253569056)
    close(losses.softmax_cross_entropy(Y, S, in_batch=True), 2.1174369948)
    close(losses.list_cross_entropy(Y, S, in_batch=True, transform="exp"), 2.1174369948)
    close(losses.list_cross_entropy(Y, S, in_batch=True), 1.7005625291)
    close(losses.pairwise_logistic(Y, S, in_batch=True, normalize=False), 6.6467275873)
    close(losses.pairwise_logistic(Y, S, in_batch=True), 0.7385252875)


def test_list_ce_is_softmax_ce_of_the_log_sigmoids():
    close(
        losses.softmax_cross_entropy(Y, tf.math.log_sigmoid(S), in_batch=True),
        losses.list_cross_entropy(Y, S, in_batch=True),
    )


def test_softmax_does_not_feel_a_shift_and_list_ce_does():
    close(losses.softmax_cross_entropy(Y, S + 1, in_batch=True), 2.1174369948)
    close(losses.list_cross_entropy(Y, S + 1, in_batch=True), 1.7017253971)


def test_list_ce_is_lowest_at_its_own_probabilities():
    p = tf.sigmoid(S).numpy()
    close(losses.list_cross_entropy(p, S, in_batch=True), 1.6999634577)
    shares = p / p.sum()
    close(losses.list_cross_entropy(p, S, in_batch=True), -(shares * np.log(shares)).sum())
    np.testing.assert_allclose(gradient(lambda s: losses.list_cross_entropy(p, s, in_batch=True), S), 0, atol=1e-12)


def test_groups_of_codes():
    literal = losses.GroupwiseListCrossEntropy(2, require_negative=False, dtype="float64")
    close(literal.level_losses(S, Y, CODES).losses[1], (0.7009228142 + 1.1398966414) / 2)
    default = losses.GroupwiseListCrossEntropy(2, include_root=True, dtype="float64")
    close(default.level_losses(S, Y, CODES).losses[0], 1.7005625291)
    close(default.level_losses(S, Y, CODES).losses[2], 1.1398966414)


def test_jrc():
    close(losses.jrc(CLICKS, F, alpha=1.0), 0.4803119677)
    close(losses.jrc(CLICKS, F, alpha=1.0), losses.log_loss(CLICKS, F[:, 1] - F[:, 0]))
    alone = losses.jrc(CLICKS, F, alpha=0.25, group_ids=np.arange(4))
    close(alone, 0.25 * 0.4803119677)  # contexts of one row have a rank loss of 0


# -- 6.2 RankTower ----------------------------------------------------------------------------------------------------


def test_soft_sort():
    np.testing.assert_allclose(
        reference.soft_sort_matrix(Z[0], 1.0)[0], [0.141051, 0.517559, 0.057347, 0.284042], atol=1e-6
    )
    close(losses.soft_sort(GRADES, Z, normalize=False), 4.3166326796)
    close(losses.soft_sort(GRADES, Z), 1.0791581699)
    rows = reference.soft_sort_matrix(GRADES[0], 1.0)
    close(losses.soft_sort(GRADES, GRADES, normalize=False), 4.2238863635)
    close(losses.soft_sort(GRADES, GRADES, normalize=False), -(rows * np.log(rows)).sum())


def test_soft_sort_s_matrix():
    """Of the reference, whose loss the library's is; that permuted items change nothing is a conformance property."""
    found, order = reference.soft_sort_matrix(Z[0], 1.0), [1, 3, 0, 2]
    assert found.argmax(axis=1).tolist() == np.argsort(-Z[0]).tolist() == order
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found.sum(axis=0), [1.0581, 0.9515, 0.9157, 1.0747], atol=5e-5)
    np.testing.assert_allclose(reference.soft_sort_matrix(Z[0], 1e-3), np.eye(4)[order], atol=1e-12)
    np.testing.assert_allclose(reference.soft_sort_matrix(Z[0, order], 1.0), found[:, order])


def test_soft_sort_is_the_trace_form():
    truth, found = (reference.soft_sort_matrix(x[0], 1.0) for x in (GRADES, Z))
    close(losses.soft_sort(GRADES, Z, normalize=False), -np.trace(np.ones((4, 4)) @ (truth * np.log(found))))


def test_soft_sort_shifts_and_scales():
    close(losses.soft_sort(GRADES, Z + 7), losses.soft_sort(GRADES, Z))
    close(losses.soft_sort(3 * GRADES, 3 * Z, temperature=3.0), losses.soft_sort(GRADES, Z))


def test_soft_sort_of_a_low_temperature_is_a_permutation():
    # With P(s) -> the permutation of the scores, only labels in the same order are cheap.
    right = losses.soft_sort(GRADES, Z, temperature=0.05, label_temperature=1e-3)
    wrong = losses.soft_sort(GRADES[:, ::-1], Z, temperature=0.05, label_temperature=1e-3)
    assert float(right) < 1e-4 < 1 < float(wrong)


def test_equal_labels_share_their_rows():
    ties, s = np.array([[1.0, 0.0, 0.0, 1.0]]), np.array([[0.3, -0.2, 0.5, 1.0]])
    half = np.array([[0.5, 0, 0, 0.5]] * 2 + [[0, 0.5, 0.5, 0]] * 2)
    found = reference.soft_sort_matrix(s[0], 1.0)
    close(losses.soft_sort(ties, s, label_temperature=1e-4, normalize=False), -(half * np.log(found)).sum())


def test_rankmax():
    z, y = np.array([[2.0, 0.5, 1.8, -1.0]]), np.array([[1.0, 0.0, 0.0, 0.0]])
    for loss in (losses.rankmax, losses.adaptive_margin_rankmax):
        close(loss(y, z), math.log(1.8))
        np.testing.assert_allclose(
            gradient(lambda x, loss=loss: loss(y, x), z), [[-1 / 1.8, 0, 1 / 1.8, 0]], atol=1e-12
        )


def test_rankmax_does_not_care_once_the_rest_is_1_below():
    z, y = np.array([[2.0, 0.9, 1.0, -3.0]]), np.array([[1.0, 0.0, 0.0, 0.0]])
    assert float(losses.rankmax(y, z)) == 0
    assert not gradient(lambda x: losses.rankmax(y, x), z).any()


def test_rankmax_is_never_negative_and_does_not_feel_a_shift():
    z, positives = np.random.default_rng(0).normal(size=(50, 6), scale=2.0), np.eye(6)[np.arange(50) % 6]
    for cls in (losses.RankmaxLoss, losses.AdaptiveMarginRankmaxLoss):
        terms = cls(reduction="none")(positives, z)  # a list with one positive is one term
        assert np.min(terms) >= 0 and np.max(terms) > 1
        close(cls(reduction="none")(positives, z + 7), terms)


def test_the_constant_margin_is_the_printed_formula():
    close(losses.adaptive_margin_rankmax(GRADES, Z, margin="constant"), losses.rankmax(GRADES, Z))


def test_distillation():
    p = np.array([[0.5, 0.3, 0.2]])
    close(losses.softmax_distillation(p, np.array([[1.0, 0.0, -1.0]]), teacher="prob"), 1.1076059645)
    entropy = -(p * np.log(p)).sum()
    close(losses.softmax_distillation(np.log(p), np.log(p)), entropy)
    close(entropy, 1.0296530141)


def test_arf():
    close(reference.neural_sort_matrix(Z[0], 1.0)[0].round(6), [0.041568, 0.618520, 0.000462, 0.339451])
    weight = np.ones((1, 4))
    relaxed, _ = reference.arf(GRADES[0], Z[0], weight[0], 1, 2)
    close(relaxed, 0.1249654364)
    ours, theirs = (losses.ARFLoss(1, 2, normalize=n, dtype="float64")(Z, GRADES) for n in (True, False))
    close(theirs, 0.2045275877 + 0.1422233804 / 2)
    close(ours, sum(np.array(reference.arf(GRADES[0], Z[0], weight[0], 1, 2)) * [1, 0.5]))


# -- 6.3 CROLoss ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", CRO)
def test_cro(kernel: str):
    for alpha, expected in CRO[kernel].items():
        close(losses.cro(FIRST, COSINES, kernel=kernel, weighting=alpha, num_items=1000, scale=10.0), expected)


def test_cro_of_exp_and_1_is_softmax_cross_entropy():
    close(losses.cro(FIRST, 10 * COSINES, kernel="exp"), 1.7891516116)
    close(losses.cro(FIRST, 10 * COSINES, kernel="exp"), losses.softmax_cross_entropy(FIRST, 10 * COSINES))
    far = np.array([[-300.0, 500.0, 0.0]])
    close(losses.cro([[1.0, 0.0, 0.0]], far, kernel="exp"), 800.0)


def test_cro_of_0_is_triplet_and_bpr():
    per_unit = 1000 / math.log(1001)
    hinge = losses.cro(FIRST, 10 * COSINES, kernel="hinge", weighting=0, num_items=1000)
    close(hinge * per_unit - 1, 10.5)
    close(losses.triplet(FIRST, 10 * COSINES, normalize=False), 10.5)
    softplus = losses.cro(FIRST, 10 * COSINES, kernel="softplus", weighting=0, num_items=1000)
    close(softplus * per_unit - 1, losses.bpr(FIRST, 10 * COSINES, normalize=False))
    close(losses.bpr(FIRST, 10 * COSINES, normalize=False), 2.0368819142)


def test_alpha_is_continuous_at_1():
    options = {"kernel": "softplus", "num_items": 1000, "estimator": "additive"}
    near, at = (losses.cro(FIRST, 10 * COSINES, weighting=alpha, **options) for alpha in (1.0001, 1))
    np.testing.assert_allclose(near, at, rtol=1e-3)
    # W_1.0001(50) = .5663262 and W_1(50) = ln 50 / ln 1001 = .5662414 for N = 1000: the cost is W ln(N + 1).
    fifty = {alpha: reference.cro_cost(50 / 100, 10, 1000, alpha) / math.log(1001) for alpha in (1.0001,)}
    np.testing.assert_allclose(fifty[1.0001], 0.5663262, atol=1e-7)


@pytest.mark.parametrize("kernel", ["softplus", "exp", "hinge", "sigmoid"])
@pytest.mark.parametrize("alpha", [0, 0.8, 1, 1.4])
def test_lambda_of_equal_kernels_has_the_plain_gradient(alpha: float, kernel: str):
    options = {"weighting": alpha, "num_items": 1000, "scale": 10.0}
    plain = gradient(lambda s: losses.cro(FIRST, s, kernel=kernel, **options), COSINES)
    for repo_scale in (False, True):
        found = gradient(
            lambda s, repo=repo_scale: losses.cro_lambda(
                FIRST, s, weight_kernel=kernel, kernel=kernel, repo_scale=repo, **options
            ),
            COSINES,
        )
        ratio = 1000 / 3 if repo_scale and alpha not in (0, 1) else 1
        np.testing.assert_allclose(found * ratio, plain, rtol=1e-9)


@pytest.mark.parametrize("kernel", ["softplus", "exp", "hinge", "sigmoid"])
@pytest.mark.parametrize("alpha", [0, 0.8, 1, 1.4])
def test_cro_is_monotone(alpha: float, kernel: str):
    found = gradient(lambda s: losses.cro(FIRST, s, kernel=kernel, weighting=alpha, num_items=1000), 3 * COSINES)
    assert (found[:, 0] <= 0).all()
    assert (found[:, 1:] >= 0).all()


def test_weights_of_lambda_carry_no_gradient():
    # With a step, of which the rank is an integer, the gradient is that of r_2 times a constant.
    s = 10 * COSINES
    ranks = 1 + (COSINES[:, 1:] >= COSINES[:, :1]).sum(axis=1)
    assert ranks.tolist() == [2, 2]
    found = gradient(lambda x: losses.cro_lambda(FIRST, x, weight_kernel="step", kernel="softplus"), s)
    sums = gradient(lambda x: losses.bpr(FIRST, x, normalize=False), s)
    np.testing.assert_allclose(found, sums / 2, rtol=1e-12)
