"""The daily loop: what is served after good and damaged days, after kills, and what is refused before it starts."""

import dataclasses
import fcntl
import json
import os

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.experiments import short_videos
from xdeepint_ext.data.manifest import DataError, Manifest
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments import daily, daily_loop
from xdeepint_ext.experiments.daily_data import DayData, parse_days, parse_prepare
from xdeepint_ext.experiments.daily_report import as_markdown, write
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.metrics import expected_calibration_error
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving import CalibrationError
from xdeepint_ext.serving.query import query
from xdeepint_ext.serving.skew import compare
from xdeepint_ext.serving.version_folder import versions

FEATURES = Schema(
    [
        Feature("user", role=("user", "group"), dtype="int"),
        Feature("item", role="item", dtype="int"),
        Feature("tab", role="context"),
        Feature("click", "numeric", "label"),
    ]
)
GOOD, FLIPPED, EMPTIED, LAST = DAYS = (20220430, 20220501, 20220502, 20220503)
RUN = {"batch_size": 100, "epochs": 3, "optimizer": "adam", "learning_rate": 0.1, "progress": False}
ROWS = {"train": 1000, "valid": 400}


def write_day(raw, day, labels=None):
    """Users click even items; each day has a new user; the flipped day has wrong labels, the emptied day no items."""
    folder = raw / str(day)
    folder.mkdir(parents=True)
    for number, (split, rows) in enumerate(ROWS.items()):
        random = np.random.default_rng(10 * day + number)
        frame = pd.DataFrame(
            {"user": DAYS.index(day) + random.integers(0, 20, rows), "item": random.integers(0, 10, rows)}
        )
        frame["tab"] = random.choice(["home", "search"], rows)
        odd = frame["item"] % 2 == 1
        frame["click"] = (random.uniform(size=rows) < np.where(odd, 0.2, 0.8)).astype(int) if labels is None else labels
        if day == FLIPPED:
            frame["click"] = 1 - frame["click"]
        if day == EMPTIED:
            frame["item"] = ""
        frame.to_csv(folder / f"{split}.csv", index=False)
    FEATURES.save(folder)


def options_of(folder, **changes):
    base = {"experiment": "lr", "days": (f"{GOOD}-{LAST}",), "output_dir": str(folder / "out"), "dataset": "csv"}
    base |= {"raw_dir": str(folder / "raw" / "{day}"), "prepare": ("num_shards:1", "num_workers:1")}
    base |= {f"max_{name}": 0.05 for name in ("auc_drop", "logloss_rise", "ece_rise")}  # days are small here
    base |= {f"max_slice_{name}": 0.1 for name in ("auc_drop", "logloss_rise", "ece_rise")}
    return daily.Options(
        **{**base, "modes": daily_loop.MODES, "bless_slices": ("tab",), "min_slice_rows": 50, **changes}
    )


class Killed(BaseException):
    """Stands for a kill: nothing between here and the caller handles it."""


def killed_at(monkeypatch, loop, owner, name, call):
    """Runs the loop until the function of that name is called so often, and dies there."""
    calls, real = [], getattr(owner, name)

    def dies(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == call:
            raise Killed
        return real(*arguments, **keywords)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(owner, name, dies)
        loop.run()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A loop over a good, a flipped, an emptied and a good day, killed and started again four times."""
    folder = tmp_path_factory.mktemp("daily")
    for day in DAYS:
        write_day(folder / "raw", day)
    loop = daily.make_loop(options_of(folder), RUN)
    monkeypatch = pytest.MonkeyPatch()
    killed_at(monkeypatch, loop, daily_loop, "run", 1)  # the first day is prepared
    killed_at(monkeypatch, loop, daily_loop.DailyLoop, "_decide", 1)  # the first version is served, and nobody knows
    assert versions(loop.served_dir) == [GOOD]
    first = os.stat(os.path.join(loop.output_dir, "runs", "warm", str(GOOD), "metrics.json")).st_mtime_ns
    killed_at(monkeypatch, loop, daily_loop, "judge", 1)  # the second day is trained
    killed_at(monkeypatch, loop, daily_loop.DailyLoop, "_train", 2)  # in the third day, between two modes
    results = loop.run()
    assert os.stat(os.path.join(loop.output_dir, "runs", "warm", str(GOOD), "metrics.json")).st_mtime_ns == first
    return loop, results


@pytest.mark.slow
def test_damaged_days_are_not_blessed_and_the_next_good_one_is(finished):
    loop, _ = finished
    assert versions(loop.served_dir) == [GOOD, LAST]
    verdicts = {day: loop.verdict(day) for day in DAYS}
    assert [verdict["blessed"] for verdict in verdicts.values()] == [True, False, False, True]
    assert [verdict["against"] for verdict in verdicts.values()] == [None, GOOD, GOOD, GOOD]
    flipped, emptied = ("\n".join(verdicts[day]["refusals"]) for day in (FLIPPED, EMPTIED))
    assert f"AUC on {GOOD} is" in flipped and "--max_auc_drop=0.05)" in flipped
    assert f"log loss on {GOOD}, tab=home is" in flipped
    assert f"AUC on {EMPTIED} under the last blessed version, with {GOOD} as reference" in emptied
    with open(os.path.join(loop.served_dir, str(LAST), "blessing.json")) as stream:
        found = json.load(stream)
    assert found["against"] == GOOD and any(f"{LAST}, tab=search" == check["rows"] for check in found["checks"])


@pytest.mark.slow
def test_skew_names_the_emptied_feature(finished):
    """What is served, beside each day's records."""
    loop, _ = finished
    served = os.path.join(loop.served_dir, str(GOOD))
    failed = {
        day: {
            (found.column, found.measure): found.value for found in compare(served, [loop.data.directory(day)]).failed
        }
        for day in (EMPTIED, LAST)
    }
    assert failed[EMPTIED]["item", "missing"] == 1
    assert "item" not in {column for column, _ in failed[LAST]}


@pytest.mark.slow
def test_what_is_served_is_what_was_trained(finished):
    loop, _ = finished
    served = tf.saved_model.load(os.path.join(loop.served_dir, str(LAST)))
    rows = {name: tf.constant([value], tf.int64) for name, value in {"user": 22, "item": 2}.items()}
    rows["tab"] = tf.constant(["home"])
    assert served.signatures["predict_raw"](**rows)["probability"].numpy().ravel()[0] > 0.6


@pytest.mark.slow
def test_days_go_on_from_the_last_blessed_one(finished):
    loop, _ = finished
    flags = {}
    for day in DAYS:
        with open(os.path.join(loop.output_dir, "runs", "warm", str(day), "flags.txt")) as stream:
            flags[day] = stream.read()
    run_of = os.path.join(loop.output_dir, "runs", "warm", str(GOOD))
    assert "--warm_start=\n" in flags[GOOD]
    assert all(f"--warm_start={run_of}\n" in flags[day] for day in DAYS[1:])
    growth = Manifest.load(loop.data.directory(LAST)).notes["growth"]
    assert growth["new"]["user"] == 3 and growth["beyond_capacity"] == []  # three days later, three users more


@pytest.mark.slow
def test_each_mode_is_scored_before_it_trains(finished):
    _, results = finished
    rows = {(int(row["day"]), row["mode"]): row for row in results}
    assert len(rows) == len(list(results)) == len(DAYS) * 3
    assert all(not rows[GOOD, mode]["model_of"] and not rows[GOOD, mode]["auc"] for mode in daily_loop.MODES)
    assert [rows[LAST, mode]["model_of"] for mode in daily_loop.MODES] == [str(GOOD), str(EMPTIED), str(GOOD)]
    assert all(float(row["rows"]) == sum(ROWS.values()) for (day, _), row in rows.items() if day != GOOD)
    assert float(rows[FLIPPED, "warm"]["auc"]) < 0.4 and float(rows[LAST, "warm"]["auc"]) > 0.7
    assert rows[FLIPPED, "warm"]["auc"] == rows[FLIPPED, "never"]["auc"]  # one model
    assert float(rows[LAST, "scratch"]["train_seconds"]) > 0 and float(rows[LAST, "warm"]["export_seconds"]) > 0
    assert not rows[LAST, "never"]["train_seconds"] and not rows[GOOD, "scratch"]["train_seconds"]


@pytest.mark.slow
def test_a_finished_loop_does_nothing(finished, monkeypatch):
    loop, results = finished
    monkeypatch.setattr(daily_loop, "run", None)
    monkeypatch.setattr(daily_loop, "judge", None)
    assert list(loop.run()) == list(results)


@pytest.mark.slow
def test_the_report_shows_days_modes_and_refusals(finished):
    loop, results = finished
    text = write(loop, results)
    lines = text.splitlines()
    assert lines[0].startswith("| day | AUC, warm start | AUC, from scratch | AUC, never retrained | log loss, warm")
    assert [line.split("|")[-2].strip()[:7] for line in lines[2:6]] == ["blessed", "refused", "refused", "blessed"]
    assert text == as_markdown(loop, Results(results.path))
    with open(os.path.join(loop.output_dir, "days.png"), "rb") as stream:
        assert stream.read(8) == b"\x89PNG\r\n\x1a\n"
    with open(os.path.join(loop.output_dir, "report.html")) as stream:
        page = stream.read()
    assert f"<h2>Refused: {FLIPPED}</h2>" in page and "--max_day_auc_drop=0.1" in page


@pytest.mark.slow
def test_the_scores_that_are_served_are_judged(tmp_path):
    """With calibration the export answers otherwise than the model; scratch, which nobody serves, has none."""
    for day in (GOOD, LAST):
        write_day(tmp_path / "raw", day)
    options = options_of(tmp_path, days=(str(GOOD), str(LAST)), modes=("warm", "scratch"), bless_slices=())
    loop = daily.make_loop(options, {**RUN, "learning_rate": 0.5, "calibration": "platt"})
    loop.run()
    found = {(c["rows"], c["metric"]): c for c in loop.verdict(LAST)["checks"] if c["threshold"] == "max_ece_rise"}
    for day in (GOOD, LAST):
        frame = pd.read_csv(tmp_path / "raw" / str(day) / "valid.csv")
        rows = frame.drop(columns="click").to_dict("records")
        for version, number in ((GOOD, "reference"), (LAST, "value")):
            served = query(os.path.join(loop.served_dir, str(version)), rows)["probability"][:, 0].astype(np.float64)
            ece = expected_calibration_error(frame["click"].to_numpy(float), served)
            assert found[str(day), "ece"][number] == pytest.approx(
                ece, abs=5e-3
            )  # a row at a bin's edge may change sides


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_version_that_cannot_be_calibrated_is_not_blessed(tmp_path, monkeypatch):
    def run(config):
        raise CalibrationError("calibration=platt: task 'click' of the valid split: the wrong way round")

    write_day(tmp_path / "raw", GOOD)
    monkeypatch.setattr(daily_loop, "run", run)
    loop = daily.make_loop(options_of(tmp_path, days=(str(GOOD),), modes=("warm",), bless_slices=()), RUN)
    for _ in range(2):
        assert len(list(loop.run())) == 1
        verdict = loop.verdict(GOOD)
        assert verdict["blessed"] is False and verdict["checks"] == [] and not versions(loop.served_dir)
        assert verdict["refusals"] == ["calibration=platt: task 'click' of the valid split: the wrong way round"]


def test_slices_are_checked_before_training(tmp_path, monkeypatch):
    write_day(tmp_path / "raw", GOOD)
    monkeypatch.setattr(daily_loop, "run", None)
    loop = daily.make_loop(options_of(tmp_path, days=(str(GOOD),), modes=("warm",), bless_slices=("tabs",)), RUN)
    with pytest.raises(
        ValueError, match=r"bless_slices: 'tabs' is no input with ids; there are \['user', 'item', 'tab'\]"
    ):
        loop.run()


def test_what_another_loop_has_blessed_is_not_taken_for_its_own(tmp_path):
    """Two loops with one base folder: the other's day stays its day, also where this one has that day, too."""
    loop = daily.make_loop(options_of(tmp_path, days=(str(GOOD),), served_dir=str(tmp_path / "served")), RUN)
    blessing = tmp_path / "served" / str(GOOD) / "blessing.json"
    blessing.parent.mkdir(parents=True)
    verdict = {"version": GOOD, "against": None, "blessed": True, "refusals": [], "checks": []}
    for facts in ({}, {"run": os.path.join(str(tmp_path), "other", "runs", "warm", str(GOOD))}):
        blessing.write_text(json.dumps({**verdict, **facts}))
        assert loop.verdict(GOOD) is None
        with pytest.raises(ValueError, match=rf"served_dir: .* has versions \[{GOOD}\], which this loop did not bless"):
            loop.run()
    blessing.write_text(json.dumps({**verdict, "run": os.path.join(loop.output_dir, "runs", "warm", str(GOOD))}))
    assert loop.verdict(GOOD)["blessed"]


@pytest.mark.slow
def test_another_process_or_other_settings_are_refused(finished, tmp_path):
    loop, _ = finished
    with open(os.path.join(loop.output_dir, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="output_dir: another process is running in"):
            loop.run()
    other = dataclasses.replace(loop, config=loop.config.replace(learning_rate=0.2))
    with pytest.raises(ValueError, match=r"was begun with runs='.*learning_rate=0\.1.*', and this is '.*=0\.2"):
        other.run()
    foreign = tmp_path / "served" / "7"
    foreign.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"served_dir: .* has versions \[7\], which this loop did not bless"):
        dataclasses.replace(loop, served_dir=str(foreign.parent)).run()


def test_an_empty_day_and_equal_labels_are_refused(tmp_path):
    write_day(tmp_path / "raw", GOOD, labels=1)
    data = DayData(str(tmp_path / "out"), dataset="csv", raw_dir=str(tmp_path / "raw" / "{day}"))
    with pytest.raises(DataError, match=f"day {GOOD}: all labels 'click' of .* are 1; leave the day out"):
        data.prepared(GOOD, None, None)
    write_day(tmp_path / "raw", LAST)
    (tmp_path / "raw" / str(LAST) / "train.csv").write_text("user,item,tab,click\n")
    with pytest.raises(DataError, match=f"day {LAST}: "):
        data.prepared(LAST, None, None)
    assert not os.path.exists(data.directory(LAST))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"days": ()}, "--days must be given"),
        ({"modes": ("warm", "cold")}, "--modes must be of .*, got 'warm,cold'"),
        ({"holdout": 0.0}, "--holdout must be above 0 and below 1, got 0.0"),
        ({"window": 0}, "--window must be >= 1, got 0"),
        ({"dataset": "nothing"}, "--dataset must be one of"),
        ({"dataset": ""}, "--raw_dir is for days that are made of raw files: say of which --dataset, too"),
        ({"dataset": "", "raw_dir": ""}, "--prepare is for days"),
        ({"dataset": "", "raw_dir": "", "prepare": (), "evict_after": 2}, "--evict_after is for days"),
        ({"experiment": "sasrec"}, "experiment must be one of"),
        ({"max_ece_rise": 0.5}, "max_slice_ece_rise=0.1 and max_ece_rise=0.5 contradict each other"),
    ],
)
def test_wrong_flags_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        options_of(tmp_path, **changes)


def test_wrong_days_and_places_are_refused(tmp_path):
    assert parse_days(("20211230-20220101", "20220103")) == (20211230, 20211231, 20220101, 20220103)
    for texts in (("20220102-20220101",), ("today",), ("20220102", "20220101")):
        with pytest.raises(ValueError, match="days must"):
            parse_days(texts)
    assert parse_prepare("kuairand", ["labels:is_click+is_like", "history:true", "min_count:2"]) == {
        "labels": "is_click,is_like",
        "history": True,
        "min_count": 2,
    }
    with pytest.raises(ValueError, match="prepare: 'train_until2' is no argument for dataset 'kuairand'"):
        parse_prepare("kuairand", ["train_until2:1"])
    with pytest.raises(ValueError, match="prepare: min_count must be int, got 'x'"):
        parse_prepare("kuairand", ["min_count:x"])
    with pytest.raises(ValueError, match=r"data_dir: \{day\} must stand for the day"):
        DayData("out", data_dir="data")
    with pytest.raises(ValueError, match=r"give either --data_dir with \{day\} in it, or --dataset and --raw_dir"):
        DayData("out")
    with pytest.raises(ValueError, match=r"the loader 'csv' has no option `day`, so \{day\} must stand for the day"):
        DayData("out", dataset="csv", raw_dir="raw")
    with pytest.raises(ValueError, match="--warm_start is the loop's to say, not yours"):
        daily.make_loop(options_of(tmp_path), {"warm_start": "run"})
    for strategy in ("multi_worker", "parameter_server"):
        with pytest.raises(ValueError, match=f"strategy={strategy} is for a single run"):
            daily.make_loop(options_of(tmp_path), {"strategy": strategy})


def test_a_day_of_kuairand_is_divided_at_random(tmp_path):
    raw = short_videos.write(tmp_path / "raw")
    day = short_videos.DAYS[2]
    manifest = prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "day", day=day, holdout=0.25, min_count=1)
    count = short_videos.USERS_OF_LOG * short_videos.SHOWN
    assert set(manifest.splits) == {"train", "valid"}
    assert manifest.records("train") + manifest.records("valid") == count
    assert 0.1 < manifest.records("valid") / count < 0.4
    assert manifest.notes["records_of_other_days"] == count * (len(short_videos.DAYS) - 1)
    with pytest.raises(ValueError, match=r"holdout=0\.25 is a share of one day: say which, day=YYYYMMDD"):
        prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "none", holdout=0.25)
