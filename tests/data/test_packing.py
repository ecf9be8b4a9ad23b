"""Packing and unpacking give back what was packed, whatever the schema."""

import hypothesis
import numpy as np
import tensorflow as tf

from tests.test_schema import schemas
from xdeepint_ext.data.packing import FLOATS, IDS, Packing
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.signatures import input_signature


def draw(schema, batch, rng):
    """Features, labels and weights as the Preprocessor and the parser give them."""
    features = {
        name: rng.integers(0, 100, (batch, spec.shape[1]))
        if spec.dtype.is_integer
        else rng.normal(size=(batch, spec.shape[1]))
        for name, spec in input_signature(schema).items()
    }
    features = {name: v if v.dtype.kind == "i" else np.float32(v) for name, v in features.items()}
    for keyword in schema.side_inputs:
        side = rng.normal(size=batch).astype(np.float32) if keyword == "teacher" else rng.integers(0, 2**62, batch)
        features[keyword] = side
    labels = {task: rng.integers(-1, 2, (batch, 1)).astype(np.float32) for task in schema.tasks}
    labels = labels if len(labels) > 1 else next(iter(labels.values()), None)
    return features, labels, rng.random(batch).astype(np.float32) if schema.weight else None


def check(schema, batch, seed=0):
    packing = Packing(schema)
    parts = draw(schema, batch, np.random.default_rng(seed))
    packed = packing.pack(*parts)
    sizes = {IDS: packing.num_ids, FLOATS: packing.num_floats}
    assert {name: value.shape for name, value in packed.items()} == {
        n: (batch, size) for n, size in sizes.items() if size
    }
    found = packing.unpack(packed)
    tf.nest.assert_same_structure(found, parts)
    tf.nest.map_structure(np.testing.assert_array_equal, found, parts)
    assert [x.dtype for x in tf.nest.flatten(found) if x is not None] == [
        x.dtype for x in tf.nest.flatten(parts) if x is not None
    ]


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(schema=schemas())
def test_round_trip(schema):
    check(schema, 3)


def test_tasks_and_every_side_input():
    roles = {"group": "string", "item_id": "int", "stage": "int", "teacher": "float"}
    side = [Feature(f"a_{role}", role=role, dtype=dtype) for role, dtype in roles.items()]
    labels = [Feature(name, "numeric", "label") for name in ("click", "buy")]
    check(Schema([Feature("user", num_values=3), *labels, *side, Feature("w", "numeric", "weight")]), 4)


def test_one_kind_only():
    check(Schema([Feature("user", num_values=3)]), 2)
    check(Schema([Feature("age", "numeric")]), 2)


def test_spec_parses_what_was_packed():
    schema = Schema([Feature("user", num_values=3), Feature("click", "numeric", "label")])
    packing = Packing(schema)
    packed = packing.pack({"user": np.array([[2]])}, np.array([[1.0]]), None)
    features = {
        IDS: tf.train.Feature(int64_list=tf.train.Int64List(value=packed[IDS].numpy()[0])),
        FLOATS: tf.train.Feature(float_list=tf.train.FloatList(value=packed[FLOATS].numpy()[0])),
    }
    record = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    found, label, weight = packing.unpack(tf.io.parse_example([record], packing.feature_spec()))
    assert (found["user"].numpy().tolist(), label.numpy().tolist(), weight) == ([[2]], [[1.0]], None)
