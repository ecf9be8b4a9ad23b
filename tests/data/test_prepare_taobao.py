"""The two Taobao loaders on small files of the documented formats, and on a real cut."""

import datetime
from collections.abc import Callable

import numpy as np
import pytest

from tests.data.prepared import all_records, ordered, records, vocabulary
from tests.data.raw_taobao import ad_row, behaviour_row, write_ads, write_behaviour
from xdeepint_ext.data import DataError
from xdeepint_ext.data.days import clock_columns, days_of
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

ROWS = 360
BEIJING = datetime.timezone(datetime.timedelta(hours=8))


def clock(seconds: str) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), BEIJING)


def behaviour_record(i: int, labels: tuple[str, ...] = ("buy",)) -> dict[str, list]:
    row = behaviour_row(i)
    record = {name: [int(row[name])] for name in ("user_id", "item_id", "category_id")}
    time = clock(row["timestamp"])
    record |= {"hour": [str(time.hour).encode()], "weekday": [str(time.isoweekday()).encode()]}
    return record | {label: [float(row["behaviour"] == label)] for label in labels}


def ad_record(i: int) -> dict[str, list]:
    row = ad_row(i)
    user, ad, time = int(row["user"]), int(row["adgroup_id"]), clock(row["time_stamp"])
    record = {"user": [user], "adgroup_id": [ad], "pid": [row["pid"].encode()], "clk": [float(row["clk"])]}
    record |= {"hour": [str(time.hour).encode()], "weekday": [str(time.isoweekday()).encode()]}
    if user < 5:
        profile = {"cms_segid": 0, "cms_group_id": user, "final_gender_code": 2, "age_level": 5, "pvalue_level": 1}
        profile |= {"shopping_level": 3, "occupation": 0, "new_user_class_level": user % 3}
        record |= {
            name: [str(value).encode()] for name, value in profile.items() if (user, name) != (2, "pvalue_level")
        }
    if ad < 4:
        record |= {
            "cate_id": [6400 + ad % 2],
            "campaign_id": [83237 + ad],
            "customer": [ad],
            "price": [100.0 * (ad + 1)],
        }
        record |= {0: {"brand": [95471]}, 3: {"brand": [7]}}.get(ad, {})
    return record


def by_day(rows: list[int], time: Callable[[int], str], days: range) -> list[int]:
    return [i for i in rows if clock(time(i)).day in days]


def test_days_and_clocks_are_those_of_beijing():
    seconds = np.random.default_rng(0).integers(0, 4_000_000_000, 200)
    times = [datetime.datetime.fromtimestamp(s, BEIJING) for s in seconds.tolist()]
    assert days_of(seconds).tolist() == [int(time.strftime("%Y%m%d")) for time in times]
    assert clock_columns(seconds)["hour"] == tuple(str(time.hour).encode() for time in times)
    assert clock_columns(seconds)["weekday"] == tuple(str(time.isoweekday()).encode() for time in times)


@pytest.mark.parametrize(("name", "zipped"), [("UserBehavior.csv", False), ("UserBehavior_first5users.csv", True)])
def test_behaviours_by_day(tmp_path, name, zipped):
    raw, out = write_behaviour(tmp_path / "raw", ROWS, name, zipped), tmp_path / "out"
    manifest = prepare("taobao", raw_dir=raw, output_dir=out, min_count=1)
    everything = list(range(ROWS))
    time = lambda i: behaviour_row(i)["timestamp"]  # noqa: E731
    november = [i for i in everything if clock(time(i)).month == 11]
    train = sorted({*november, *by_day(everything, time, range(1, 2))})
    assert ordered(records(out, "train")) == ordered([behaviour_record(i) for i in train])
    assert records(out, "valid") == [behaviour_record(i) for i in by_day(everything, time, range(2, 3))]
    assert records(out, "test") == [behaviour_record(i) for i in by_day(everything, time, range(3, 4))]
    assert manifest.notes["records_outside_of_days"] == 2
    schema = Schema.load(out)
    assert schema.side_inputs["group_ids"].name == "user_id"
    assert schema.side_inputs["item_ids"].name == "item_id"
    assert {f.name for f in schema.with_role("item")} == {"item_id", "category_id"}
    assert {f.name for f in schema.with_role("context")} == {"hour", "weekday"}


def test_all_behaviours_as_tasks_and_other_days(tmp_path):
    raw, out = write_behaviour(tmp_path / "raw", ROWS), tmp_path / "out"
    options = {"first_day": 20171127, "train_until": 20171129, "valid_until": 20171130}
    manifest = prepare("taobao", raw_dir=raw, output_dir=out, min_count=1, labels="pv,fav,cart,buy", **options)
    found = all_records(out)
    assert len(found) == ROWS * 7 // 9
    assert all(sum(record[label][0] for label in ("pv", "fav", "cart", "buy")) == 1 for record in found)
    assert manifest.notes["records_outside_of_days"] == ROWS * 2 // 9 + 2
    assert [manifest.records(split) for split in ("train", "valid", "test")] == [ROWS // 3, ROWS // 9, ROWS // 3]


def test_ads_join_both_tables(tmp_path):
    raw, out = write_ads(tmp_path / "raw", ROWS), tmp_path / "out"
    manifest = prepare("taobao_ad", raw_dir=raw, output_dir=out, min_count=1)
    time = lambda i: ad_row(i)["time_stamp"]  # noqa: E731
    parts = {"train": range(6, 12), "valid": range(12, 13), "test": range(13, 14)}
    for split, days in parts.items():
        expected = [ad_record(i) for i in by_day(list(range(ROWS)), time, days)]
        assert ordered(records(out, split)) == ordered(expected)
    assert manifest.notes["records_without_user_profile"] == ROWS // 5
    assert manifest.notes["records_without_ad_features"] == ROWS // 5
    assert set(vocabulary(out, "brand")) == {"95471", "7"}
    schema = Schema.load(out)
    assert {f.raw_name for f in schema if not f.required} >= {"brand", "price", "pvalue_level"}
    assert (schema.tasks, schema.side_inputs["item_ids"].name) == (("clk",), "adgroup_id")


@pytest.mark.parametrize(
    ("dataset", "file", "old", "new", "message"),
    [
        ("taobao", "UserBehavior.csv", ",pv,", ",view,", "row 1: column 'behaviour': expected one of .*, got 'view'"),
        ("taobao", "UserBehavior.csv", "\n2,", "\nx,", "row 2: column 'user_id': expected an integer, got 'x'"),
        ("taobao", "UserBehavior.csv", "pv,", "pv,-", "row 1: column 'timestamp': expected seconds, got '-1511539200'"),
        ("taobao", "UserBehavior.csv", ",pv,", ",pv,9,", "row 1: expected 5 columns, got 6"),
        ("taobao_ad", "raw_sample.csv", ",0,1\n", ",1,1\n", "row 2: columns 'nonclk' and 'clk': .*, got '1' and '1'"),
        (
            "taobao_ad",
            "raw_sample.csv",
            "\n1,",
            "\n1,x",
            "row 2: column 'time_stamp': expected seconds, got 'x1494000000'",
        ),
        ("taobao_ad", "raw_sample.csv", "nonclk", "noclk", "no column 'nonclk'; it has"),
        ("taobao_ad", "ad_feature.csv", "customer", "customer_id", "no column 'customer'; it has"),
        ("taobao_ad", "ad_feature.csv", "\n1,", "\n0,", "row 3: '0' is there twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, dataset, file, old, new, message):
    raw = (write_behaviour if dataset == "taobao" else write_ads)(tmp_path / "raw", 90)
    text = (raw / file).read_text()
    assert old in text
    (raw / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=f"{file}.*{message}"):
        prepare(dataset, raw_dir=raw, output_dir=tmp_path / "out", min_count=1)


def test_options(tmp_path):
    raw = write_behaviour(tmp_path / "raw", 90)
    with pytest.raises(ValueError, match=r"labels must be among .*, got 'view'"):
        prepare("taobao", raw_dir=raw, output_dir=tmp_path / "out", labels="buy,view")
    with pytest.raises(ValueError, match="train_until 20171203 is after valid_until 20171202"):
        prepare("taobao", raw_dir=raw, output_dir=tmp_path / "out", train_until=20171203)
    with pytest.raises(FileNotFoundError, match=r"expected raw_sample\.csv"):
        prepare("taobao_ad", raw_dir=raw, output_dir=tmp_path / "out")


def test_a_real_cut_of_user_behavior(shared_data, tmp_path):
    manifest = prepare(
        "taobao", raw_dir=shared_data("taobao_userbehavior"), output_dir=tmp_path / "out", labels="pv,buy"
    )
    sizes = {split: manifest.records(split) for split in ("train", "valid", "test")}
    outside = manifest.notes["records_outside_of_days"]
    # The set's description: 84,475 rows, of them 4,497 carts, 2,356 favourites and 1,750 purchases.
    assert sum(sizes.values()) + outside == 84_475
    assert 0 < outside < 84_475 // 1000
    means = manifest.notes["label_mean"]
    for label, number in (("pv", 84_475 - 4_497 - 2_356 - 1_750), ("buy", 1_750)):
        assert sum(means[split][label] * size for split, size in sizes.items()) == pytest.approx(number, abs=outside)
