"""The losses in a two-tower model of tensorflow-recommenders: one argument of its task."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.losses import BPRLoss, CROLambdaLoss, CROLoss, SoftmaxCrossEntropyLoss

BATCH, WIDTH, ITEMS = 6, 4, 100
LOSSES = [
    CROLoss(weighting=1.4, num_items=ITEMS, scale=10.0),
    CROLambdaLoss(num_items=ITEMS, scale=10.0),
    BPRLoss(),
    SoftmaxCrossEntropyLoss(),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("hits", [False, True])
def test_the_task_takes_a_loss(loss, hits):
    tfrs = pytest.importorskip("tensorflow_recommenders")
    random = np.random.default_rng(0)
    users, items = (tf.constant(random.normal(size=(BATCH, WIDTH)), tf.float32) for _ in range(2))
    users, items = (tf.math.l2_normalize(x, axis=1) for x in (users, items))
    ids = tf.constant([3, 1, 4, 1, 5, 9])  # rows 1 and 3 are hits of each other
    task = tfrs.tasks.Retrieval(loss=loss, remove_accidental_hits=hits)
    with tf.GradientTape() as tape:
        tape.watch([users, items])
        value = task(users, items, candidate_ids=ids if hits else None)
    logits = tf.matmul(users, items, transpose_b=True).numpy()
    if hits:  # the task leaves them in, with a logit that never counts; CROLoss's M and BPR's mean have them
        logits[1, 3] = logits[3, 1] = -1e30
    np.testing.assert_allclose(value, loss(np.eye(BATCH), logits), rtol=1e-4)
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(value, [users, items]))
