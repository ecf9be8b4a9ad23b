"""Models of two towers: formulas, lists and rows, what each tower sees, and what can be kept."""

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import tower_reference as loops
from tests.models import examples, reference
from tests.models.examples import MODELS, ONE_TASK, TWO_TASKS
from xdeepint_ext.losses import HybridRankTowerLoss
from xdeepint_ext.metrics import NDCGAtK
from xdeepint_ext.models import RankTower, TwoTower
from xdeepint_ext.models.baselines import COLD, DAT, IntTower
from xdeepint_ext.schema import Feature, Schema

TOWERS = ("ranktower", "two-tower", "inttower", "dat")
USERS, ITEMS = 4, 5


def made(name, schema=ONE_TASK):
    return examples.randomise(MODELS[name](schema))


def arrays(layer):
    return [weight.numpy().astype(np.float64) for weight in layer.weights]


def pairs(values):
    return list(zip(values[::2], values[1::2], strict=True))


def matrices(model, of_lists):
    """float64 (U, F_u K), (U, n, F_i K)."""
    user, items = (np.float64(x) for x in (model.embed_user(of_lists), model.embed_items(of_lists)))
    return user.reshape(USERS, -1), items.reshape(USERS, ITEMS, -1)


# -- formulas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", [True, False])
def test_ranktower_equals_loops(attention):
    options = {"num_heads": (2, 3), "head_dim": 3, "units": [5], "attention": attention}
    model = examples.randomise(RankTower(ONE_TASK, width=4, **options))
    of_lists, _, _ = examples.lists()
    user, items = matrices(model, of_lists)
    towers = model.towers["click"]

    def heads(layer, row):
        mlp, value, gate = (arrays(part) for part in (layer.mlp, layer.value, layer.gate))
        return loops.multi_head_gate(row, pairs(mlp), value, gate, layer.num_heads)

    tau = np.clip(np.exp(towers.max_sim.scale.log_temperature.numpy()), 0.01, 10.0)
    expected = np.zeros((USERS, ITEMS))
    for u in range(USERS):
        for n in range(ITEMS):
            pair = heads(towers.user_heads, user[u]), heads(towers.item_heads, items[u, n])
            if attention:
                layer = towers.attention
                of_user = layer.user_kernels.numpy(), layer.user_bias.numpy()
                of_item = layer.item_kernels.numpy(), layer.item_bias.numpy()
                own, other = pair
                pair = loops.attended(own, other, of_user, of_item), loops.attended(other, own, of_item, of_user)
            expected[u, n] = loops.max_sim(*pair, tau)
    np.testing.assert_allclose(model(of_lists), expected, rtol=1e-4, atol=1e-4)


def linear_mlp(row, weights):
    *hidden, (kernel, bias) = pairs(weights)
    for w, b in hidden:
        row = loops.affine(row, w, b, loops.relu)
    return loops.affine(row, kernel, bias)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_two_tower_equals_loops(similarity):
    model = examples.randomise(TwoTower(ONE_TASK, width=4, units=[5, 3], similarity=similarity))
    of_lists, _, _ = examples.lists()
    user, items = matrices(model, of_lists)
    towers = model.towers["click"]
    weights = arrays(towers.user_mlp), arrays(towers.item_mlp)
    expected = np.zeros((USERS, ITEMS))
    for u in range(USERS):
        for n in range(ITEMS):
            p, q = linear_mlp(user[u], weights[0]), linear_mlp(items[u, n], weights[1])
            expected[u, n] = p @ q if similarity == "dot" else loops.cosine(p, q) / towers.scale.value
    np.testing.assert_allclose(model(of_lists), expected, rtol=1e-4, atol=1e-4)


def test_one_head_without_attention_is_the_cosine_of_two_towers():  # §6.2
    model = examples.randomise(RankTower(ONE_TASK, width=4, num_heads=1, head_dim=3, units=[5], attention=False))
    of_lists, _, _ = examples.lists()
    user, items = (np.float64(tower(of_lists)) for tower in (model.user_tower, model.item_tower))
    tau = float(model.towers["click"].max_sim.scale.value)
    expected = [[loops.cosine(u[0], i[0]) / tau for i in row] for u, row in zip(user, items, strict=True)]
    np.testing.assert_allclose(model(of_lists), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_inttower_equals_loops(batch_norm):
    model = IntTower(ONE_TASK, width=4, num_heads=(2, 3), head_dim=3, units=[5, 4], batch_norm=batch_norm)
    examples.randomise(model)
    of_lists, _, _ = examples.lists()
    users, items = np.float64(model.embed_user(of_lists)), np.float64(model.embed_items(of_lists))
    towers = model.towers["click"]

    def hidden(se, mlp, matrix):
        found = [loops.light_se(matrix, se.kernel.numpy()).ravel()]
        for number, dense in enumerate(mlp.dense):
            x = loops.affine(found[-1], *arrays(dense))
            if batch_norm:
                scale, shift, mean, variance = arrays(mlp.norms[number])
                x = (x - mean) / np.sqrt(variance + mlp.norms[number].epsilon) * scale + shift
            found.append(np.maximum(x, 0))
        return found

    def heads(dense, x):
        return loops.affine(x, *arrays(dense)).reshape(-1, 3)

    expected = np.zeros((USERS, ITEMS))
    for u in range(USERS):
        of_user = hidden(towers.user_se, towers.user_mlp, users[u])[:-1]
        for n in range(ITEMS):
            last = hidden(towers.item_se, towers.item_mlp, items[u * ITEMS + n])[-1]
            of_item = heads(towers.item_map, last)
            for layer, x in enumerate(of_user):
                expected[u, n] += sum(max(p @ q for q in of_item) for p in heads(towers.user_maps[layer], x))
    np.testing.assert_allclose(model(of_lists), expected + float(towers.bias), rtol=1e-4, atol=1e-4)


def test_dat_equals_loops():
    model = made("dat")
    of_lists, _, _ = examples.lists()
    towers = model.towers["click"]
    user, item = model.embed_user(of_lists), model.embed_items(of_lists)

    def vector(mlp, x, row):
        return linear_mlp(np.concatenate([np.float64(x["fields"][row]).ravel(), x["augmented"][row]]), arrays(mlp))

    expected = np.zeros((USERS, ITEMS))
    for u in range(USERS):
        for n in range(ITEMS):
            p, q = vector(towers.user_mlp, user, u), vector(towers.item_mlp, item, u * ITEMS + n)
            expected[u, n] = loops.cosine(p, q) / float(towers.scale.value)
    np.testing.assert_allclose(model(of_lists), expected, rtol=1e-4, atol=1e-4)
    rows = model.user_vectors.table.numpy()[of_lists["user"].numpy()[:, 0]]
    np.testing.assert_array_equal(user["augmented"], rows * (of_lists["user"].numpy() > 0))


def test_cold_equals_loops():
    model = made("cold", TWO_TASKS)
    features, _, _ = examples.batch(TWO_TASKS)
    x = np.float64(model.embed(features))
    kernel, bias = arrays(model.gate)
    weighted = []
    for example in x:
        gates = loops.affine(example.ravel(), kernel, bias, loops.sigmoid)
        weighted.append((example * gates[:, np.newaxis]).ravel())
    hidden = reference.mlp(np.array(weighted), arrays(model.deep))
    for task, logits in model(features).items():
        kernel, bias = arrays(model.heads[task])
        np.testing.assert_allclose(logits, hidden @ kernel + bias, rtol=1e-4, atol=1e-4)


def test_cold_keeps_the_features_that_it_is_told_and_says_what_matters():
    model = examples.randomise(COLD(ONE_TASK, width=4, units=[3], keep=["item", "age"]))
    features, _, _ = examples.batch()
    assert model.embedding.table.shape[0] == 1 + ONE_TASK["item"].num_ids - 1
    changed = {**features, "user": (features["user"] + 1) % 5}
    np.testing.assert_array_equal(model(changed), model(features))
    gates = model.gates(model.embed(features)).numpy()
    assert model.importance(features) == pytest.approx({"item": gates[:, 0].mean(), "age": gates[:, 1].mean()})


# -- lists and rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [ONE_TASK, TWO_TASKS], ids=["one task", "two tasks"])
@pytest.mark.parametrize("name", ["fm", "adaensemble", "cold", *TOWERS])
def test_lists_score_as_their_rows(name, schema):
    model = made(name, schema)
    of_lists, _, rows = examples.lists(schema)
    found, expected = model(of_lists), model(rows)
    for logits, flat in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert logits.shape == (USERS, ITEMS) and flat.shape == (USERS * ITEMS, 1)
        np.testing.assert_allclose(logits, tf.reshape(flat, (USERS, ITEMS)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["linear", "ranktower", "inttower", "dat"])
def test_lists_of_lengths_that_a_graph_does_not_know(name):
    model = made(name)
    of_lists, _, _ = examples.lists()
    specs = {name: tf.TensorSpec([None] * (x.shape.rank - 1) + [x.shape[-1]], x.dtype) for name, x in of_lists.items()}
    graph = tf.function(lambda x: model(x), [specs])
    np.testing.assert_allclose(graph(of_lists), model(of_lists), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "ranktower")) for name in TOWERS]
)
def test_compiled_towers_score_the_same(name):
    model = made(name)
    of_lists, _, rows = examples.lists()
    expected = model(of_lists), model(rows)
    model.compile(jit_compile=True)
    for found, logits in zip((model(of_lists), model(rows)), expected, strict=True):
        np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "jit_compile"),
    [
        ("ranktower", False),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in [*TOWERS[1:], "cold"]),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in TOWERS),
        ("lr", False),
    ],
)
def test_every_model_learns_lists(name, jit_compile):
    features, grades, _ = examples.lists(size=12)
    grades[:, -1] = -1.0  # padding
    stages = np.tile([0, 0, 1, 2, 2], (12, 1))
    teacher = np.where(stages == 0, grades / 4, 0.0).astype(np.float32)
    data = tf.data.Dataset.from_tensors(({**features, "stages": stages, "teacher": teacher}, grades))
    model = MODELS[name](ONE_TASK)
    model.compile(tf.keras.optimizers.Adam(0.02), HybridRankTowerLoss(), metrics=[NDCGAtK(2)], jit_compile=jit_compile)
    history = model.fit(data, epochs=25, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] - 0.05
    assert np.all(np.isfinite(history["loss"])) and history[model.metrics[-1].name][-1] > 0.3


# -- what each tower sees ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [ONE_TASK, TWO_TASKS], ids=["one task", "two tasks"])
@pytest.mark.parametrize("name", TOWERS)
def test_kept_representations_score_as_the_model(name, schema):
    model = made(name, schema)
    of_lists, _, rows = examples.lists(schema)
    user = model.user_tower({name: of_lists[name] for name in model.user_features})
    flat = model.item_tower({name: rows[name] for name in model.item_features})
    items = model.item_tower({name: of_lists[name] for name in model.item_features})
    for one, other in zip(tf.nest.flatten(flat), tf.nest.flatten(items), strict=True):
        assert other.shape == (USERS, ITEMS, *one.shape[1:])
        np.testing.assert_allclose(tf.reshape(other, one.shape), one, rtol=1e-6, atol=1e-6)
    for found, expected in zip(
        tf.nest.flatten(model.score(user, items)), tf.nest.flatten(model(of_lists)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", TOWERS)
def test_no_tower_sees_the_other_s_features(name):
    model = made(name)
    features, _, _ = examples.batch()
    shuffled = {key: tf.reverse(value, [0]) for key, value in features.items()}
    for tower, own in ((model.user_tower, model.user_features), (model.item_tower, model.item_features)):
        expected = tower(features)
        changed = {key: features[key] if key in own else shuffled[key] for key in features}
        np.testing.assert_array_equal(tower(changed), expected)
        np.testing.assert_array_equal(tower({key: features[key] for key in own}), expected)
        assert np.any(np.abs(tower(shuffled) - expected) > 1e-4)


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("users_at_once", [1, 3])
def test_all_pairs(name, users_at_once):
    model = made(name, TWO_TASKS)
    _, _, rows = examples.lists(TWO_TASKS)
    user, items = model.user_tower(examples.lists(TWO_TASKS)[0]), model.item_tower(rows)
    found = model.score_all_pairs(user, items, users_at_once, items_at_once=6)
    for task, scores in found.items():
        assert scores.shape == (USERS, USERS * ITEMS)
        for u in range(USERS):
            own, others = ({t: x[u : u + 1] for t, x in user.items()}, {t: x[tf.newaxis] for t, x in items.items()})
            np.testing.assert_allclose(scores[u], model.score(own, others)[task][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TOWERS)
def test_one_user_beside_many_items_is_computed_once(name):
    model = made(name)
    _, _, rows = examples.lists()
    expected = model({**rows, **{key: tf.repeat(rows[key][:1], USERS * ITEMS, axis=0) for key in model.user_features}})
    one = {**rows, **{key: rows[key][:1] for key in model.user_features}}
    for layer in model.submodules:
        if hasattr(layer, "repeats_single_rows"):
            layer.repeats_single_rows = True
    found = model(one)
    assert found.shape == (USERS * ITEMS, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# -- errors ------------------------------------------------------------------------------------------------------------


def with_role(role):
    return Schema([Feature("user", num_values=5, role="user"), Feature("item", num_values=5, role=role)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwoTower(with_role(None)), "TwoTower: every input must belong to one tower, .* 'item' has none of"),
        (lambda: TwoTower(with_role(("user", "item"))), r"feature 'item' has \['item', 'user'\]"),
        (lambda: RankTower(with_role("context")), "RankTower: the schema has no input of role item"),
        (lambda: RankTower.from_embeddings(3, 4), "RankTower divides features by their roles: it needs a schema"),
        (lambda: RankTower(ONE_TASK, num_heads=(1, 2, 3)), "RankTower: num_heads must be .*, or two"),
        (lambda: RankTower(ONE_TASK, num_heads=0), "RankTower: num_heads must be a number >= 1"),
        (lambda: TwoTower(ONE_TASK, similarity="l2"), "TwoTower: similarity must be one of .*, got 'l2'"),
        (lambda: IntTower(ONE_TASK, units=[]), r"IntTower: units must be widths > 0, got \[\]"),
        (lambda: IntTower(ONE_TASK, contrast_weight=-1), "IntTower: contrast_weight must be >= 0, got -1"),
        (lambda: DAT(with_role("item")), "DAT: user_id must name a feature .* role group"),
        (lambda: DAT(ONE_TASK, user_id="history"), "DAT: user_id must name .* got 'history'"),
        (lambda: DAT(ONE_TASK, category="user"), r"DAT: category must name .* among \['item'\]; got 'user'"),
        (lambda: DAT(ONE_TASK, mimic_weights=[1]), r"DAT: mimic_weights must be two numbers, got \[1\]"),
        (lambda: COLD(ONE_TASK, keep=["itm"]), r"COLD: keep must name inputs, .*; got \['itm'\]"),
        (lambda: COLD(ONE_TASK, keep=[]), "COLD: keep must name at least one input"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lists_on_the_wrong_side_are_named():
    model = MODELS["ranktower"](ONE_TASK)
    of_lists, _, rows = examples.lists()
    with pytest.raises(ValueError, match=r"feature 'history' is of the user .* \(lists, length\), got \(4, 1, 3\)"):
        model({**of_lists, "history": of_lists["history"][:, tf.newaxis]})
    with pytest.raises(ValueError, match=r"feature 'item' must have shape \(batch, 1\), or \(lists, items, 1\)"):
        MODELS["linear"](ONE_TASK)({**of_lists, "item": rows["item"][:, tf.newaxis, tf.newaxis]})


@pytest.mark.parametrize("part", ["user_tower", "item_tower"])
def test_cold_says_that_it_has_no_towers(part):
    with pytest.raises(TypeError, match=f"COLD has no {part}: .* nothing can be kept"):
        getattr(made("cold"), part)(examples.batch()[0])
