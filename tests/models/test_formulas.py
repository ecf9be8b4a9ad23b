"""Every model's logits against loops over its paper's formula, from ids to logits."""

import numpy as np
import pytest

from tests.layers import reference as layers
from tests.layers.test_embedding import parts
from tests.models import examples, reference
from tests.models.examples import ONE_TASK, TWO_TASKS, WIDTH
from xdeepint_ext.layers import VectorCross
from xdeepint_ext.models import DynInt
from xdeepint_ext.models.baselines import DCN, DCNV2, PNN, AutoInt, DeepCrossing, FiBiNET, XDeepFM


@pytest.fixture(params=[ONE_TASK, TWO_TASKS], ids=["one task", "two tasks"])
def schema(request):
    return request.param


def logits_of(model, schema):
    """Task -> logits of one batch, as float64."""
    features, _, _ = examples.batch(schema)
    found = model(features)
    return {task: np.float64(found[task] if isinstance(found, dict) else found) for task in schema.tasks}


def rows_of(embedding):
    """The float64 field matrix of the same batch."""
    features, _, _ = examples.batch(embedding.schema)
    return layers.field_matrix(embedding.schema, features, **parts(embedding))


def made(name, schema):
    return examples.randomise(examples.MODELS[name](schema))


def check(model, schema, expected):
    for task, logits in logits_of(model, schema).items():
        np.testing.assert_allclose(logits, expected(task), rtol=1e-4, atol=1e-4)


def arrays(layer):
    return [weight.numpy().astype(np.float64) for weight in layer.weights]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear", None),
        ("xdeepint", {"num_subspaces": 2}),
        ("without residual", {"num_subspaces": 4, "residual": False}),
    ],
)
def test_interaction_models(name, options, schema):
    model = made(name, schema)
    x = rows_of(model.embedding)
    kernels = arrays(model.pin) if options else []
    check(model, schema, lambda task: reference.xdeepint(x, kernels, arrays(model.heads[task]), **options or {}))


def test_deep_part_is_added(schema):
    model = made("with a deep part", schema)
    x = rows_of(model.embedding)
    weights = arrays(model.deep)
    hidden = layers.mlp(x.reshape(len(x), -1), [tuple(weights[:2]), tuple(weights[2:])], lambda v: max(v, 0.0))

    def expected(task):
        kernel, bias = arrays(model.deep_heads[task])
        wide = reference.xdeepint(x, arrays(model.pin), arrays(model.heads[task]), num_subspaces=4)
        return wide + layers.mlp(hidden, [(kernel, bias)], layers.linear)

    check(model, schema, expected)


def test_multi_head(schema):
    model = made("multi-head", schema)
    x = rows_of(model.embedding)
    projection, *kernels = arrays(model.pin)
    heads = [np.array([layers.project(row, projection[:, i : i + 2]) for row in x]) for i in (0, 2)]
    stacked = np.concatenate(
        [layers.pin(heads[0], kernels[:1]), layers.pin(heads[1], kernels[1:], num_subspaces=2)], axis=1
    )

    def expected(task):
        weights, bias = arrays(model.heads[task])
        return layers.field_linear_head(stacked, weights[:, 0], bias[0])

    check(model, schema, expected)


def test_fm(schema):
    model = made("fm", schema)
    pairs, linear = reference.pairwise(rows_of(model.embedding)), rows_of(model.linear)
    assert model.embedding.width == WIDTH

    def expected(task):
        column = schema.tasks.index(task)
        return reference.total(linear[:, :, column]) + arrays(model.linear_heads[task])[0] + pairs

    check(model, schema, expected)


def test_lr(schema):
    model = made("lr", schema)
    weights = rows_of(model.embedding)
    check(
        model,
        schema,
        lambda task: reference.total(weights[:, :, schema.tasks.index(task)]) + arrays(model.heads[task])[0],
    )


def test_lr_starts_at_a_half():
    for logits in logits_of(examples.MODELS["lr"](ONE_TASK), ONE_TASK).values():
        assert not logits.any()


def first_order(model, schema, task):
    weights = rows_of(model.linear)[:, :, schema.tasks.index(task)]
    return reference.total(weights) + arrays(model.linear_heads[task])[0]


def dense(model, task, vectors):
    kernel, bias = arrays(model.heads[task])
    return vectors @ kernel + bias


@pytest.mark.parametrize("name", ["dnn", "wide & deep", "deepfm"])
def test_deep_models(name, schema):
    model = made(name, schema)
    x = rows_of(model.embedding)
    hidden = reference.mlp(x.reshape(len(x), -1), arrays(model.deep))
    others = {
        "dnn": lambda task: 0.0,
        "wide & deep": lambda task: first_order(model, schema, task),
        "deepfm": lambda task: first_order(model, schema, task) + reference.pairwise(x),
    }[name]
    check(model, schema, lambda task: dense(model, task, hidden) + others(task))


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("version", ["vectors", "full matrices", "low-rank matrices"])
def test_cross_networks(version, structure, schema):
    options = {"width": WIDTH, "num_layers": 2, "units": [5, 3], "structure": structure}
    if version == "vectors":
        model = examples.randomise(DCN(schema, **options))
        crosses = [
            [np.float64(k), np.float64(b)] for k, b in zip(model.crosses.kernels, model.crosses.biases, strict=True)
        ]
    else:
        rank = 3 if version == "low-rank matrices" else None
        model = examples.randomise(DCNV2(schema, projection_dim=rank, **options))
        crosses = [arrays(layer) for layer in model.crosses]
    x = rows_of(model.embedding)
    flat = x.reshape(len(x), -1)
    crossed = reference.cross(flat, crosses)
    vectors = (
        reference.mlp(crossed, arrays(model.deep))
        if structure == "stacked"
        else np.concatenate([crossed, reference.mlp(flat, arrays(model.deep))], axis=1)
    )
    check(model, schema, lambda task: dense(model, task, vectors))


def test_deep_crossing(schema):
    model = made("deep crossing", schema)
    x = rows_of(model.embedding)
    units = [arrays(inner) + arrays(outer) for inner, outer in zip(model.deep.inner, model.deep.outer, strict=True)]
    hidden = layers.residual_units(x.reshape(len(x), -1), units, lambda v: max(v, 0.0))
    check(model, schema, lambda task: dense(model, task, hidden))


@pytest.mark.parametrize(
    ("options", "products"),
    [
        ({}, lambda x, _: [layers.inner_products(x), layers.superposition(x)]),
        ({"outer_product": None, "self_products": True}, lambda x, _: [layers.inner_products(x, self_products=True)]),
        ({"inner_products": False}, lambda x, _: [layers.superposition(x)]),
        (
            {"outer_product": "matrix"},
            lambda x, kernels: [layers.inner_products(x), layers.kernel_products(x, *kernels, "matrix")],
        ),
    ],
    ids=["inner and outer", "inner", "outer", "matrices"],
)
def test_pnn(options, products, schema):
    model = examples.randomise(PNN(schema, width=WIDTH, units=[5, 3], **options))
    x = rows_of(model.embedding)
    kernels = [kernel for product in model.products for kernel in arrays(product)]
    vectors = np.concatenate([x.reshape(len(x), -1), *products(x, kernels)], axis=1)
    hidden = reference.mlp(vectors, arrays(model.deep))
    check(model, schema, lambda task: dense(model, task, hidden))


def test_xdeepfm(schema):
    model = made("xdeepfm", schema)
    x = rows_of(model.embedding)
    crossed = layers.cin(x, arrays(model.cin), activation=np.tanh)
    vectors = np.concatenate([crossed, reference.mlp(x.reshape(len(x), -1), arrays(model.deep))], axis=1)
    check(model, schema, lambda task: dense(model, task, vectors) + first_order(model, schema, task))


@pytest.mark.parametrize("name", ["autoint", "autoint+"])
def test_autoint(name, schema):
    model = made(name, schema)
    x = rows_of(model.embedding)
    attended = x
    for layer in model.attention:
        attended = layers.interacting(attended, arrays(layer), num_heads=2, scaled=name == "autoint+")
    vectors = attended.reshape(len(x), -1)
    if name == "autoint+":
        vectors = np.concatenate([vectors, reference.mlp(x.reshape(len(x), -1), arrays(model.deep))], axis=1)
    check(model, schema, lambda task: dense(model, task, vectors))


def test_fibinet(schema):
    model = made("fibinet", schema)
    x = rows_of(model.embedding)
    weighted = layers.senet(x, *arrays(model.senet), lambda v: max(v, 0.0))
    assert weighted.any()
    products = [
        layers.bilinear(rows, *arrays(layer), "field_each")
        for rows, layer in ((x, model.bilinear), (weighted, model.senet_bilinear))
    ]
    hidden = reference.mlp(np.concatenate(products, axis=1).reshape(len(x), -1), arrays(model.deep))
    check(model, schema, lambda task: dense(model, task, hidden) + first_order(model, schema, task))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DCN(ONE_TASK, num_layers=0), "DCN: num_layers must be >= 1, got 0"),
        (lambda: DCNV2(ONE_TASK, structure="serial"), "DCNV2: structure must be one of .*, got 'serial'"),
        (lambda: DynInt(ONE_TASK, mode="static"), "DynInt: mode must be one of .*, got 'static'"),
        (lambda: DynInt(ONE_TASK, width=6), "num_subspaces must divide the embedding width 6, got 4"),
        (lambda: DynInt(ONE_TASK, rank=0), "DynamicWeightedPIN: rank must be >= 1, got 0"),
        (
            lambda: DynInt.from_embeddings(5, 4, mode="generated", num_subspaces=2, rank=11),
            "DynInt: rank must be at most F h = 10, the rows of the interaction layers; got 11",
        ),
        (lambda: DynInt(ONE_TASK, mode="generated", num_subspaces=1), "DynInt: rank must be at most F h = .* got 64"),
        (lambda: DeepCrossing(ONE_TASK, units=[]), r"ResidualUnits: units must be widths > 0, got \[\]"),
        (
            lambda: PNN(ONE_TASK, inner_products=False, outer_product=None),
            "PNN: wants inner products, an outer product, or both",
        ),
        (lambda: PNN(ONE_TASK, outer_product="tensor"), "OuterProduct: kind must be one of .*, got 'tensor'"),
        (lambda: XDeepFM(ONE_TASK, cin_units=[3, 2], split_half=True), r"CIN: .* even units .*, got \[3, 2\]"),
        (lambda: AutoInt(ONE_TASK, num_layers=0), "AutoInt: num_layers must be >= 1, got 0"),
        (lambda: AutoInt(ONE_TASK, num_heads=0), "InteractingLayer: num_heads must be >= 1, got 0"),
        (lambda: FiBiNET(ONE_TASK, bilinear_kind="all"), "BilinearInteraction: kind must be one of .*, got 'all'"),
        (lambda: FiBiNET(ONE_TASK, reduction_ratio=0), "SENET: reduction_ratio must be >= 1, got 0"),
        (lambda: VectorCross(-1), "VectorCross: num_layers must be >= 0, got -1"),
        (lambda: VectorCross(1)(np.zeros((2, 3, 4))), r"VectorCross: inputs must have shape \(batch, n\)"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
