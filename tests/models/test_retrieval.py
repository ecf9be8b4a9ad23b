"""Retrieval models: logits against loops, training against candidates, CROLoss's identities in running training."""

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.losses import BPRLoss, CROLambdaLoss, CROLoss, LogLoss, SoftmaxCrossEntropyLoss, TripletLoss
from xdeepint_ext.models import MatrixFactorization, PooledHistory, SelfAttentiveHistory
from xdeepint_ext.optimizers import LazyAdam
from xdeepint_ext.schema import Feature, Schema, SchemaError

LENGTH, USERS, ITEMS, WIDTH, GAMMA = 4, 11, 23, 6, 5.0
SCHEMA = Schema(
    [
        Feature("user", role=("user", "group"), num_values=USERS),
        Feature("items", "sequence", "user", table="item", max_length=LENGTH, num_values=ITEMS),
        Feature("item", "multi", "item", table="item", max_length=1, num_values=ITEMS, source="targets"),
    ]
)
MODELS = {
    "mf": MatrixFactorization,
    "pooled": PooledHistory,
    "pooled, by recency": lambda schema, **o: PooledHistory(schema, pooling="recency", **o),
    "attentive": lambda schema, **o: SelfAttentiveHistory(schema, dropout=0.0, **o),
}
FIRST = 2


def batch(rows: int = 5, negatives: int = 7, in_batch: bool = False, windows: bool = False, seed: int = 0):
    """A training batch as `data.sequences` describes it, with an accidental hit."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, LENGTH + 1, rows)
    ids = random.integers(FIRST, FIRST + ITEMS, (rows, LENGTH))
    here = np.arange(LENGTH) < lengths[:, None]
    targets = random.integers(FIRST, FIRST + ITEMS, (rows, 1))
    drawn = random.integers(FIRST, FIRST + ITEMS, negatives)
    drawn[0] = targets[1, 0]
    owners = np.full(negatives, -1)
    if in_batch:
        drawn, owners = np.concatenate([targets[:, 0], drawn]), np.concatenate([np.arange(rows), owners])
    found = {
        "user": random.integers(FIRST, FIRST + USERS, (rows, 1)),
        "items": np.where(here, ids, 0),
        "candidates": drawn,
        "candidate_owners": owners.astype(np.int32),
        "candidate_corrections": random.normal(size=len(drawn)).astype(np.float32) * in_batch,
    }
    found |= {"next_items": np.where(here, np.roll(ids, 1, axis=0), 0)} if windows else {"item": targets}
    return {name: tf.constant(x) for name, x in found.items()}


def rows_of(model, features) -> np.ndarray:
    """(rows, 1 + C) logits by calling the model with one user and one item at a time."""
    count, candidates = len(features["item"]), features["candidates"].numpy()
    user = {name: features[name] for name in ("user", "items") if name in {f.name for f in model.schema.inputs}}
    found = np.zeros((count, 1 + len(candidates)))
    for row in range(count):
        items = np.concatenate([features["item"][row], candidates])[:, None]
        mine = {name: tf.repeat(x[row : row + 1], len(items), axis=0) for name, x in user.items()}
        found[row] = model({**mine, "item": tf.constant(items)})[:, 0]
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", [{}, {"normalize": "user", "item_bias": True}, {"normalize": "none"}])
def test_candidates_get_the_logits_of_the_model(name, options):
    model = MODELS[name](SCHEMA, width=WIDTH, gamma=GAMMA, **options)
    if options.get("item_bias"):
        model.build_from_schema()
        model.biases.set_weights([np.random.default_rng(1).normal(size=(FIRST + ITEMS, 1))])
    features = batch(in_batch=True)
    labels, logits = model.against_candidates(features)
    expected = rows_of(model, features)
    expected[:, 1:] -= features["candidate_corrections"].numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    candidates, owners = features["candidates"].numpy(), features["candidate_owners"].numpy()
    for row, target in enumerate(features["item"].numpy()[:, 0]):
        left_out = (candidates == target) | (owners == row)
        assert labels[row].numpy().tolist() == [1, *np.where(left_out, -1, 0)]
    vectors = model.user_tower(features), model.item_tower({"item": features["candidates"][:, None]})
    products = model.gamma * np.matmul(*(vectors[0], np.transpose(vectors[1])))
    np.testing.assert_allclose(products - features["candidate_corrections"].numpy(), logits[:, 1:], atol=1e-5)


@pytest.mark.parametrize("in_batch", [False, True])
def test_hits_may_stay_but_not_the_target_itself(in_batch):
    model = MatrixFactorization(SCHEMA, width=WIDTH, mask_hits=False)
    labels, _ = model.against_candidates(batch(in_batch=in_batch))
    expected = np.zeros((5, 7 + 5 * in_batch))
    expected[:, :5] -= np.eye(5) * in_batch
    np.testing.assert_array_equal(labels[:, 1:], expected)


def test_vectors_are_of_length_one():
    for make in MODELS.values():
        model, features = make(SCHEMA, width=WIDTH, gamma=GAMMA), batch()
        for vectors in (model.user_tower(features), model.item_tower({"item": features["item"]})):
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
        assert np.abs(model.against_candidates(features)[1]).max() <= GAMMA + 1e-4


def test_windows_are_the_histories_ends():
    """Training at all places of a window is training on each of its beginnings."""
    model = SelfAttentiveHistory(SCHEMA, width=WIDTH, dropout=0.0)
    features = batch(windows=True)
    labels, logits = model.against_candidates(features)
    row = 0
    for known, wanted in zip(features["items"].numpy(), features["next_items"].numpy(), strict=True):
        for place in np.flatnonzero(wanted):
            part = np.where(np.arange(LENGTH) <= place, known, 0)[None]
            alone = {**{n: features[n] for n in features if n.startswith("candidate")}, "items": tf.constant(part)}
            found = model.against_candidates({**alone, "item": tf.constant([[wanted[place]]])})
            np.testing.assert_allclose(found[1][0], logits[row], atol=1e-4)
            np.testing.assert_array_equal(found[0][0], labels[row])
            row += 1
    assert row == len(logits)
    with pytest.raises(ValueError, match="draw=windows needs a vector at every place"):
        PooledHistory(SCHEMA, width=WIDTH).against_candidates(features)


def trained(make, loss, steps: int = 12, **options) -> tuple[list[float], list[np.ndarray]]:
    """The curve of the loss, and the weights at the end."""
    tf.keras.utils.set_random_seed(3)
    model = make(SCHEMA, width=WIDTH, **options)
    model.compile({"embedding": LazyAdam(0.05), "default": tf.keras.optimizers.Adam(0.05)}, loss=loss)
    curve = []
    for step in range(steps):
        model.reset_metrics()
        curve.append(float(model.train_step((batch(seed=step),))["loss"]))
    return curve, model.get_weights()


@pytest.mark.parametrize(
    "name", [name if name == "mf" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_exp_and_alpha_one_is_softmax_cross_entropy_step_for_step(name):
    """Specification 6.3: the row of a real run must equal that of cross-entropy with the same seed."""
    cross_entropy = trained(MODELS[name], SoftmaxCrossEntropyLoss())
    found = trained(MODELS[name], CROLoss("exp", weighting=1.0, num_items=ITEMS))
    np.testing.assert_allclose(found[0], cross_entropy[0], rtol=1e-5)
    assert cross_entropy[0][-1] < cross_entropy[0][0]
    other = trained(MODELS[name], CROLoss("softplus", weighting=1.0, num_items=ITEMS))
    assert not np.allclose(other[0], cross_entropy[0], rtol=1e-2)


@pytest.mark.parametrize(
    ("kernel", "other"), [("hinge", TripletLoss(margin=5.0, normalize=False)), ("softplus", BPRLoss(normalize=False))]
)
def test_alpha_zero_is_triplet_or_bpr(kernel, other):
    """Specification 6.3: `loss N / ln(N + 1) - 1` is the mean sum; so the curves are, where the steps are as large."""
    model = MatrixFactorization(SCHEMA, width=WIDTH)
    for seed in range(4):
        labels, logits = model.against_candidates(batch(seed=seed))
        found = CROLoss(kernel, weighting=0.0, num_items=ITEMS)(labels, logits)
        np.testing.assert_allclose(found * ITEMS / np.log(ITEMS + 1) - 1, other(labels, logits), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        CROLoss(weighting=1.4, num_items=ITEMS),
        LogLoss(),
        TripletLoss(),
        BPRLoss(),
        CROLambdaLoss(num_items=ITEMS),
    ],
    ids=lambda loss: loss.name,
)
def test_every_loss_trains_every_model_by_fit(loss):
    dataset = tf.data.Dataset.from_tensors((batch(),)).repeat(12)
    for make in MODELS.values():
        model = make(SCHEMA, width=WIDTH)
        model.compile(loss=loss)
        first = float(loss(*model.against_candidates(batch())))
        model.fit(dataset, verbose=0)
        assert float(loss(*model.against_candidates(batch()))) < first


def test_a_step_moves_the_batch_s_rows_alone():
    model = MatrixFactorization(SCHEMA, width=WIDTH, item_bias=True)
    model.compile(loss=CROLoss())
    model.build_from_schema()
    before = model.embedding.table.numpy()
    features = batch()
    model.train_step((features,))
    moved = set(np.flatnonzero(np.any(model.embedding.table.numpy() != before, axis=1)).tolist())
    users = set(features["user"].numpy().ravel().tolist())  # the users' table is the first, its offset 0
    items = set((features["candidates"].numpy() + FIRST + USERS - 1).tolist())
    items |= set((features["item"].numpy().ravel() + FIRST + USERS - 1).tolist())
    assert moved == users | items


def test_the_penalty_is_the_mean_square_of_the_rows():
    features, steps = batch(), []
    for l2 in (0.0, 0.7):
        tf.keras.utils.set_random_seed(3)
        model = MatrixFactorization(SCHEMA, width=WIDTH, l2=l2, normalize="none")
        model.compile(tf.keras.optimizers.SGD(1.0), loss=BPRLoss())
        model.build_from_schema()
        before = model.embedding.table.numpy()
        model.train_step((features,))
        steps.append(before - model.embedding.table.numpy())
    expected = np.zeros_like(before)
    for user, item in zip(features["user"].numpy().ravel(), features["item"].numpy().ravel(), strict=True):
        for row in (user, item + FIRST + USERS - 1):
            expected[row] += 2 * 0.7 * before[row] / 5
    np.testing.assert_allclose(steps[1] - steps[0], expected, atol=1e-5)


def test_users_without_history_and_unseen_ones_have_finite_logits():
    nobody = {"user": tf.constant([[0], [1]]), "items": tf.constant([[0] * LENGTH, [1, 0, 0, 0]])}
    for make in MODELS.values():
        model = make(SCHEMA, width=WIDTH)
        assert np.isfinite(model({**nobody, "item": tf.constant([[5], [6]])})).all()
        empty = {**batch(rows=2), **nobody}
        model.compile(loss=CROLoss())
        assert np.isfinite(float(model.train_step((empty,))["loss"]))
        assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_ids_outside_the_catalogue_are_named():
    model = MatrixFactorization(SCHEMA, width=WIDTH)
    with pytest.raises(tf.errors.InvalidArgumentError, match="item"):
        model.against_candidates({**batch(), "candidates": tf.fill([7], tf.constant(FIRST + ITEMS, tf.int64))})


@pytest.mark.parametrize(
    "options", [{"gamma": 0.0}, {"normalize": "items"}, {"l2": -1.0}, {"pooling": "max"}, {"num_blocks": 0}]
)
def test_arguments_are_checked(options):
    name = next(iter(options))
    make = {"pooling": PooledHistory, "num_blocks": SelfAttentiveHistory}.get(name, MatrixFactorization)
    with pytest.raises(ValueError, match=name):
        make(SCHEMA, **options)


def test_schemas_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="needs a schema"):
        MatrixFactorization(None)
    with pytest.raises(SchemaError, match="retrieval needs"):
        MatrixFactorization(SCHEMA.select(["items", "item"]))
    with pytest.raises(ValueError, match="no history"):
        PooledHistory(SCHEMA.select(["user", "item"]))
    with pytest.raises(ValueError, match="project=False"):
        PooledHistory(SCHEMA, project=False)


@pytest.mark.slow
def test_two_replicas_learn(two_replicas):
    dataset = tf.data.Dataset.from_tensors((batch(rows=4, negatives=6),)).repeat(10)
    with two_replicas.scope():
        model = PooledHistory(SCHEMA, width=WIDTH)
        model.compile({"default": tf.keras.optimizers.Adam(0.05), "embedding": LazyAdam(0.05)}, loss=CROLoss())
    history = model.fit(dataset, epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
