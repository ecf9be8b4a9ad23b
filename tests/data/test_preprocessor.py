"""Preprocessor against plain Python, for every kind of feature."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tests.data import reference
from xdeepint_ext.data import DataError, Preprocessor
from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.data.parsing import INT_MISSING
from xdeepint_ext.schema import Feature, Schema

COLOURS = ("red", "blue", "grün", " spaced ", "tab\tbed")
CODES = (7, -3, 2**40, 0)


@pytest.fixture(scope="module")
def vocabulary_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    write(folder, "colour", COLOURS)
    write(folder, "code", CODES)
    return folder


def write(folder, table, values):
    with open(vocabulary_file(folder, table), "w", encoding="utf-8") as stream:
        stream.writelines(f"{value}\n" for value in values)


def ids_of(feature, values, folder):
    """The Preprocessor's ids of single values, None standing for a missing one."""
    missing = INT_MISSING if feature.dtype == "int" else ""
    raw = tf.constant([missing if value is None else value for value in values], None if values else tf.string)
    raw = tf.cast(raw, tf.int64) if feature.dtype == "int" else raw
    found = Preprocessor(Schema([feature]), folder)({feature.raw_name: raw})[feature.name]
    assert (found.shape, found.dtype) == ((len(values), 1), tf.int64)
    return found.numpy()[:, 0].tolist()


CATEGORICAL = {
    "one bucket": {},
    "three buckets": {"num_oov_buckets": 3},
    "unseen is zero": {"oov": "zero"},
    "missing has an id": {"missing": "bucket"},
    "both": {"oov": "zero", "missing": "bucket"},
    "hashed": {"lookup": "hash", "num_values": 11},
    "hashed, missing has an id": {"lookup": "hash", "num_values": 11, "missing": "bucket"},
}


@pytest.mark.parametrize("options", CATEGORICAL.values(), ids=list(CATEGORICAL))
def test_strings(options, vocabulary_dir):
    feature = Feature("paint", table="colour", **{"num_values": len(COLOURS), **options})
    values = [*COLOURS, None, "", "yellow", "Red", "spaced", "7", "a" * 1000, "\n"]
    expected = [reference.one_id(feature, value, COLOURS) for value in values]
    assert ids_of(feature, values, vocabulary_dir) == expected
    assert max(expected) < feature.num_ids


@pytest.mark.parametrize("options", CATEGORICAL.values(), ids=list(CATEGORICAL))
def test_whole_numbers(options, vocabulary_dir):
    feature = Feature("code", dtype="int", **{"num_values": len(CODES), **options})
    values = [*CODES, None, 1, -1, 2**62]
    assert ids_of(feature, values, vocabulary_dir) == [reference.one_id(feature, value, CODES) for value in values]


@pytest.mark.parametrize("missing", ["zero", "bucket"])
def test_identity(missing):
    feature = Feature("day", dtype="int", lookup="identity", num_values=7, missing=missing)
    values = [0, 6, 7, -1, None, 2**40]
    assert ids_of(feature, values, None) == [reference.one_id(feature, value) for value in values]


def test_ids_of_distinct_values_differ(vocabulary_dir):
    feature = Feature("colour", num_values=len(COLOURS))
    ids = ids_of(feature, [*COLOURS, None, "yellow"], vocabulary_dir)
    assert sorted(ids) == list(range(feature.num_ids))


@pytest.mark.parametrize("oov", ["buckets", "zero"])
def test_empty_vocabulary(oov, tmp_path):
    write(tmp_path, "colour", [])
    feature = Feature("colour", num_values=0, oov=oov)
    assert ids_of(feature, ["red", None], tmp_path) == [1 if oov == "buckets" else 0, 0]


BINNINGS = {
    "boundaries": {"binning": "boundaries", "boundaries": (-1.0, 0.1, 3.0)},
    "quantile": {"binning": "quantile", "num_bins": 5, "boundaries": (0.0, 0.0625)},
    "one boundary": {"binning": "quantile", "boundaries": (2.0,)},
    "log_square": {"binning": "log_square"},
    "log_square, missing has an id": {"binning": "log_square", "missing": "bucket"},
    "missing has an id": {"binning": "boundaries", "boundaries": (0.0,), "missing": "bucket"},
}
AT_THE_EDGES = [-1.0, 0.1, 3.0, 0.0, -0.0, 0.0625, np.nan, 1e30, -1e30, np.inf, -np.inf, 1e-30, 0.09999, 1.3108325]


@pytest.mark.parametrize("options", BINNINGS.values(), ids=list(BINNINGS))
def test_bins_of_floats(options):
    feature = Feature("age", "numeric", **options)
    values = np.float32(AT_THE_EDGES)
    found = Preprocessor(Schema([feature]), None)({"age": tf.constant(values)})["age"].numpy()[:, 0]
    assert found.tolist() == [reference.one_bin(feature, float(value)) for value in values]
    assert found.max() < feature.num_ids


@pytest.mark.parametrize("options", BINNINGS.values(), ids=list(BINNINGS))
def test_bins_of_whole_numbers(options):
    feature = Feature("age", "numeric", dtype="int", **options)
    values = [None, 0, -1, 1, 2, 3, 4, 10**9, -(10**9), 2**62]
    raw = tf.constant([INT_MISSING if value is None else value for value in values], tf.int64)
    found = Preprocessor(Schema([feature]), None)({"age": raw})["age"].numpy()[:, 0]
    assert found.tolist() == [reference.one_bin(feature, value) for value in values]


def test_a_boundary_belongs_to_the_bin_above():
    feature = Feature("age", "numeric", binning="boundaries", boundaries=(18, 65))
    found = Preprocessor(Schema([feature]), None)({"age": tf.constant([17.9, 18.0, 64.9, 65.0])})["age"]
    assert found.numpy()[:, 0].tolist() == [1, 2, 2, 3]


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_log_square_grows_with_the_size_of_the_number(values):
    feature = Feature("age", "numeric", binning="log_square")
    found = Preprocessor(Schema([feature]), None)({"age": tf.constant(values)})["age"].numpy()[:, 0]
    order = np.argsort(np.abs(values))
    assert (np.diff(found[order]) >= 0).all()
    assert found.min() >= 1
    assert found.max() <= 64


@pytest.mark.parametrize("dtype", ["float", "int"])
@pytest.mark.parametrize(
    "scaling", [("standard", 3.0, 2.0), ("standard", 3.0, 0.0), ("log", None, None), ("none",) * 3]
)
def test_scaling(dtype, scaling):
    name, mean, deviation = (*scaling[:1], *(None if s == "none" else s for s in scaling[1:]))
    feature = Feature("age", "numeric", dtype=dtype, scaling=name, mean=mean, deviation=deviation)
    values = [0, 1, -1, 3, 100, -(10**6), None] if dtype == "int" else [0.0, -2.5, 3.0, 1e6, np.nan]
    raw = tf.constant([INT_MISSING if value is None else value for value in values])
    raw = tf.cast(raw, tf.int64) if dtype == "int" else raw
    found = Preprocessor(Schema([feature]), None)({"age": raw})["age"]
    assert (found.shape, found.dtype) == ((len(values), 1), tf.float32)
    np.testing.assert_allclose(found[:, 0], [reference.scaled(feature, v) for v in values], rtol=1e-6)


def test_standard_scaling_needs_its_numbers():
    with pytest.raises(DataError, match="feature 'age': scaling 'standard' needs mean and deviation"):
        Preprocessor(Schema([Feature("age", "numeric")]), None)({"age": tf.constant([1.0])})


@pytest.mark.parametrize("dtype", ["float", "int"])
def test_vectors(dtype):
    feature = Feature("image", "vector", dtype=dtype, dimension=2)
    raw = tf.constant([[1.5, np.nan], [np.inf, -2.0]]) if dtype == "float" else tf.constant([[1, 2], [3, 4]], tf.int64)
    found = Preprocessor(Schema([feature]), None)({"image": raw})["image"]
    np.testing.assert_array_equal(found, [[1.5, 0.0], [0.0, -2.0]] if dtype == "float" else [[1, 2], [3, 4]])


def test_side_inputs(vocabulary_dir):
    schema = Schema(
        [
            Feature("colour", role=("item", "item_id"), num_values=len(COLOURS)),
            Feature("query", role="group"),
            Feature("stage", role="stage", dtype="int"),
            Feature("soft", "numeric", "teacher"),
        ]
    )
    raw = {"colour": tf.constant(["red", "blue", "red"]), "query": tf.constant(["a", "b", "a"])}
    raw |= {"stage": tf.constant([0, 2, 5], tf.int64), "soft": tf.constant([[0.5], [0.25], [1.0]])}
    found = Preprocessor(schema, vocabulary_dir)(raw)
    assert set(found) == {"colour", "group_ids", "item_ids", "stages", "teacher"}
    for name in ("group_ids", "item_ids"):
        first, second, third = found[name].numpy()
        assert first == third != second
        assert found[name].dtype == tf.int64
        assert first > 0
    np.testing.assert_array_equal(found["stages"], [0, 2, 5])
    np.testing.assert_array_equal(found["teacher"], [0.5, 0.25, 1.0])
    del raw["query"], raw["stage"], raw["soft"]
    assert set(Preprocessor(schema, vocabulary_dir)(raw)) == {"colour", "item_ids"}


def test_one_column_can_make_two_features():
    schema = Schema(
        [
            Feature("age", "numeric", scaling="none"),
            Feature("age_bin", "numeric", source="age", binning="boundaries", boundaries=(1.0,)),
        ]
    )
    found = Preprocessor(schema, None)({"age": tf.constant([0.5, 2.0])})
    np.testing.assert_array_equal(found["age"], [[0.5], [2.0]])
    np.testing.assert_array_equal(found["age_bin"], [[1], [2]])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"colours": tf.constant(["red"])}, r"column 'colour' of feature 'paint' is missing; got \['colours'\]"),
        ({"colour": tf.constant([1])}, "column 'colour' of feature 'paint' must be string, got int32"),
    ],
)
def test_columns_that_do_not_fit_are_named(raw, message, vocabulary_dir):
    schema = Schema([Feature("paint", source="colour", table="colour", num_values=len(COLOURS))])
    with pytest.raises(ValueError, match=f"Preprocessor: {message}"):
        Preprocessor(schema, vocabulary_dir)(raw)


@pytest.mark.parametrize(
    ("feature", "value", "message"),
    [
        (Feature("code", dtype="int", num_values=len(CODES)), 1.5, "must be int, got float32"),
        (Feature("age", "numeric"), "1.5", "must be float, got string"),
    ],
)
def test_wrong_types_are_named(feature, value, message, vocabulary_dir):
    with pytest.raises(ValueError, match=f"feature {feature.name!r} {message}"):
        Preprocessor(Schema([feature]), vocabulary_dir)({feature.name: tf.constant([value])})


@pytest.mark.parametrize(
    ("options", "folder", "message"),
    [
        ({"num_values": 4}, True, "has 5 values, but the schema says 4"),
        ({"num_values": 5, "table": "color"}, True, "feature 'colour': no vocabulary file .*color.txt"),
        ({"num_values": 5}, False, "feature 'colour' needs a vocabulary, but vocabulary_dir is None"),
        ({"num_values": 5, "dtype": "int"}, True, "vocabulary file .*colour.txt of feature 'colour' cannot be loaded"),
    ],
)
def test_vocabularies_that_do_not_fit(options, folder, message, vocabulary_dir):
    with pytest.raises(DataError, match=message):
        Preprocessor(Schema([Feature("colour", **options)]), vocabulary_dir if folder else None)


def test_fingerprint_is_of_schema_and_vocabulary(tmp_path):
    schema = Schema([Feature("colour", num_values=2)])
    write(tmp_path, "colour", ["red", "blue"])
    first = Preprocessor(schema, tmp_path).fingerprint()
    assert first == Preprocessor(schema, tmp_path).fingerprint()
    assert first != Preprocessor(schema.replace({"colour": {"oov": "zero"}}), tmp_path).fingerprint()
    write(tmp_path, "colour", ["blue", "red"])
    assert first != Preprocessor(schema, tmp_path).fingerprint()


def test_batches_of_any_size_and_in_graphs(vocabulary_dir):
    schema = Schema([Feature("colour", num_values=len(COLOURS)), Feature("age", "numeric", scaling="log")])
    preprocessor = Preprocessor(schema, vocabulary_dir)
    signature = {"colour": tf.TensorSpec((None,), tf.string), "age": tf.TensorSpec((None,), tf.float32)}
    compiled = tf.function(preprocessor, input_signature=[signature])
    for size in (0, 1, 3):
        raw = {"colour": tf.constant(["blue"] * size, tf.string), "age": tf.zeros(size)}
        for name, value in compiled(raw).items():
            np.testing.assert_array_equal(value, preprocessor(raw)[name])
            assert value.shape == (size, 1)


def test_another_vocabulary_under_the_same_path_is_another_table(tmp_path):
    schema = Schema([Feature("city", num_values=2)])
    found = []
    for values in ("a\nb\n", "b\na\n"):
        (tmp_path / "city.txt").write_text(values)
        found.append(Preprocessor(schema, tmp_path)({"city": tf.constant(["a", "b"])})["city"].numpy().ravel().tolist())
    assert found == [[2, 3], [3, 2]]
