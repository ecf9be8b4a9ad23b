"""What towers add to the loss in training, against loops, and how labels reach them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import tower_reference as loops
from tests.models import examples
from tests.models.examples import MODELS, ONE_TASK, TWO_TASKS
from xdeepint_ext.models.baselines import DAT, IntTower
from xdeepint_ext.models.baselines.dat import alignment, mimic
from xdeepint_ext.models.baselines.int_tower import CONTRAST_TEMPERATURE, contrast
from xdeepint_ext.models.towers import LABELS

LISTS, LENGTH, WIDTH = 3, 4, 2
LABELS_OF_LISTS = np.array([[1.0, 0.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0], [2.0, 1.0, 0.0, -1.0]])


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_mimic_equals_loops():
    own, other = vectors(LISTS, 1, WIDTH), vectors(LISTS, LENGTH, WIDTH, seed=1)
    gaps = [
        ((own[u, 0] - other[u, n]) ** 2).sum() * (LABELS_OF_LISTS[u, n] > 0)
        for u in range(LISTS)
        for n in range(LENGTH)
        if LABELS_OF_LISTS[u, n] >= 0
    ]
    np.testing.assert_allclose(mimic(tf.constant(own), tf.constant(other), LABELS_OF_LISTS), np.mean(gaps))


def test_mimic_moves_the_id_s_vector_and_not_the_other_side():
    own, other = tf.constant(vectors(LISTS, 1, WIDTH)), tf.constant(vectors(LISTS, LENGTH, WIDTH, seed=1))
    with tf.GradientTape() as tape:
        tape.watch([own, other])
        loss = mimic(own, other, tf.constant(LABELS_OF_LISTS))
    first, second = tape.gradient(loss, [own, other])
    assert np.any(first) and second is None and not np.any(first[1])  # list 1 has no positive


def test_alignment_equals_loops():
    x, category = vectors(12, WIDTH), np.array([1, 2, 2, 3, 1, 2, 0, 0, 0, 0, 1, 2])
    covariances = {c: np.cov(x[category == c], rowvar=False) for c in (1, 2)}  # 3 is one item, 0 none
    expected = ((covariances[2] - covariances[1]) ** 2).sum()
    np.testing.assert_allclose(alignment(tf.constant(x), tf.constant(category), 5), expected)
    as_lists = tf.reshape(x, (3, 4, WIDTH)), tf.reshape(category, (3, 4))
    np.testing.assert_allclose(alignment(*as_lists, 5), expected)
    assert float(alignment(tf.constant(x), tf.constant(category * 0), 5)) == 0.0


def test_contrast_equals_loops():
    user, items = vectors(LISTS, WIDTH), vectors(LISTS, LENGTH, WIDTH, seed=1)
    pairs = [(u, n) for u in range(LISTS) for n in range(LENGTH)]
    there = [pair for pair in pairs if LABELS_OF_LISTS[pair] >= 0]
    losses = []
    for u, n in pairs:
        if LABELS_OF_LISTS[u, n] > 0:
            everyone = sum(np.exp(loops.cosine(user[u], items[j]) / CONTRAST_TEMPERATURE) for j in there)
            losses.append(np.log(everyone) - loops.cosine(user[u], items[u, n]) / CONTRAST_TEMPERATURE)
    found = contrast(tf.constant(user), tf.constant(items), tf.constant(LABELS_OF_LISTS))
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-10)
    assert float(contrast(tf.constant(user), tf.constant(items), tf.zeros((LISTS, LENGTH)))) == 0.0


def test_contrast_of_zeros_has_a_finite_gradient():
    user, items = tf.zeros((2, 3)), tf.zeros((2, 2, 3))
    with tf.GradientTape() as tape:
        tape.watch([user, items])
        loss = contrast(user, items, tf.ones((2, 2)))
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, [user, items]))


def step(model, labels, rows=False):
    """Losses of one training call, and of one call that is not training."""
    of_lists, _, flat = examples.lists(size=LISTS, length=LENGTH)
    features = {**(flat if rows else of_lists), LABELS: labels.reshape(-1, 1) if rows else labels}
    model(features, training=True)
    found = [float(loss) for loss in model.losses]
    model(features, training=False)
    assert not model.losses
    return found


@pytest.mark.parametrize("rows", [False, True])
def test_dat_adds_its_terms(rows):
    weights = {"mimic_weights": (0.3, 0.7), "alignment_weight": 0.2}
    model = examples.randomise(DAT(ONE_TASK, width=4, units=[5, WIDTH], category="item", **weights))
    found = step(model, np.float32(LABELS_OF_LISTS), rows)
    of_lists, _, _ = examples.lists(size=LISTS, length=LENGTH)
    user, items = model.embed_user(of_lists), model.embed_items(of_lists)
    p_user, p_items = model.user_tower(of_lists)[:, tf.newaxis], model.item_tower(of_lists)
    by_user = mimic(user["augmented"][:, tf.newaxis], p_items, LABELS_OF_LISTS)
    by_items = mimic(tf.reshape(items["augmented"], p_items.shape), p_user, LABELS_OF_LISTS)
    category = np.where(LABELS_OF_LISTS >= 0, of_lists["item"][:, :, 0], 0)
    aligned = alignment(p_items, tf.constant(category), ONE_TASK["item"].num_ids)
    np.testing.assert_allclose(found, [0.3 * by_user + 0.7 * by_items, 0.2 * aligned], rtol=1e-4)


def test_inttower_adds_its_term_where_it_is_told_to():
    model = IntTower(ONE_TASK, width=4, units=[5, 4], contrast_weight=0.5, batch_norm=False)
    [found] = step(examples.randomise(model), np.float32(LABELS_OF_LISTS))
    towers, (of_lists, _, flat) = model.towers["click"], examples.lists(size=LISTS, length=LENGTH)
    user = towers._hidden(towers.user_se, towers.user_mlp, model.embed_user(of_lists), False)[-1]
    items = towers._hidden(towers.item_se, towers.item_mlp, model.embed_items(flat), False)[-1]
    expected = contrast(user, tf.reshape(items, (LISTS, LENGTH, -1)), np.float32(LABELS_OF_LISTS))
    assert found == pytest.approx(0.5 * float(expected), rel=1e-4)
    assert not step(IntTower(ONE_TASK, width=4, units=[5]), np.float32(LABELS_OF_LISTS))


def test_padding_does_not_enter_batch_normalisation():
    results = []
    for junk in (0, 2):
        model = examples.randomise(IntTower(ONE_TASK, width=4, units=[5, 4]))
        of_lists, _, _ = examples.lists(size=LISTS, length=LENGTH)
        there = LABELS_OF_LISTS[:, :, np.newaxis] >= 0
        of_lists["item"] = tf.where(there, of_lists["item"], junk)
        logits = model({**of_lists, LABELS: np.float32(LABELS_OF_LISTS)}, training=True)
        norm = model.towers["click"].item_mlp.norms[0]
        results.append((tf.where(there[:, :, 0], logits, 0.0), norm.moving_mean, norm.moving_variance))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dat", "inttower"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_adds_what_the_towers_add(name, jit_compile):
    """One step of SGD on what `fit` minimises moves the weights as its gradient says."""
    features, labels, _ = examples.batch(TWO_TASKS)
    model = examples.randomise(MODELS[name](TWO_TASKS))
    start = model.get_weights()
    with tf.GradientTape() as tape:
        logits = model({**features, LABELS: labels}, training=True)
        added = tf.add_n(model.losses)
        bce = [
            tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels[t], logits[t])[labels[t] >= 0])
            / (labels[t] >= 0).sum()
            for t in model.tasks
        ]
        loss = added + tf.add_n(bce)
    assert float(added) > 0
    gradients = tape.gradient(loss, model.trainable_weights)
    model.set_weights(start)
    model.compile(tf.keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    model.fit(tf.data.Dataset.from_tensors((features, labels)), verbose=0)
    before = dict(zip([w.name for w in model.weights], start, strict=True))
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        expected = before[weight.name] - 0.1 * tf.convert_to_tensor(gradient).numpy()
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5, err_msg=weight.name)
