"""TwoLogitRanker: two logits for the loss, their difference for all else."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models import examples
from tests.models.examples import MODELS, ONE_TASK, TWO_TASKS
from xdeepint_ext import metrics
from xdeepint_ext.losses import JRCLoss, jrc
from xdeepint_ext.models import TwoLogitRanker
from xdeepint_ext.schema import Feature, Schema

ALPHA = 0.4


def ranker(schema=ONE_TASK, backbone="dcn-v2"):
    return TwoLogitRanker(schema, backbone=MODELS[backbone])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["dcn-v2", "projected"])
def test_the_score_is_the_difference_of_the_logits_that_the_loss_sees(backbone):
    model = ranker(backbone=backbone)
    features, labels, weights = examples.batch()
    pairs, scores = model(features, pairs=True), model(features)
    assert pairs.shape == (8, 2) and scores.shape == (8, 1)
    np.testing.assert_allclose(scores[:, 0], pairs[:, 1] - pairs[:, 0], rtol=1e-6)
    metric = tf.keras.metrics.BinaryCrossentropy(from_logits=True, name="log_loss")
    model.compile(tf.keras.optimizers.SGD(0.0), JRCLoss(ALPHA), [metric])
    expected = jrc(labels[:, 0], pairs, sample_weight=weights, alpha=ALPHA)
    of_scores = metrics.log_loss(labels[:, 0], scores[:, 0].numpy(), weights)
    for found in (
        model.train_on_batch(features, labels, weights, return_dict=True, reset_metrics=True),
        model.evaluate(features, labels, sample_weight=weights, verbose=0, return_dict=True),
    ):
        assert found["loss"] == pytest.approx(float(expected), rel=1e-5)
        assert found["log_loss"] == pytest.approx(of_scores, rel=1e-5)
    np.testing.assert_allclose(model.predict(features, verbose=0), scores, rtol=1e-5, atol=1e-6)


def test_groups_are_contexts():
    model = ranker()
    features, labels, _ = examples.batch()
    model.compile(tf.keras.optimizers.SGD(0.0), JRCLoss(ALPHA, grouped=True))
    expected = jrc(labels[:, 0], model(features, pairs=True), alpha=ALPHA, group_ids=features["group_ids"])
    found = model.train_on_batch(features, labels, return_dict=True)
    assert found["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
def test_several_tasks_have_two_logits_each_and_a_copy_scores_alike():
    model = ranker(TWO_TASKS)
    features, labels, _ = examples.batch(TWO_TASKS)
    assert model.backbone.tasks == ("click_0", "click_1", "buy_0", "buy_1")
    model.compile()  # JRC
    assert np.isfinite(model.train_on_batch(features, labels)).all()
    copy = TwoLogitRanker.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    for task in ("click", "buy"):
        np.testing.assert_array_equal(copy(features)[task], model(features)[task])


def test_without_a_label_there_is_one_task():
    model = TwoLogitRanker(Schema([Feature("user", num_values=3)]), backbone=MODELS["dnn"])
    assert model({"user": tf.constant([[1]])}).shape == (1, 1)
    assert model.backbone.tasks == ("label_0", "label_1")
