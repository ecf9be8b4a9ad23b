"""Ids have readable names, and parts of a split the metrics of their records."""

import numpy as np
import pytest

from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.experiments.kinds import stopping_value
from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.scores import score
from xdeepint_ext.experiments.slices import id_names, score_slices
from xdeepint_ext.schema import Feature, Schema


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"num_values": 2}, ["(missing)", "(other)", "red", "blue"]),
        ({"num_values": 2, "oov": "zero"}, ["(missing)", "red", "blue"]),
        (
            {"num_values": 2, "num_oov_buckets": 2, "missing": "bucket"},
            ["(missing)", "(other) 0", "(other) 1", "red", "blue", "(missing)"],
        ),
        ({"num_values": 2, "lookup": "hash"}, ["(missing)", "bucket 0", "bucket 1"]),
        ({"num_values": 2, "lookup": "identity", "dtype": "int"}, ["(missing)", "0", "1"]),
        (
            {"kind": "numeric", "binning": "boundaries", "boundaries": (1.0, 2.5)},
            ["(missing)", "[-inf, 1)", "[1, 2.5)", "[2.5, inf)"],
        ),
    ],
    ids=str,
)
def test_every_id_has_a_name(tmp_path, options, names):
    with open(vocabulary_file(tmp_path, "colour"), "w") as stream:
        stream.write("red\nblue\n")
    feature = Feature("colour", **options)
    assert id_names(feature, str(tmp_path)) == names
    assert len(names) == feature.num_ids


def test_bins_of_squared_logarithms_have_names(tmp_path):
    feature = Feature("x", "numeric", binning="log_square")
    assert len(id_names(feature, str(tmp_path))) == feature.num_ids


def test_rarer_values_are_counted_not_hidden():
    random = np.random.default_rng(0)
    ids = np.repeat(np.arange(1, 31), np.arange(40, 10, -1))[:, None]
    labels = random.integers(0, 2, len(ids)).astype(float)
    predictions = Predictions({"y": labels}, {"y": random.normal(size=len(ids))}, ids={"x": ids})
    schema = Schema([Feature("x", num_values=30, lookup="identity", dtype="int"), Feature("y", "numeric", "label")])
    notes = []
    found = score_slices(predictions, schema, "", notes, "test.")
    assert len({name.rpartition(".")[0] for name in found}) == 20
    assert found["test.slice.x=0.rows"] == 40
    assert notes == [f"test.slice.x: 10 rarer values, in {(ids > 20).sum()} records, are not listed"]


def test_weights_and_groups_enter_the_scores():
    labels, logits = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 2.0, 3.0, 0.0])
    weights, groups = np.array([1.0, 3.0, 1.0, 1.0]), np.array([1, 1, 2, 2])
    found = score(Predictions({"y": labels}, {"y": logits}, weights, groups))
    assert found["auc"] == (1 * 1 + (3 + 1) * 1) / (2 * 4)
    assert found["gauc"] == (4 * 0.0 + 2 * 1.0) / 6
    assert found["gauc_uniform"] == 0.5
    assert (found["groups"], found["groups_left_out"]) == (2, 0)


def test_what_is_not_defined_is_nan_and_noted():
    notes = []
    found = score(Predictions({"y": np.ones(3)}, {"y": np.zeros(3)}), notes, "test.")
    assert np.isnan(found["auc"]) and np.isnan(found["nce"]) and found["logloss"] == pytest.approx(np.log(2))
    assert notes == ["test.auc, nce: not defined, as all labels are equal"]


def test_the_stopping_value_is_larger_for_the_better_model():
    assert stopping_value({"auc": 0.7, "logloss": 0.5}, "auc") == 0.7
    assert stopping_value({"auc": 0.7, "logloss": 0.5}, "logloss") == -0.5
    assert stopping_value({"a.auc": 0.7, "b.auc": 0.5, "mean.auc": 0.6}, "auc") == 0.6


def test_predictions_survive_a_file(tmp_path):
    values = Predictions({"y": np.arange(3.0)}, {"y": -np.arange(3.0)}, groups=np.array([5, 6, 7]))
    values.save(str(tmp_path / "p.npz"))
    again = Predictions.load(str(tmp_path / "p.npz")).take(np.array([2, 0]))
    np.testing.assert_array_equal(again.logits["y"], [-2, 0])
    np.testing.assert_array_equal(again.groups, [7, 5])
    assert again.weights is None
