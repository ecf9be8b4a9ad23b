"""Every model's logits against loops over its paper's formula, from ids to logits."""

import numpy as np
import pytest

from tests.layers import reference as layers
from tests.layers.test_embedding import parts
from tests.models import examples, reference
from tests.models.examples import ONE_TASK, TWO_TASKS, WIDTH


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
        return reference.total(linear[:, :, column]) + arrays(model.heads[task])[0] + pairs

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
