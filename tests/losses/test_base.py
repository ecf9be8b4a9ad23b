"""RankingLoss: a new loss is one method, and masks, weights, side inputs and the mean are owned by the base."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.losses import ListwiseLoss, RankingLoss
from xdeepint_ext.losses.base import masked_sum


class GroupShare(RankingLoss):
    """Squared distance of a logit to the share of its group's examples in the batch."""

    side_inputs = ("group_ids",)

    def units(self, labels, logits, side):
        same = tf.cast(side["group_ids"][:, tf.newaxis] == side["group_ids"], logits.dtype)
        return (logits - tf.reduce_mean(same, axis=1)) ** 2, labels >= 0


class _MeanSquareLoss(ListwiseLoss):
    """The mean square of a list's logits."""

    def list_losses(self, lists, side):
        return lists.sum(lists.logits**2) / lists.count(lists.mask), lists.count(lists.mask) > 0


class _SquareLoss(ListwiseLoss):
    """The square of each logit, which forgets to say so."""

    def list_losses(self, lists, side):
        return lists.logits**2, lists.mask


def test_the_name_is_the_class():
    assert GroupShare().name == "group_share"
    assert _MeanSquareLoss().name == "mean_square"  # a scope's name, which may not start with _
    found = tf.function(_MeanSquareLoss())(tf.constant([[1.0, 0.0, -1.0]]), tf.constant([[3.0, 1.0, 9.0]]))
    np.testing.assert_allclose(found, (3**2 + 1**2) / 2, rtol=1e-6)
    assert _MeanSquareLoss(name="mine").name == "mine"


def test_units_must_be_what_the_class_says():
    with pytest.raises(ValueError, match=r"square: units_are is 'lists', but list_losses gave shape \(2, 2\)"):
        _SquareLoss()(tf.constant([[1.0, 0.0]] * 2), tf.zeros((2, 2)))


def test_side_inputs_come_with_the_labels():
    y_true = {"label": tf.constant([1.0, 1.0, -1.0]), "group_ids": tf.constant([5, 5, 7])}
    logits = tf.constant([0.0, 1.0, 9.0])
    expected = ((0 - 2 / 3) ** 2 + (1 - 2 / 3) ** 2) / 2
    np.testing.assert_allclose(GroupShare()(y_true, logits), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("y_true", "message"),
    [
        ({"group_ids": tf.constant([1])}, r"GroupShare: y_true lacks \['label'\]; got \['group_ids'\]"),
        ({"label": tf.constant([1.0])}, r"GroupShare: y_true lacks \['group_ids'\]"),
        (tf.constant([1.0]), r"y_true lacks \['group_ids'\]; got \['label'\]"),
    ],
)
def test_missing_side_inputs_are_named(y_true, message):
    with pytest.raises(ValueError, match=message):
        GroupShare(name="GroupShare")(y_true, tf.constant([1.0]))


def test_sums_of_parts_give_the_mean_of_the_whole():
    labels, logits = tf.constant([1.0, -1.0, 0.0, 1.0, 1.0]), tf.constant([0.1, 0.2, 0.3, 0.4, 0.5])
    weights, groups = tf.constant([1.0, 2.0, 3.0, 4.0, 5.0]), tf.zeros(5, tf.int64)
    loss = GroupShare()
    whole = loss({"label": labels, "group_ids": groups}, logits, weights)
    parts = [
        loss.parts({"label": labels[part], "group_ids": groups[part]}, logits[part], weights[part])[0]
        for part in (slice(0, 2), slice(2, 5))
    ]
    np.testing.assert_allclose(whole, sum(p.total for p in parts) / sum(p.count for p in parts), rtol=1e-6)


def test_masked_sum_never_lets_the_masked_through():
    values = tf.Variable([1.0, np.nan, np.inf])
    with tf.GradientTape() as tape:
        total = masked_sum(values, tf.constant([True, False, False]))
    assert float(total) == 1.0
    np.testing.assert_array_equal(tape.gradient(total, values), [1.0, 0.0, 0.0])


def test_a_subclass_must_give_the_units():
    with pytest.raises(NotImplementedError):
        RankingLoss()(tf.constant([1.0]), tf.constant([1.0]))
