"""CROLoss beyond the specification's numbers: weightings, sampling, accidental hits, XLA's fixed sizes."""

import numpy as np
import pytest
import tensorflow as tf

from tests.losses import reference
from xdeepint_ext import losses
from xdeepint_ext.losses import CROLambdaLoss, CROLoss, TargetN

RANDOM = np.random.default_rng(0)
LOGITS = 2 * RANDOM.normal(size=(4, 9))
LABELS = np.eye(9)[[0, 3, 8, 0]]
LABELS[3, 5] = 1.0  # two positives
ONES = np.ones_like(LOGITS)
KERNELS = ("softplus", "exp", "hinge", "sigmoid")


@pytest.mark.parametrize("kernel", KERNELS)
def test_any_cdf_may_weigh(kernel: str):
    def cdf(rank):
        return rank**0.3

    expected = reference.mean_over_lists(
        reference.cro, zip(LABELS, LOGITS, ONES, strict=True), kernel=kernel, weighting=cdf, num_items=500
    )
    np.testing.assert_allclose(losses.cro(LABELS, LOGITS, kernel=kernel, weighting=cdf, num_items=500), expected)


def test_target_n_is_the_cdf_of_a_logistic_in_the_log_of_the_rank():
    def cdf(rank):
        return 1 / (1 + (rank / 20.0) ** (-1 / 0.4))

    found = losses.cro(LABELS, LOGITS, weighting=TargetN(20, width=0.4), num_items=500)
    np.testing.assert_allclose(found, losses.cro(LABELS, LOGITS, weighting=cdf, num_items=500), rtol=1e-12)


def test_target_n_cares_about_its_n():
    """Falling from rank 10 to 40 costs most where N = 20 matters."""
    ranks = tf.constant([10.0, 40.0])
    falls = {n: float(np.diff(TargetN(n)(ranks).numpy())[0]) for n in (2, 20, 500)}
    assert max(falls, key=falls.get) == 20


@pytest.mark.parametrize("arguments", [{"n": 0.5}, {"n": 5, "width": 0.0}])
def test_target_n_checks_its_arguments(arguments):
    with pytest.raises(ValueError, match=r"TargetN: (n must be >= 1|width must be > 0)"):
        TargetN(**arguments)


@pytest.mark.parametrize("loss", [CROLoss(weighting=TargetN(5), num_items=9), CROLambdaLoss(weighting=2, num_items=9)])
def test_weightings_survive_the_config(loss):
    again = type(loss).from_config(loss.get_config())
    assert again.weighting == loss.weighting
    np.testing.assert_array_equal(again(LABELS, LOGITS), loss(LABELS, LOGITS))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_negative_that_is_the_positive_is_left_out(kernel: str):
    ids = np.arange(9) + np.zeros((4, 1), int)
    ids[0, 4] = ids[0, 0]
    masked = LABELS.copy()
    masked[0, 4] = -1.0
    found = losses.cro(LABELS, LOGITS, kernel=kernel, item_ids=ids)
    np.testing.assert_allclose(found, losses.cro(masked, LOGITS, kernel=kernel), rtol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_log_q_is_subtracted_from_the_negatives(kernel: str):
    q = RANDOM.uniform(0.01, 0.5, LOGITS.shape)
    corrected = np.where(LABELS > 0, LOGITS, LOGITS - np.log(q))
    found = losses.cro(LABELS, LOGITS, kernel=kernel, sampling_probability=q)
    np.testing.assert_allclose(found, losses.cro(LABELS, corrected, kernel=kernel), rtol=1e-9)


def dense(kernel: str, labels, logits, ids, margin: float) -> tf.Tensor:
    """The mean of ln r over positives, every pair made, its gradient TensorFlow's own."""
    gap = logits[:, tf.newaxis, :] - logits[:, :, tf.newaxis]
    values = {
        "softplus": tf.nn.softplus,
        "exp": tf.exp,
        "hinge": lambda x: tf.nn.relu(x + margin),
        "sigmoid": tf.sigmoid,
    }[kernel](gap)
    here = (labels[:, np.newaxis, :] == 0) & (ids[:, np.newaxis, :] != ids[:, :, np.newaxis])
    ranks = tf.math.log1p(tf.reduce_sum(tf.where(here, values, 0.0), axis=2))
    return tf.reduce_sum(tf.where(labels > 0, ranks, 0.0)) / (labels > 0).sum()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("hits", [False, True])
def test_gradients_are_those_of_all_pairs(kernel: str, hits: bool):
    """Of one positive a list and of two, with padding, and a margin beyond the gaps' clipping."""
    ids = np.arange(9) + np.zeros((4, 1), int)
    ids[:, 4] = ids[:, 3] if hits else ids[:, 4]
    for labels in (LABELS, np.eye(9)[[0, 3, 8, 0]]):
        padded = np.where((np.arange(9) == 6) & (np.arange(4) == 1)[:, np.newaxis], -1.0, labels)
        found = []
        for loss in (
            lambda s, y=padded: losses.cro(y, s, kernel=kernel, margin=100.0, item_ids=ids if hits else None),
            lambda s, y=padded: dense(kernel, y, s, ids, 100.0),
        ):
            logits = tf.constant(LOGITS)
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(logits)
            found.append((value, tape.gradient(value, logits)))
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def passes(loss) -> int:
    """How many operations of a step write something as large as the lists."""
    lists, items = 8, 64

    def step(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return tape.gradient(value, logits)

    spec = tf.TensorSpec((lists, items), tf.float32)
    graph = tf.function(step).get_concrete_function(spec, spec).graph
    sizes = [out.shape.num_elements() for op in graph.get_operations() if op.type != "Const" for out in op.outputs]
    return sum(size is not None and size >= lists * items for size in sizes)


@pytest.mark.parametrize("loss", [CROLoss, losses.BPRLoss, losses.TripletLoss])
def test_a_step_makes_few_more_passes_than_cross_entropy(loss):
    assert passes(loss(max_positives=1)) <= 1.6 * passes(losses.SoftmaxCrossEntropyLoss())


XLA = [losses.bpr, *(pytest.param(x, marks=pytest.mark.slow) for x in (losses.triplet, losses.cro, losses.cro_lambda))]


@pytest.mark.parametrize("loss", XLA)
def test_a_fixed_number_of_positives_for_xla(loss):
    for most in (None, 2, 5):
        graph = tf.function(lambda y, s, m=most: loss(y, s, max_positives=m), jit_compile=True)
        np.testing.assert_allclose(graph(LABELS, LOGITS), loss(LABELS, LOGITS), rtol=1e-9)


def test_more_positives_than_said_are_not_left_out_silently():
    assert np.isnan(losses.bpr(LABELS, LOGITS, max_positives=1))
    found = losses.BPRLoss(max_positives=1, reduction="none")(LABELS, LOGITS).numpy()
    assert np.isnan(found[3][[0, 5]]).all() and np.isfinite(found[:3]).all()


def test_the_gap_is_cut_where_exp_would_overflow_and_its_gradient_is_not():
    labels = tf.constant([[1.0, 0.0]])
    for kernel, slope in (("softplus", 1.0), ("hinge", 1.0), ("exp", None)):
        logits = tf.constant([[-500.0, 500.0]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = losses.cro(labels, logits, kernel=kernel, weighting=0, num_items=1000)
        gradient = tape.gradient(value, logits).numpy()
        assert np.isfinite(float(value))
        assert gradient[0, 1] > 0
        if slope:
            np.testing.assert_allclose(gradient[0, 1], slope * np.log(1001) / 1000, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "step"}, "kernel must be one of .*, got 'step'"),
        ({"estimator": "best"}, "estimator must be one of .*, got 'best'"),
        ({"weighting": -0.1, "num_items": 5}, "alpha must be >= 0 and finite, got -0.1"),
        (
            {"weighting": "half", "num_items": 5},
            "weighting must be alpha, TargetN or a function of the rank, got 'half'",
        ),
        ({"weighting": 1.2}, "num_items is required for weighting 1.2"),
        ({"estimator": "additive"}, "num_items is required for .* 'additive'"),
        ({"num_items": 0}, "num_items must be > 0, got 0"),
        ({"scale": 0.0}, "scale must be > 0, got 0.0"),
        ({"margin": -1.0}, "margin must be > 0, got -1.0"),
        ({"max_positives": 0}, "max_positives must be > 0, got 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    for loss in (CROLoss, CROLambdaLoss):
        with pytest.raises(ValueError, match=message):
            loss(**options)


@pytest.mark.parametrize(
    "options", [{"weighting": TargetN(3), "num_items": 9}, {"estimator": "additive", "num_items": 9}]
)
def test_the_repositorys_scale_is_defined_for_an_alpha_only(options):
    with pytest.raises(ValueError, match="repo_scale needs an alpha and estimator='repo'"):
        CROLambdaLoss(repo_scale=True, **options)


def test_unknown_weight_kernel():
    with pytest.raises(ValueError, match="weight_kernel must be one of"):
        CROLambdaLoss(weight_kernel="linear")
