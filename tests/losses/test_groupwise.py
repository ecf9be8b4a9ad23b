"""Group-wise losses against loops, the mask form, and one device."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.losses import reference
from xdeepint_ext.losses import GroupwiseListCrossEntropy

FORMS = {"indexed": 3, "sorted": None}


def draw(seed: int = 0, rows: int = 40, levels: int = 2, padding: float = 0.2):
    random = np.random.default_rng(seed)
    labels = np.where(random.random(rows) < padding, -1.0, random.integers(0, 2, rows))
    return 2 * random.normal(size=rows), labels, random.integers(0, 3, (rows, levels))


@pytest.mark.parametrize("require_negative", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", ["listce", "softmaxce", "pairwise"])
@pytest.mark.parametrize("levels", [1, 3])
def test_levels_equal_loops(levels: int, loss: str, form: str, require_negative: bool):
    logits, labels, codes = draw(levels, levels=levels)
    layer = GroupwiseListCrossEntropy(
        levels, loss, require_negative, codebook_size=FORMS[form], include_root=True, dtype="float64"
    )
    found = layer.level_losses(logits, labels, codes)
    literal = require_negative or loss == "pairwise"
    expected = [reference.group_losses(labels, logits, codes, level, loss, literal) for level in range(levels + 1)]
    np.testing.assert_allclose(found.losses, [value for value, _ in expected], rtol=1e-9)
    np.testing.assert_array_equal(found.groups, [count for _, count in expected])
    value, same = layer(logits, labels, codes, return_levels=True)
    np.testing.assert_array_equal(same.losses, found.losses)
    np.testing.assert_array_equal(value, layer(logits, labels, codes))


@pytest.mark.parametrize("loss", ["listce", "pairwise"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_valid_groups(loss: str, form: str):
    logits, labels, codes = draw(12, padding=0.3)
    there, expected = labels >= 0, []
    for level in range(3):
        groups = [there & (codes[:, :level] == prefix).all(axis=1) for prefix in np.unique(codes[:, :level], axis=0)]
        expected.append(sum(group.sum() for group in groups if 0 < labels[group].sum() < group.sum()))
    layer = GroupwiseListCrossEntropy(2, loss, codebook_size=FORMS[form], include_root=True)
    np.testing.assert_array_equal(layer.level_losses(logits, labels, codes).rows, expected)


@pytest.mark.parametrize("form", FORMS)
def test_it_equals_the_mask_form(form: str):
    """`w_i (D_i - log sigma(s_i))` with the (B, B) masks of the specification's G4'."""
    logits, labels, codes = draw(5, padding=0.0)
    log_p = np.array([reference.log_sigmoid(x) for x in logits])
    together, expected = np.ones((40, 40), bool), []
    for level in range(2):
        together = together & (codes[:, level][:, None] == codes[:, level][None, :])
        positives, rows = together @ labels, together.sum(axis=1)
        share = labels / np.maximum(positives, 1) * (positives > 0) * (positives < rows)
        log_sum = np.log(together @ np.exp(log_p))
        expected.append((share * (log_sum - log_p)).sum() / share.sum())
    layer = GroupwiseListCrossEntropy(2, codebook_size=FORMS[form], dtype="float64")
    np.testing.assert_allclose(layer.level_losses(logits, labels, codes).losses, expected, rtol=1e-9)


def test_the_forms_have_one_gradient():
    logits, labels, codes = draw(6)
    gradients = []
    for size in FORMS.values():
        layer, x = GroupwiseListCrossEntropy(2, codebook_size=size, dtype="float64"), tf.Variable(logits)
        with tf.GradientTape() as tape:
            value = layer(x, labels, codes)
        gradients.append(tape.gradient(value, x).numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-9)
    assert not gradients[0][labels < 0].any()


def test_uncertainties_weigh_the_levels():
    logits, labels, codes = draw(7)
    layer = GroupwiseListCrossEntropy(2, dtype="float64")
    losses = layer.level_losses(logits, labels, codes).losses.numpy()
    np.testing.assert_allclose(layer(logits, labels, codes), losses.sum() / 2, rtol=1e-12)
    layer.log_sigmas.assign(0.5 * np.log(losses))  # sigma^2 = L is the minimum, of value 1/2 + ln(L)/2
    with tf.GradientTape() as tape:
        value = layer(logits, labels, codes)
    np.testing.assert_allclose(value, sum(0.5 + 0.5 * math.log(loss) for loss in losses), rtol=1e-12)
    np.testing.assert_allclose(tape.gradient(value, layer.log_sigmas), 0, atol=1e-12)


def test_log_sigmas_stay_above_minus_3():
    layer = GroupwiseListCrossEntropy(1)
    perfect = (tf.constant([30.0, -30.0]), tf.constant([1.0, 0.0]), tf.constant([[0], [0]]))
    layer(*perfect)
    optimizer = tf.keras.optimizers.SGD(1.0)
    for _ in range(6):
        with tf.GradientTape() as tape:
            value = layer(*perfect)
        optimizer.minimize(value, layer.trainable_variables, tape)
    assert float(layer.log_sigmas[0]) == -3


def test_a_level_without_a_valid_group_does_not_move():
    layer = GroupwiseListCrossEntropy(2, dtype="float64")
    logits, labels, codes = tf.constant([1.0, 2.0]), tf.constant([1.0, 0.0]), tf.constant([[0, 0], [0, 1]])
    with tf.GradientTape() as tape:
        value = layer(logits, labels, codes)
    assert tape.gradient(value, layer.log_sigmas).numpy()[1] == 0
    assert layer.level_losses(logits, labels, codes).groups.numpy().tolist() == [1, 0]


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_those_of_the_outer_sum(form: str):
    logits, labels, codes = draw(8, padding=0.0)
    weights = np.random.default_rng(1).uniform(0.5, 2, 40)
    expected = []
    for code in {tuple(code) for code in codes[:, :1]}:
        rows = [i for i in range(40) if tuple(codes[i, :1]) == code]
        expected.append(reference.list_cross_entropy(labels[rows], logits[rows], weights[rows])[0])
    layer = GroupwiseListCrossEntropy(1, codebook_size=FORMS[form], dtype="float64")
    np.testing.assert_allclose(layer.level_losses(logits, labels, codes[:, :1], weights).losses, [np.mean(expected)])


def test_users_alone_in_their_groups_add_nothing():
    logits, labels = draw(9)[:2]
    layer, x = GroupwiseListCrossEntropy(1, dtype="float64"), tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = layer(x, labels, np.arange(40)[:, None])
    assert float(value) == 0
    assert not tape.gradient(value, x).numpy().any()


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
def test_finite_on_bad_batches(dtype: tf.DType, form: str, jit: bool):
    layer = GroupwiseListCrossEntropy(2, codebook_size=FORMS[form])

    @tf.function(jit_compile=jit)
    def run(logits, labels, codes):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = layer(logits, labels, codes)
        return value, *tape.gradient(value, [logits, layer.log_sigmas])

    layer(tf.zeros(4), tf.zeros(4), tf.zeros((4, 2), tf.int32))
    same, apart = tf.zeros((4, 2), tf.int32), tf.constant([[0, 0], [1, 1], [2, 2], [0, 1]])
    for labels in ([-1.0] * 4, [1.0] * 4, [0.0] * 4, [1.0, 0.0, 1.0, 0.0], [1.0, -1.0, -1.0, -1.0]):
        for logits in ([0.5] * 4, [1e4, 1e4, -1e4, -1e4], [-1e4] * 4):
            for codes in (same, apart):
                for found in run(tf.constant(logits, dtype), tf.constant(labels), codes):
                    assert np.isfinite(found.numpy()).all(), (labels, logits, codes)


@pytest.mark.parametrize("form", FORMS)
def test_nan_is_not_hidden(form: str):
    layer = GroupwiseListCrossEntropy(1, codebook_size=FORMS[form])
    codes = tf.constant([[0], [0]])
    assert np.isnan(float(layer(tf.constant([np.nan, 0.0]), tf.constant([1.0, 0.0]), codes)))
    assert np.isnan(float(layer(tf.constant([1.0, 0.0]), tf.constant([np.nan, 0.0]), codes)))


@pytest.mark.parametrize("form", FORMS)
def test_a_permutation_permutes_the_gradient(form: str):
    logits, labels, codes = draw(13)
    layer, ends = GroupwiseListCrossEntropy(2, codebook_size=FORMS[form], dtype="float64"), []
    order = np.random.default_rng(2).permutation(40)
    for rows in (np.arange(40), order):
        x = tf.Variable(logits[rows])
        with tf.GradientTape() as tape:
            value = layer(x, labels[rows], codes[rows])
        ends.append((value, tape.gradient(value, x).numpy()))
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-12)
    np.testing.assert_allclose(ends[1][1], ends[0][1][order], rtol=1e-9, atol=1e-15)


def test_one_code_is_the_whole_batch():
    logits, labels, codes = draw(14)
    layer = GroupwiseListCrossEntropy(2, codebook_size=1, include_root=True, dtype="float64")
    whole = reference.group_losses(labels, logits, codes, 0)[0]
    np.testing.assert_allclose(layer.level_losses(logits, labels, 0 * codes).losses, [whole] * 3, rtol=1e-12)


@pytest.mark.parametrize("loss", ["listce", "pairwise"])
def test_more_groups_than_a_key_can_number(loss: str):
    logits, labels, codes = draw(15, levels=8)
    layer = GroupwiseListCrossEntropy(8, loss, codebook_size=256, dtype="float64")  # 256^8 = 2^64
    expected = [reference.group_losses(labels, logits, codes, level, loss)[0] for level in range(1, 9)]
    np.testing.assert_allclose(layer.level_losses(logits, labels, 127 * codes).losses, expected, rtol=1e-9)


def test_large_codes_do_not_overflow():
    logits, labels, codes = draw(10, levels=4)
    layer = GroupwiseListCrossEntropy(4, dtype="float64")
    huge = (codes - 1) * (2**40) + 2**41
    np.testing.assert_allclose(
        layer.level_losses(logits, labels, huge).losses, layer.level_losses(logits, labels, codes).losses, rtol=1e-12
    )


@pytest.mark.parametrize("form", ["indexed", pytest.param("sorted", marks=pytest.mark.slow)])
def test_groups_of_all_replicas_train_as_one_device(form: str, two_replicas):
    logits, labels, codes = draw(11)

    class Scores(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf.keras.layers.Dense(1, kernel_initializer="ones")
            self.groups = GroupwiseListCrossEntropy(2, codebook_size=FORMS[form], gather_groups=True)

        def call(self, x):
            return self.dense(x["x"])

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.groups(self(x), y, x["codes"]) / self.distribute_strategy.num_replicas_in_sync
            self.optimizer.minimize(loss, self.trainable_variables, tape)
            return {"loss": loss}

    x = {"x": np.stack([logits, np.cos(logits)], 1).astype(np.float32), "codes": codes}
    ends = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = Scores()
            model.compile(tf.keras.optimizers.SGD(0.1))
        model.fit(tf.data.Dataset.from_tensors((x, labels.astype(np.float32))).repeat(3), verbose=0)
        ends.append([w.numpy() for w in model.trainable_variables])
    assert abs(ends[0][0] - 1).max() > 1e-3
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels must be > 0, got 0"),
        ({"num_levels": 1, "loss": "mse"}, "loss must be one of .*, got 'mse'"),
        ({"num_levels": 1, "codebook_size": 0}, "codebook_size must be > 0, got 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GroupwiseListCrossEntropy(**options)


@pytest.mark.parametrize(
    ("logits", "labels", "codes", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 2), int), r"logits must be \(B,\) or \(B, 1\), got \(2, 3\)"),
        (np.zeros(2), np.zeros(3), np.zeros((2, 2), int), "labels must have the shape"),
        (np.zeros(2), np.zeros(2), np.zeros((2, 3), int), r"codes must be integers \(B, 2\), got int64 \(2, 3\)"),
        (np.zeros(2), np.zeros(2), np.zeros((2, 2)), r"codes must be integers \(B, 2\), got float64"),
        (np.zeros(2), np.zeros(2), np.zeros((3, 2), int), "group_ids must have the shape"),
        (np.zeros(2), np.zeros(2), np.full((2, 2), 3), r"codes must be in \[0, 3\)"),
    ],
)
def test_bad_input_is_named(logits, labels, codes, message):
    with pytest.raises(ValueError, match=message):
        GroupwiseListCrossEntropy(2, codebook_size=3)(logits, labels, codes)
