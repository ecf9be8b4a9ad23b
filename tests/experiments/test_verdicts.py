"""Thresholds: which numbers pass, which refuse, and what contradicts itself."""

import math

import numpy as np
import pytest

from xdeepint_ext.experiments.predictions import Predictions
from xdeepint_ext.experiments.scores import score
from xdeepint_ext.experiments.verdicts import Judged, Thresholds, Verdict, judge

LABELS = np.tile([0.0, 1.0, 0.0, 1.0], 50)
GOOD = np.where(LABELS == 1, 1.0, -1.0)
GOOD[::8] = 2.0  # a quarter of the negatives is wrong
LOOSE = Thresholds(max_auc_drop=0.0, max_logloss_rise=0.0, max_ece_rise=0.0, min_slice_rows=10)


def predictions(logits, labels=LABELS):
    return Predictions({"click": labels}, {"click": np.asarray(logits, float)})


def test_equal_versions_pass_thresholds_of_zero():
    day = Judged(2, predictions(GOOD), predictions(GOOD), {"tab=a": np.arange(200) < 100})
    verdict = judge(2, 1, (day, Judged(1, predictions(GOOD), predictions(GOOD))), LOOSE)
    assert verdict.blessed and not verdict.refusals and not verdict.notes
    compared = {(check.rows, check.metric) for check in verdict.checks if check.reference is not None}
    assert {("2", "auc"), ("2", "logloss"), ("2", "ece"), ("2, tab=a", "auc"), ("1", "ece")} <= compared


def test_the_first_version_keeps_to_the_floors():
    assert judge(1, None, (Judged(1, predictions(GOOD), None),), Thresholds()).blessed
    verdict = judge(1, None, (Judged(1, predictions(-GOOD), None),), Thresholds())
    assert [check.threshold for check in verdict.checks if not check.passed] == ["min_auc", "max_nce"]
    auc = score(predictions(-GOOD))["auc"]
    assert verdict.refusals[0] == f"AUC on 1 is {auc:.5f} (--min_auc=0.5)"


def test_a_refusal_says_which_threshold_rows_and_numbers():
    flat = GOOD.copy()
    slice_ = np.arange(200) >= 150
    flat[slice_] = 0.0
    names = [f"max_{kind}{name}" for kind in ("", "slice_") for name in ("auc_drop", "logloss_rise", "ece_rise")]
    names += ["max_day_auc_drop", "max_day_logloss_rise"]
    room = {name: 0.2 if name.endswith("auc_drop") else 9.0 for name in names}
    thresholds = Thresholds(**room, min_slice_rows=50)
    day = Judged(2, predictions(flat), predictions(GOOD), {"tab=a": ~slice_, "tab=b": slice_})
    verdict = judge(2, 1, (day, Judged(1, predictions(GOOD), predictions(GOOD))), thresholds)
    before = score(predictions(GOOD[slice_], LABELS[slice_]))["auc"]
    assert verdict.refusals == [
        f"AUC on 2, tab=b is 0.50000, the last blessed version's {before:.5f} (--max_slice_auc_drop=0.2)"
    ]
    found = verdict.to_json()
    assert found["blessed"] is False and found["refusals"] == verdict.refusals and found["against"] == 1


def test_a_day_whose_labels_are_wrong_betrays_itself_on_the_day_before():
    """The candidate has learned flipped labels: better on its own day, worse on the day before."""
    flipped = Judged(2, predictions(-GOOD, 1 - LABELS), predictions(GOOD, 1 - LABELS))
    verdict = judge(2, 1, (flipped, Judged(1, predictions(-GOOD), predictions(GOOD))), Thresholds())
    own = [check for check in verdict.checks if check.rows == "2"]
    assert own and all(check.passed for check in own)
    refused = {(check.rows[:1], check.threshold) for check in verdict.checks if not check.passed}
    assert {("1", "max_auc_drop"), ("1", "max_logloss_rise"), ("2", "max_day_auc_drop")} <= refused


def test_a_slice_too_small_or_with_one_class_is_said():
    few, ones = np.arange(200) < 5, LABELS == 1
    day = Judged(2, predictions(GOOD), predictions(GOOD), {"tab=few": few, "tab=ones": ones})
    verdict = judge(2, 1, (day, Judged(1, predictions(GOOD), predictions(GOOD))), LOOSE)
    assert verdict.notes == (
        "2, tab=few: 5 rows, not judged",
        "2, tab=ones: all labels are equal, AUC not judged",
    )
    assert {check.metric for check in verdict.checks if check.rows == "2, tab=ones"} == {"logloss", "ece"}


def test_what_is_not_defined_passes_nothing():
    same = predictions(GOOD, np.ones(200))
    verdict = judge(2, None, (Judged(2, same, None),), Thresholds())
    assert not verdict.blessed and math.isnan(verdict.checks[0].value)
    assert verdict.to_json()["checks"][0]["value"] is None


def test_a_version_that_could_not_be_made_is_not_blessed():
    verdict = Verdict(2, 1, (), reasons=("there is none",))
    assert not verdict.blessed and verdict.to_json()["refusals"] == ["there is none"]


def test_other_rows_are_no_comparison():
    with pytest.raises(ValueError, match="judge: the labels of 2 are not those that the last blessed version"):
        judge(2, 1, (Judged(2, predictions(GOOD), predictions(GOOD, 1 - LABELS)),) * 2, LOOSE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_auc_drop": -0.1}, "max_auc_drop must be >= 0 and finite, got -0.1"),
        ({"max_auc_drop": 0.03}, "max_slice_auc_drop=0.02 and max_auc_drop=0.03 contradict each other"),
        ({"max_logloss_rise": 0.2, "max_slice_logloss_rise": 0.3}, "max_day_logloss_rise compare other rows"),
        ({"min_auc": 1.0}, "min_auc must be below 1, which no version exceeds"),
        ({"max_nce": 0.0}, "max_nce must be above 0"),
    ],
)
def test_thresholds_that_contradict_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Thresholds(**values)
