"""schema.pbtxt and roles.yaml: ours, and those that other tools write."""

import hypothesis
import pytest
from google.protobuf import text_format

from tests.test_schema import schemas
from xdeepint_ext.schema import Feature, Schema, SchemaError
from xdeepint_ext.utils.metadata import schema_pb2

# What TensorFlow Data Validation infers from data: no tags of ours.
FOREIGN = """
feature { name: "city" type: BYTES presence { min_fraction: 1.0 } shape { dim { size: 1 } } }
feature { name: "code" type: INT int_domain { is_categorical: true } }
feature { name: "age" type: INT presence { min_fraction: 1.0 } }
feature { name: "fare" type: FLOAT presence { min_fraction: 0.5 } }
feature { name: "tags" type: BYTES value_count { min: 1 max: 4 } }
feature { name: "image" type: FLOAT shape { dim { size: 8 } } }
feature { name: "click" type: INT }
"""


def parse(text):
    return text_format.Parse(text, schema_pb2.Schema())


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(schema=schemas())
def test_proto_round_trip(schema):
    assert Schema.from_proto(schema.to_proto()) == schema
    assert Schema.from_proto(parse(str(schema.to_proto()))) == schema


@pytest.mark.parametrize("name", ["", "schema.pbtxt", "other.pbtxt"])
def test_file_round_trip(tmp_path, name):
    schema = Schema([Feature("a", num_values=3)])
    schema.save(tmp_path / name if name else tmp_path)
    assert (tmp_path / (name or "schema.pbtxt")).exists()
    assert Schema.load(tmp_path / name if name else tmp_path) == schema


def test_order_is_kept_where_one_column_makes_two_features():
    schema = Schema(
        [
            Feature("age_bin", "numeric", source="age", binning="boundaries", boundaries=(1.0,)),
            Feature("city"),
            Feature("age", "numeric"),
        ]
    )
    proto = schema.to_proto()
    assert [column.name for column in proto.feature] == ["age", "city"]
    assert Schema.from_proto(proto) == schema


def test_other_tools_can_read_what_we_write():
    schema = Schema(
        [
            Feature("user", role=("user", "group")),
            Feature("tags", "multi", max_length=3, weights="scores"),
            Feature("image", "vector", dimension=4),
            Feature("age", "numeric", required=False),
        ]
    )
    columns = {column.name: column for column in schema.to_proto().feature}
    assert set(columns) == {"user", "tags", "scores", "image", "age"}
    assert list(columns["user"].annotation.tag)[:2] == ["user", "group"]
    types = schema_pb2.FeatureType
    assert [columns[n].type for n in ("user", "scores", "age")] == [types.BYTES, types.FLOAT, types.FLOAT]
    assert columns["tags"].value_count.max == 3
    assert columns["image"].shape.dim[0].size == 4
    assert columns["user"].presence.min_fraction == 1.0
    assert columns["age"].presence.min_fraction == 0.0


def test_foreign_schemas_say_kinds_by_type_and_shape():
    schema = Schema.from_proto(parse(FOREIGN), {"click": "label"})
    assert {f.name: (f.kind, f.dtype, f.required) for f in schema} == {
        "city": ("categorical", "string", True),
        "code": ("categorical", "int", False),
        "age": ("numeric", "int", True),
        "fare": ("numeric", "float", False),
        "tags": ("multi", "string", False),
        "image": ("vector", "float", False),
        "click": ("numeric", "int", False),
    }
    assert schema["tags"].max_length == 4
    assert schema["image"].dimension == 8
    assert schema.tasks == ("click",)


def test_plain_tags_say_roles_and_kinds():
    text = """
    feature { name: "history" type: BYTES value_count { max: 9 } annotation { tag: "sequence" tag: "user" } }
    feature { name: "click" type: FLOAT annotation { tag: "label" tag: "something else" } }
    """
    schema = Schema.from_proto(parse(text))
    assert schema["history"] == Feature("history", "sequence", "user", max_length=9, required=False)
    assert schema["click"].roles == ("label",)


OVERLAY = """
features:
  click: label
  city: [user, group]
  age: {binning: boundaries, boundaries: [30, 60], role: user}
  age_scaled: {source: age, kind: numeric, scaling: log}
  fare: {kind: ignore}
"""


def test_overlay_beside_the_schema_leaves_it_as_it_is(tmp_path):
    (tmp_path / "schema.pbtxt").write_text(FOREIGN)
    (tmp_path / "roles.yaml").write_text(OVERLAY)
    schema = Schema.load(tmp_path)
    assert "fare" not in schema
    assert schema["city"].roles == ("user", "group")
    assert schema["age"].boundaries == (30.0, 60.0)
    assert (schema["age_scaled"].raw_name, schema["age_scaled"].dtype) == ("age", "int")
    assert (tmp_path / "schema.pbtxt").read_text() == FOREIGN
    (tmp_path / "other.yaml").write_text("features: {click: label}")
    assert "fare" in Schema.load(tmp_path, tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("features: {clik: label}", r"overlay: no column 'clik' in the schema; it has \['age', 'city'"),
        ("features: {x: {source: agee}}", "overlay: no column 'agee'"),
        ("features: {age: {bining: quantile}}", "feature 'age'.*bining"),
        ("features: {age: {binning: quantil}}", "Feature 'age': binning must be one of"),
        ("features: [age]", "expected `features:`"),
        ("age: label", "expected `features:`"),
        ("features: {age: 3}", "expected `features:`"),
        ("features: {age: [", "is not YAML"),
        ("", "expected `features:`"),
    ],
)
def test_overlays_that_make_no_sense(tmp_path, overlay, message):
    (tmp_path / "schema.pbtxt").write_text(FOREIGN)
    (tmp_path / "roles.yaml").write_text(overlay)
    with pytest.raises(SchemaError, match=message):
        Schema.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature { nam: 'a' }", "is not a TensorFlow Metadata schema"),
        ("feature { name: 'a' type: STRUCT }", "column 'a': type must be BYTES, INT or FLOAT"),
        ("feature { name: 'a' type: INT annotation { tag: 'multi' tag: 'sequence' } }", "several kinds"),
        ("feature { name: 'a' type: INT annotation { tag: 'xdeepint:{' } }", "column 'a': its tag .* is not JSON"),
        ("feature { name: 'a' type: INT annotation { tag: 'xdeepint:{\"knd\": 1}' } }", "feature 'a'.*knd"),
        ("feature { name: 'a' type: BYTES annotation { tag: 'multi' } }", "'a': kind 'multi' needs max_length"),
    ],
)
def test_files_that_are_no_schema(tmp_path, text, message):
    (tmp_path / "schema.pbtxt").write_text(text)
    with pytest.raises(SchemaError, match=message):
        Schema.load(tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no schema at {tmp_path}.*data.prepare"):
        Schema.load(tmp_path)
