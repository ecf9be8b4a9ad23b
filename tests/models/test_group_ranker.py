"""GroupRanker: the objective against loops, where its gradients go, and the backbone that stays as it is."""

import numpy as np
import pytest
import tensorflow as tf

from tests.losses import reference
from tests.models import examples
from tests.models.examples import MODELS, ONE_TASK, TWO_TASKS, WIDTH
from xdeepint_ext.losses import log_loss
from xdeepint_ext.models import GroupRanker, RankTower, TwoTower, UserProjection, XDeepInt
from xdeepint_ext.schema import Feature, Schema

TOWERS = {"ranktower", "two-tower", "inttower", "dat"}
BACKBONES = [name for name in MODELS if name not in {*TOWERS, "groupranker"}]
DEFAULT_BACKBONES = {"xdeepint", "fm", "adaensemble", "projected"}
USER_ROWS, ITEM_ROWS = [0, 2, 3], [1]  # of ONE_TASK's four fields
SIZE = 32


def ranker(schema=ONE_TASK, backbone="with a deep part", **options):
    small = {"num_levels": 2, "codebook_size": 3, **options}
    return GroupRanker(schema, backbone=MODELS[backbone], **small)


def batch(schema=ONE_TASK, seed=0):
    return examples.batch(schema, SIZE, seed)


def step(model, optimizer, *data, steps=1, **options):
    """Training steps, outside of a graph, which would take longer to make."""
    model.compile(optimizer, run_eagerly=True, **options)
    for _ in range(steps):
        model.train_on_batch(*data)


def losses_of(model, x, labels, weights=None, training=True):
    """(the losses that a training call adds, its logits)."""
    logits = model(x, training=training, labels=labels, sample_weight=weights)
    return [tf.identity(loss) for loss in model.losses], logits


def given_fields(model, seed=0):
    """Makes the model's field matrix a variable, which it returns."""
    features, labels, _ = batch(seed=seed)
    x = tf.Variable(model.embed(features))
    model.backbone.embed = lambda features: tf.identity(x)
    return x, features, labels


def gradients(model, x, features, labels, term, of):
    model.build_from_schema()
    with tf.GradientTape() as tape:
        losses, _ = losses_of(model, features, labels)
        loss = losses[term]
    return tape.gradient(loss, [x, *of])


@pytest.mark.parametrize(("root", "weighted"), [(False, False), (True, True)])
def test_the_objective_equals_loops(root, weighted):
    options = {"include_root": root, "auxiliary_weight": 0.3, "group_weight": 0.7, "temperature": 2.0}
    model = ranker(**options)
    features, labels, weights = batch()
    weights = weights if weighted else None
    model.compile()
    losses_of(model, features, labels)  # the codebooks start
    codes = model.user_codes(features).numpy()
    x = model.embed(features)
    user, others = model.fields.split(x)
    quantized = model.quantizer(user)["quantized"]
    again = model.trunk(model.fields.join(quantized, others))
    logits, y = model(features).numpy()[:, 0], labels[:, 0]
    for level, sigma in enumerate(model.groups["click"].log_sigmas.numpy()):
        assert sigma == 0, level
    if weighted:
        groups = [weighted_group_loss(y, logits / 2.0, codes, level, weights) for level in range(1 - root, 3)]
    else:
        groups = [reference.group_losses(y, logits / 2.0, codes, level)[0] for level in range(1 - root, 3)]
    expected = log_loss(labels, logits[:, None], sample_weight=weights)
    expected += 0.3 * log_loss(labels, again, sample_weight=weights) + 0.7 * sum(groups) / 2
    data = (features, labels) if weights is None else (features, labels, weights)
    found = loss_of_step(model, *data)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def loss_of_step(model, features, labels, weights=None):
    _, logits = losses_of(model, features, labels, weights)
    return model.compute_loss(features, labels, logits, weights)


def weighted_group_loss(y, s, codes, level, weights):
    found = []
    for code in {tuple(code[:level]) for code in codes}:
        rows = [row for row in range(len(y)) if tuple(codes[row][:level]) == code]
        if 0 < sum(y[rows]) < len(rows):
            found.append(reference.list_cross_entropy(y[rows], s[rows], weights[rows])[0])
    return np.mean(found) if found else 0.0


@pytest.mark.parametrize(
    "name", [n if n in DEFAULT_BACKBONES else pytest.param(n, marks=pytest.mark.slow) for n in BACKBONES]
)
def test_every_ctr_model_can_be_the_backbone(name):
    tf.keras.utils.set_random_seed(1)
    alone = MODELS[name](TWO_TASKS)
    alone.build_from_schema()
    tf.keras.utils.set_random_seed(1)
    model = ranker(TWO_TASKS, name)
    features, _, _ = batch(TWO_TASKS)
    tf.nest.map_structure(np.testing.assert_array_equal, model(features), alone(features))
    step(model, tf.keras.optimizers.SGD(0.1), *batch(TWO_TASKS))
    assert any(np.any(a != b) for a, b in zip(model.backbone.get_weights(), alone.get_weights(), strict=True))
    tf.nest.map_structure(np.testing.assert_array_equal, model(features), model.backbone(features))


def test_without_its_terms_training_is_the_backbone_s():
    ends = []
    for make in (MODELS["with a deep part"], lambda schema: ranker(schema, group_weight=0.0, auxiliary_weight=0.0)):
        tf.keras.utils.set_random_seed(1)
        model = make(ONE_TASK)
        step(model, None, *batch(), steps=2)
        ends.append([w.numpy() for w in model.trainable_weights])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_auxiliary_loss_goes_straight_through_to_users_and_to_the_network_only():
    model = ranker(group_weight=0.0, auxiliary_weight=1.0, quantizer_options={"init": "random_normal"})
    x, features, labels = given_fields(model)
    model.build_from_schema()
    user, others = model.fields.split(tf.constant(x))
    quantized = tf.Variable(model.quantizer(user)["quantized"])
    with tf.GradientTape() as tape:
        loss = log_loss(labels, model.trunk(model.fields.join(quantized, others)))
    expected = tf.reshape(tape.gradient(loss, quantized), (SIZE, len(USER_ROWS), WIDTH))
    network = [w for w in model.backbone.trainable_weights if "feature_embedding" not in w.name]
    to_x, to_codes, *to_network = gradients(model, x, features, labels, 0, [model.quantizer.codebooks, *network])
    to_x = tf.convert_to_tensor(to_x).numpy()
    np.testing.assert_allclose(to_x[:, USER_ROWS], expected, rtol=1e-5, atol=1e-8)
    assert np.any(expected) and not np.any(to_x[:, ITEM_ROWS])
    assert to_codes is None and all(np.any(gradient) for gradient in to_network)


def test_group_losses_go_to_users_items_and_network():
    model = ranker(auxiliary_weight=0.0)
    x, features, labels = given_fields(model)
    losses_of(model, features, labels)
    network = [w for w in model.backbone.trainable_weights if "feature_embedding" not in w.name]
    network = [w for w in network if "bias" not in w.name]  # a list loss hardly moves a shift
    sigmas = model.groups["click"].log_sigmas
    to_x, to_sigmas, to_codes, *others = gradients(
        model, x, features, labels, 0, [sigmas, model.quantizer.codebooks, *network]
    )
    to_x = tf.convert_to_tensor(to_x).numpy()
    assert np.any(to_x[:, USER_ROWS]) and np.any(to_x[:, ITEM_ROWS]) and np.any(to_sigmas)
    assert to_codes is None and all(np.any(gradient) for gradient in others)


@pytest.mark.parametrize("case", ["one user", "one code", "more codes than rows", "more groups than a key can number"])
def test_few_users_and_many_codes_train(case):
    options = {"one code": {"codebook_size": 1}, "more codes than rows": {"codebook_size": SIZE + 1}}
    options["more groups than a key can number"] = {"num_levels": 8, "codebook_size": 256}
    model = ranker(auxiliary_weight=0.0, **options.get(case, {}))
    features, labels, _ = batch()
    if case == "one user":
        features = {n: x if n == "item" else tf.repeat(x[:1], SIZE, axis=0) for n, x in features.items()}
    model.build_from_schema()
    with tf.GradientTape() as tape:
        [loss], logits = losses_of(model, features, labels)
    if case.startswith("one"):
        whole, _ = reference.group_losses(labels[:, 0], logits.numpy()[:, 0], np.zeros((SIZE, 1)), 0)
        np.testing.assert_allclose(loss, 2 * whole / 2, rtol=1e-5)  # every level is the whole batch
    gradients = tape.gradient(loss, model.backbone.trainable_weights)
    assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)
    assert all(np.isfinite(weight).all() for weight in model.quantizer.get_weights())


def test_codes_are_those_before_the_step_and_follow_it():
    model = ranker()
    features, labels, _ = batch()
    step(model, None, features, labels)
    before = model.quantizer.codebooks.numpy()
    model.train_on_batch(features, labels)
    assert (model.quantizer.codebooks.numpy() != before).any() and int(model.quantizer.step) == 2
    model.evaluate(examples.dataset(), verbose=0)
    model.predict(features, verbose=0)
    assert int(model.quantizer.step) == 2


def test_warmup_leaves_the_group_losses_out():
    model = ranker(warmup_steps=2, auxiliary_weight=0.0)
    features, labels, _ = batch()
    for number in range(3):
        step(model, tf.keras.optimizers.Adam(0.1), features, labels)
        assert model.groups["click"].log_sigmas.numpy().any() == (number == 2)
        assert int(model.quantizer.step) == number + 1


def test_reconstruction_is_a_dense_layer_from_the_codes():
    model = ranker(group_weight=0.0, auxiliary="reconstruction", auxiliary_weight=0.5)
    features, labels, _ = batch()
    losses_of(model, features, labels)
    user, _ = model.fields.split(model.embed(features))
    gaps = model.decoder(model.quantizer(user)["quantized"]) - user
    [loss], _ = losses_of(model, features, labels)
    np.testing.assert_allclose(loss, 0.5 * np.mean(gaps**2), rtol=1e-5)
    assert "auxiliary_loss" in {metric.name for metric in model.metrics}


def test_vq_vae_s_losses_are_a_switch():
    model = ranker(codebook_update="gradient", commitment_weight=0.25, group_weight=0.0)
    features, labels, _ = batch()
    losses, _ = losses_of(model, features, labels)
    assert len(losses) == 3  # calibration, codebooks, commitment
    np.testing.assert_allclose(losses[2], 0.25 * losses[1], rtol=1e-5)
    before = model.quantizer.codebooks.numpy()
    step(model, tf.keras.optimizers.SGD(0.1), *batch(seed=1)[:2])  # k-means left the first batch no gradient
    assert (model.quantizer.codebooks.numpy() != before).any()
    assert any("codebooks" in w.name for w in model.trainable_weights)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_second_pass_counts_once(jit):
    """A backbone with added losses, a metric, and a schedule that counts training calls."""

    def backbone(schema):
        return examples.AdaEnsemble(schema, width=WIDTH, num_layers=2, experts=("pin", "cross"), k=1, exit_steps=5)

    features, labels, _ = batch()
    model = GroupRanker(ONE_TASK, backbone=backbone, group_weight=0.0)
    model.compile(tf.keras.optimizers.SGD(0.0), jit_compile=jit, run_eagerly=not jit)
    losses, _ = losses_of(model, features, labels)
    alone = model.backbone
    alone(features, training=True)
    assert len(losses) == len(alone.losses) + 1
    before = int(alone.exits.gate.step)
    for metric in model.metrics:
        metric.reset_state()
    model.train_on_batch(features, labels)
    assert int(alone.exits.gate.step) == before + 1
    np.testing.assert_allclose(alone.exits.expected_depth.count, SIZE)


def test_metrics_tell_about_groups_and_codes_in_training_only():
    model = ranker(include_root=True, quantizer_options={"decay": 0.5})
    model.compile(metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")])
    data = examples.dataset(size=64, batch_size=SIZE)
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    groups = {"auxiliary_loss", "group_loss", "group_size_0", "group_size_1", "group_size_2"}
    codes = {f"{kind}_{level}" for kind in ("perplexity", "dead_codes", "expired_codes") for level in (1, 2)}
    assert set(history) == {"loss", "auc", "val_loss", "val_auc", *groups, *codes}
    assert history["group_size_0"] == [SIZE, SIZE]
    assert history["group_size_2"][0] <= history["group_size_1"][0] <= SIZE
    assert list(model.evaluate(data, verbose=0, return_dict=True)) == ["loss", "auc"]
    assert model.metrics[0].name == "loss"


def test_lists_are_rows_whose_users_repeat():
    of_lists, grades, rows = examples.lists(size=8, length=4)
    labels = np.minimum(grades, 1)
    labels[0, 2:] = -1
    tf.keras.utils.set_random_seed(1)
    models = [ranker(), ranker()]
    models[1].set_weights(models[0].get_weights())
    found, expected = (
        losses_of(model, features, y)
        for model, features, y in zip(models, (of_lists, rows), (labels, labels.reshape(-1, 1)), strict=True)
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(tf.reshape(found[1], (-1, 1)), expected[1], rtol=1e-5)


def test_tasks_share_codes_and_have_losses_of_their_own():
    model = ranker(TWO_TASKS)
    features, labels, weights = batch(TWO_TASKS)
    model.compile(loss_weights={"click": 1.0, "buy": 0.0})
    losses_of(model, features, labels)
    both, _ = losses_of(model, features, labels, weights)
    assert len(both) == 4 and [float(loss) == 0 for loss in both] == [task == "buy" for task in model.tasks] * 2
    assert set(model.groups) == {"click", "buy"}


def test_context_is_not_the_user_s():
    features = [
        Feature("item", role="item", num_values=3),
        Feature("hour", role="context", num_values=3),
        Feature("user", role=("user", "group"), num_values=3),
        Feature("pair", role=("user", "item"), num_values=3),
        Feature("seen", "sequence", ("user", "context"), num_values=3, max_length=2, combiner="concat"),
    ]
    schema = Schema([*features, Feature("click", "numeric", "label")])
    model = GroupRanker(schema, backbone=XDeepInt)
    assert model.fields.names == ("user", "seen")
    x = tf.random.normal((5, 6, 16))
    user, others = model.fields.split(x)
    np.testing.assert_array_equal(user, tf.reshape(tf.gather(x, [2, 4, 5], axis=1), (5, -1)))
    np.testing.assert_array_equal(model.fields.join(user, others), x)
    chosen = GroupRanker(schema, backbone=XDeepInt, user_features=["user", "hour"])
    assert chosen.fields.names == ("hour", "user")


def test_user_codes_need_the_user_only():
    model = ranker(backbone="deepfm")
    features, labels, _ = batch()
    losses_of(model, features, labels)
    user = {name: features[name] for name in ("user", "history", "age")}
    codes = model.user_codes(user)
    assert codes.dtype == tf.int32 and codes.shape == (SIZE, 2)
    np.testing.assert_array_equal(codes, model.user_codes(features))
    assert len(np.unique(codes, axis=0)) > 2
    del user["age"]
    with pytest.raises(ValueError, match=r"user_codes: features lack \['age'\]"):
        model.user_codes(user)


def test_a_projection_is_the_backbone_s_own():
    features, _, _ = batch()
    model = UserProjection(ONE_TASK, backbone=MODELS["xdeepint"], units=2)
    x = model.embed(features)
    rows = tf.reshape(tf.gather(x, USER_ROWS, axis=1), (SIZE, -1)).numpy()
    assert np.linalg.matrix_rank(rows, tol=1e-5) == 2
    np.testing.assert_array_equal(x[:, 1], model.backbone.embed(features)[:, 1])
    np.testing.assert_allclose(model(features), model.backbone.trunk(x))
    wrapped = GroupRanker(ONE_TASK, backbone=model)
    np.testing.assert_array_equal(wrapped.fields.split(wrapped.embed(features))[0], rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupRanker(None), "it needs a schema"),
        (lambda: ranker(group_weight=-1.0), "group_weight must be >= 0 and finite, got -1.0"),
        (lambda: ranker(auxiliary_weight=float("nan")), "auxiliary_weight must be >= 0 and finite, got nan"),
        (lambda: ranker(warmup_steps=-1), "warmup_steps must be >= 0"),
        (lambda: ranker(temperature=0.0), "temperature must be positive and finite, got 0.0"),
        (lambda: ranker(auxiliary="none"), "auxiliary must be one of .*, got 'none'"),
        (lambda: ranker(group_loss="mse"), "loss must be one of"),
        (lambda: ranker(num_levels=0), "num_levels must be >= 1, got 0"),
        (lambda: ranker(user_features=["user", "usr"]), r"user_features must name .*; got \['usr'\]"),
        (lambda: GroupRanker(Schema([Feature("a", num_values=2)]), backbone=XDeepInt), "default: those of role user"),
        (lambda: GroupRanker(ONE_TASK, backbone=XDeepInt(TWO_TASKS)), "the backbone's schema must be the model's"),
        (lambda: GroupRanker(ONE_TASK, backbone=TwoTower), r"whose logits are trunk\(embed\(features\)\)"),
        (lambda: GroupRanker(ONE_TASK, backbone=RankTower(ONE_TASK)), r"whose logits are trunk\(embed\(features\)\)"),
        (lambda: GroupRanker(ONE_TASK, backbone="dcnv2"), "backbone must be a RankingModel"),
        (lambda: UserProjection(ONE_TASK, units=0), "units must be >= 1, got 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
