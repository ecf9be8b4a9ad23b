"""Feature and Schema: what they derive, what they refuse, and that they survive JSON."""

import dataclasses
import pathlib
import subprocess
import sys

import hypothesis
import pytest
from hypothesis import strategies as st

import xdeepint_ext
from xdeepint_ext.schema import ROLES, Feature, Schema, SchemaError


@st.composite
def features(draw, name="feature"):
    """Any valid model input."""
    kind = draw(st.sampled_from(["categorical", "multi", "sequence", "numeric", "vector"]))
    options = {"required": draw(st.booleans()), "role": draw(st.sampled_from([None, "user", ("item", "item_id")]))}
    if kind == "vector":
        return Feature(name, kind, dimension=draw(st.integers(1, 5)), **options)
    options |= {
        "table": draw(st.sampled_from([None, "shared"])),
        "width": draw(st.sampled_from([None, 2, 8])),
        "trainable": draw(st.booleans()),
        "missing": draw(st.sampled_from(["zero", "bucket"])),
        "min_count": draw(st.integers(1, 20)),
    }
    if kind == "numeric":
        boundaries = sorted(draw(st.sets(st.integers(-9, 9), max_size=4)))
        binning = draw(st.sampled_from([None, "quantile", "log_square", "boundaries"] if boundaries else [None]))
        scale = {"scaling": draw(st.sampled_from(["standard", "log", "none"])), "mean": 0.5, "deviation": 2.0}
        return Feature(name, kind, binning=binning, boundaries=boundaries or None, **scale, **options)
    lookup = draw(st.sampled_from(["vocabulary", "hash", "identity"]))
    options |= {
        "lookup": lookup,
        "dtype": "int" if lookup == "identity" else draw(st.sampled_from(["int", "string"])),
        "num_values": draw(st.integers(1, 100)),
        "oov": draw(st.sampled_from(["buckets", "zero"])),
        "num_oov_buckets": draw(st.integers(1, 3)),
    }
    if kind != "categorical":
        combiner = draw(st.sampled_from(["mean", "sum", "sqrtn", "max", "concat"]))
        weights = draw(st.sampled_from([None, f"{name}_score"]))
        options |= {"max_length": draw(st.integers(1, 4)), "combiner": combiner, "weights": weights}
    return Feature(name, kind, **options)


@st.composite
def schemas(draw):
    """Any valid schema of up to five inputs with tables of their own, a label, a weight and side inputs."""
    found = [draw(features(f"f{i}")) for i in range(draw(st.integers(1, 5)))]
    found = [dataclasses.replace(f, table=None, role=f.role if i == 0 else None) for i, f in enumerate(found)]
    extra = [Feature("label", "numeric", "label"), Feature("w", "numeric", "weight"), Feature("day", role="group")]
    return Schema(found + extra[: draw(st.integers(0, 3))])


@pytest.mark.parametrize(
    ("feature", "num_ids"),
    [
        (Feature("a", num_values=7), 1 + 1 + 7),
        (Feature("a", num_values=7, num_oov_buckets=3), 1 + 3 + 7),
        (Feature("a", num_values=7, oov="zero"), 1 + 7),
        (Feature("a", num_values=7, missing="bucket"), 1 + 1 + 7 + 1),
        (Feature("a", num_values=7, lookup="hash"), 1 + 7),
        (Feature("a", num_values=7, lookup="identity", dtype="int"), 1 + 7),
        (Feature("a", "numeric", binning="log_square"), 1 + 64),
        (Feature("a", "numeric", binning="boundaries", boundaries=(0, 1)), 1 + 3),
        (Feature("a", "numeric", binning="quantile", num_bins=9, boundaries=(0,), missing="bucket"), 1 + 2 + 1),
    ],
)
def test_ids_are_padding_oov_values_missing(feature, num_ids):
    assert feature.num_ids == num_ids


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (Feature("a"), "number of values is unknown; give num_values"),
        (Feature("a", "numeric", binning="quantile", num_bins=3), "number of values is unknown"),
        (Feature("a", "numeric"), "numeric without binning: it has no ids"),
    ],
)
def test_unknown_number_of_ids(feature, message):
    with pytest.raises(SchemaError, match=f"Feature 'a'.*{message}"):
        feature.num_ids  # noqa: B018


@pytest.mark.parametrize(
    ("feature", "dtype"),
    [
        (Feature("a"), "string"),
        (Feature("a", "multi", max_length=2), "string"),
        (Feature("a", "numeric"), "float"),
        (Feature("a", "vector", dimension=2), "float"),
        (Feature("a", role="label"), "float"),
        (Feature("a", role="teacher"), "float"),
        (Feature("a", role="group"), "string"),
        (Feature("a", dtype="int"), "int"),
    ],
)
def test_default_type(feature, dtype):
    assert feature.dtype == dtype


@pytest.mark.parametrize("role", ROLES)
def test_roles_decide_what_models_see(role):
    assert Feature("a", "numeric", role).is_input == (role in ("user", "item", "context"))
    assert Feature("a", "numeric", (role, "user")).is_input
    assert Feature("a", "numeric").is_input


def test_rows_and_lengths():
    tags = Feature("tags", "multi", max_length=3)
    assert (tags.length, tags.num_rows) == (3, 1)
    assert tags.replace(combiner="concat").num_rows == 3
    assert (Feature("v", "vector", dimension=5).length, Feature("v", "vector", dimension=5).num_rows) == (5, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a b"}, "name must be letters"),
        ({"name": "a\n"}, "name must be letters"),
        ({"name": "group_ids"}, "name is reserved"),
        ({"kind": "categoric"}, "kind must be one of .* got 'categoric'"),
        ({"role": "lable"}, "role must be one of .* got 'lable'"),
        ({"combiner": "avg"}, "combiner must be one of .* got 'avg'"),
        ({"dtype": "int32"}, "dtype must be one of .* got 'int32'"),
        ({"lookup": "index"}, "lookup must be one of"),
        ({"oov": "none"}, "oov must be one of"),
        ({"kind": "numeric", "binning": "log"}, "binning must be one of"),
        ({"kind": "numeric", "scaling": "minmax"}, "scaling must be one of"),
        ({"missing": "mean"}, "missing must be one of"),
        ({"width": 0}, "width must be a whole number >= 1, got 0"),
        ({"width": 2.5}, "width must be a whole number >= 1, got 2.5"),
        ({"num_values": -1}, "num_values must be a whole number >= 0, got -1"),
        ({"num_oov_buckets": 0}, "num_oov_buckets must be >= 1, got 0"),
        ({"min_count": 0}, "min_count must be >= 1, got 0"),
        ({"kind": "multi"}, "kind 'multi' needs max_length"),
        ({"kind": "sequence"}, "kind 'sequence' needs max_length"),
        ({"kind": "vector"}, "needs dimension"),
        ({"weights": "w"}, "weights go with kind 'multi' or 'sequence'"),
        ({"binning": "log_square"}, "binning goes with kind 'numeric'"),
        ({"kind": "numeric", "binning": "quantile"}, "needs num_bins"),
        ({"kind": "numeric", "binning": "boundaries"}, "needs boundaries"),
        ({"kind": "numeric", "binning": "boundaries", "boundaries": (1, 1)}, "must ascend strictly"),
        ({"dtype": "float"}, "ids cannot be made of floats"),
        ({"kind": "numeric", "dtype": "string"}, "numbers cannot be strings"),
        ({"role": "label", "dtype": "string"}, "role label is for numbers, not strings"),
        ({"lookup": "identity"}, "lookup 'identity' needs dtype 'int'"),
    ],
)
def test_contradictions_are_named(arguments, message):
    name = arguments.get("name", "a")
    with pytest.raises(SchemaError, match=f"(?s)Feature {name!r}: .*{message}".replace("\\n", "\\\\n")):
        Feature(**{"name": "a", **arguments})


def test_names_must_be_unique_weights_included():
    with pytest.raises(SchemaError, match=r"names must be unique, repeated: \['a'\]"):
        Schema([Feature("a"), Feature("a", "numeric")])
    with pytest.raises(SchemaError, match=r"repeated: \['tags_weights'\]"):
        Schema([Feature("tags", "multi", max_length=2, weights="w"), Feature("tags_weights", "numeric")])


@pytest.mark.parametrize(
    "change",
    [
        {"width": 8},
        {"trainable": False},
        {"num_values": 6},
        {"oov": "zero"},
        {"num_oov_buckets": 2},
        {"dtype": "int"},
        {"missing": "bucket"},
        {"min_count": 2},
        {"lookup": "hash"},
    ],
)
def test_features_of_one_table_must_agree(change):
    first = Feature("a", num_values=5, table="t")
    (name,) = change
    with pytest.raises(SchemaError, match=f"features 'a' and 'b' share table 't' but differ in {name}"):
        Schema([first, first.replace(name="b", **change)])
    assert len(Schema([first, first.replace(name="b", kind="multi", max_length=3)])) == 2


def test_views_of_a_schema():
    schema = Schema(
        [
            Feature("click", "numeric", "label"),
            Feature("user", role=("user", "group")),
            Feature("tags", "multi", max_length=2, combiner="concat"),
            Feature("like", "numeric", "label"),
            Feature("importance", "numeric", "weight"),
            Feature("soft", "numeric", "teacher"),
        ]
    )
    assert [f.name for f in schema.inputs] == ["user", "tags"]
    assert schema.tasks == ("click", "like")
    assert schema.weight == schema["importance"]
    assert schema.side_inputs == {"group_ids": schema["user"], "teacher": schema["soft"]}
    assert schema.num_fields == 3
    assert schema.field_names == ("user", "tags[0]", "tags[1]")
    assert "user" in schema
    assert "usr" not in schema
    with pytest.raises(KeyError, match=r"no feature 'usr' in the schema; it has \['click', 'user'"):
        schema["usr"]
    assert [f.name for f in schema.select(["like", "user"])] == ["user", "like"]
    with pytest.raises(KeyError, match="no feature 'usr'"):
        schema.select(["usr"])
    assert schema.replace({"user": {"num_values": 3}})["user"].num_values == 3
    with pytest.raises(KeyError, match="no feature 'usr'"):
        schema.replace({"usr": {"num_values": 3}})


@pytest.mark.parametrize("role", ["weight", "group", "teacher"])
def test_some_roles_are_for_one_feature(role):
    schema = Schema([Feature("a", "numeric", role), Feature("b", "numeric", role)])
    with pytest.raises(SchemaError, match=rf"role '{role}' is for one feature, but \['a', 'b'\] have it"):
        schema.weight if role == "weight" else schema.side_inputs  # noqa: B018


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(schema=schemas())
def test_tables_of_one_width_stand_one_behind_the_other(schema):
    by_variable = {}
    for name, table in schema.tables.items():
        assert table.rows == schema[name].num_ids
        by_variable.setdefault((table.width, table.trainable), []).append(table)
    for tables in by_variable.values():
        rows = [row for table in tables for row in range(table.offset + 1, table.offset + table.rows)]
        assert rows == list(range(1, len(rows) + 1))


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(schema=schemas())
def test_json_round_trip(schema):
    again = Schema.from_json(schema.to_json())
    assert again == schema
    assert hash(again) == hash(schema)
    assert again.fingerprint() == schema.fingerprint()


@pytest.mark.parametrize(
    "change",
    [{"num_values": 6}, {"role": "user"}, {"missing": "bucket"}, {"table": "t"}, {"oov": "zero"}, {"width": 4}],
)
def test_fingerprint_changes_with_the_meaning(change):
    schema = Schema([Feature("a", num_values=5), Feature("b", num_values=5)])
    assert schema.replace({"a": change}).fingerprint() != schema.fingerprint()
    assert Schema(reversed(schema.features)).fingerprint() != schema.fingerprint()


def test_needs_no_tensorflow():
    code = "import sys, xdeepint_ext.schema; sys.exit('tensorflow' in sys.modules)"
    folder = pathlib.Path(xdeepint_ext.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0
