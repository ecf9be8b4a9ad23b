"""Sums of losses: parts, stages and targets."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext import losses
from xdeepint_ext.losses import CombinedLoss, HybridRankTowerLoss
from xdeepint_ext.losses.hybrid import LABEL_TEMPERATURE

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(4, 6))
GRADES = RANDOM.integers(0, 3, (4, 6)).astype(float)
GRADES[2, 4:] = -1.0
STAGES = np.tile([0, 0, 1, 1, 2, 2], (4, 1))
TEACHER = RANDOM.normal(size=(4, 6))
SOFT = RANDOM.uniform(0, 1, (4, 6))
SIDE = {"label": GRADES, "stages": STAGES, "teacher": TEACHER, "soft_label": SOFT}


def test_a_combination_is_the_weighted_sum_of_means():
    members = {losses.SoftmaxCrossEntropyLoss(): 0.3, losses.RankmaxLoss(): 2.0}
    expected = sum(weight * float(loss(GRADES, LOGITS)) for loss, weight in members.items())
    np.testing.assert_allclose(CombinedLoss(members)(GRADES, LOGITS), expected, rtol=1e-12)
    np.testing.assert_allclose(losses.combined(GRADES, LOGITS, losses=members), expected, rtol=1e-12)


def test_members_of_a_batch_and_of_its_groups():
    y, s, groups = np.array([1.0, 0, 1, 0]), np.array([0.3, 1.0, -1.0, 0.2]), np.array([1, 1, 2, 2])
    members = {losses.LogLoss(): 0.9, losses.ListCrossEntropyLoss(grouped=True): 0.1}
    loss = CombinedLoss(members)
    assert loss.side_inputs == ("group_ids",)
    expected = 0.9 * losses.log_loss(y, s) + 0.1 * losses.list_cross_entropy(y, s, group_ids=groups)
    np.testing.assert_allclose(loss({"label": y, "group_ids": groups}, s), expected, rtol=1e-12)


def test_the_ablations_default():
    impressions, first_two = STAGES == 0, STAGES < 2
    there = GRADES >= 0
    expected = (
        losses.softmax_distillation(TEACHER, LOGITS, list_mask=there & impressions)
        + losses.soft_sort(np.where(first_two, GRADES, -1), LOGITS, label_temperature=0.1)
        + losses.adaptive_margin_rankmax(GRADES, LOGITS)
    )
    loss = HybridRankTowerLoss()
    assert set(loss.side_inputs) == {"teacher", "stages"}
    np.testing.assert_allclose(loss(SIDE, LOGITS), expected, rtol=1e-12)


def test_targets():
    rows = {
        losses.SoftSortLoss(): (("impression", "random"), 0.5, "soft"),
        losses.SoftmaxCrossEntropyLoss(): ("candidate", 2.0, "teacher"),
    }
    y = {**SIDE, "teacher": SOFT}
    expected = 0.5 * losses.soft_sort(np.where((STAGES != 1) & (GRADES >= 0), SOFT, -1), LOGITS)
    expected += 2 * losses.softmax_cross_entropy(np.where((STAGES == 1) & (GRADES >= 0), SOFT, -1), LOGITS)
    np.testing.assert_allclose(HybridRankTowerLoss(rows)(y, LOGITS), expected, rtol=1e-12)
    side = {"stages": STAGES, "teacher": SOFT, "soft_label": SOFT}
    np.testing.assert_allclose(losses.hybrid_rank_tower(GRADES, LOGITS, losses=rows, **side), expected, rtol=1e-12)


@pytest.mark.parametrize("target", ["soft", "teacher"])
def test_targets_below_0_are_not_taken_for_padding(target):
    """A teacher's logits are for losses on a teacher; others would leave out what is below 0."""
    loss = HybridRankTowerLoss({losses.SoftmaxCrossEntropyLoss(): ("candidate", 1.0, target)})
    y = {**SIDE, "teacher": TEACHER, "soft_label": TEACHER}
    with pytest.raises(ValueError, match=f"target '{target}' of softmax_cross_entropy must be >= 0 where an item is"):
        loss(y, LOGITS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be >= 0 where an item is"):
        tf.function(loss)({name: tf.constant(x) for name, x in y.items()}, tf.constant(LOGITS))
    elsewhere = {**y, **{name: np.where(STAGES == 1, SOFT, -1.0) for name in ("teacher", "soft_label")}}
    assert np.isfinite(loss(elsewhere, LOGITS))


def test_the_best_grades_hold_nearly_all_the_mass_in_a_list_of_60():
    """Row by row of SoftSort of the labels: the share of the items of the row's own grade."""
    grades = np.repeat([3.0, 2.0, 1.0, 0.0], [1, 1, 1, 57])
    weights = np.exp(-np.abs(grades[:, np.newaxis] - grades) / LABEL_TEMPERATURE)
    of_own = (weights * (grades[:, np.newaxis] == grades)).sum(axis=1) / weights.sum(axis=1)
    assert of_own.min() > 0.99
    sorting = HybridRankTowerLoss().losses[1]
    assert sorting.label_temperature == LABEL_TEMPERATURE


def test_a_binary_target_is_whether_the_grade_is_above_0():
    loss = HybridRankTowerLoss({losses.LogLoss(): ("all", 1.0, "binary")})
    assert loss.side_inputs == ()
    np.testing.assert_allclose(loss(GRADES, LOGITS), losses.log_loss(np.minimum(GRADES, 1), LOGITS), rtol=1e-12)


def test_raw_probabilities_of_a_teacher_s_logits():
    expected = losses.softmax_distillation(1 / (1 + np.exp(-TEACHER / 2)), LOGITS, teacher="prob")
    found = losses.softmax_distillation(TEACHER, LOGITS, teacher="sigmoid", temperature=2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_random_items_only_the_losses_that_see_them_change():
    fewer = np.where(STAGES == 2, -1.0, GRADES)
    for stages, changes in (("impression", False), (("impression", "candidate"), False), ("all", True)):
        loss = HybridRankTowerLoss({losses.SoftSortLoss(): (stages, 1.0, "hard")})
        difference = float(loss(SIDE, LOGITS)) - float(loss({**SIDE, "label": fewer}, LOGITS))
        assert (abs(difference) > 1e-9) == changes


def test_ragged_lists():
    lengths = np.array([6, 3, 0, 5])
    ragged = {name: tf.RaggedTensor.from_tensor(x, lengths) for name, x in SIDE.items()}
    dense = {**SIDE, "label": np.where(np.arange(6) < lengths[:, None], GRADES, -1)}
    found = HybridRankTowerLoss()(ragged, tf.RaggedTensor.from_tensor(LOGITS, lengths))
    np.testing.assert_allclose(found, HybridRankTowerLoss()(dense, LOGITS), rtol=1e-12)


@pytest.mark.parametrize("loss", [HybridRankTowerLoss(), CombinedLoss({losses.BPRLoss(): 1.5, losses.LogLoss(): 1.0})])
def test_config(loss):
    again = type(loss).from_config(loss.get_config())
    assert again.get_config() == loss.get_config()
    assert again.side_inputs == loss.side_inputs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CombinedLoss({}), "losses must not be empty"),
        (lambda: CombinedLoss({tf.keras.losses.MeanSquaredError(): 1.0}), "must be RankingLosses reduced to a mean"),
        (lambda: CombinedLoss({losses.LogLoss(reduction="sum"): 1.0}), "must be RankingLosses reduced to a mean"),
        (lambda: HybridRankTowerLoss({losses.BPRLoss(): ("shown", 1.0, "hard")}), r"stages must be 'all' or some of"),
        (lambda: HybridRankTowerLoss({losses.BPRLoss(): ((), 1.0, "hard")}), r"stages must be 'all' or some of"),
        (lambda: HybridRankTowerLoss({losses.BPRLoss(): ("all", 1.0, "click")}), "target must be one of"),
        (
            lambda: HybridRankTowerLoss({losses.SoftmaxDistillationLoss(): ("all", 1.0, "hard")}),
            "the target of softmax_distillation must be 'teacher', got 'hard'",
        ),
        (lambda: HybridRankTowerLoss()({"label": GRADES, "teacher": TEACHER}, LOGITS), r"y_true lacks \['stages'\]"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
