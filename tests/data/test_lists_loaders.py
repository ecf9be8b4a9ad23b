"""The logs that loaders give, on small files, and lists of real ones."""

import pathlib

import numpy as np
import pytest

from tests.data import raw_taobao
from tests.data import test_prepare_kuairand as kuairand
from xdeepint_ext.data import DataError, read_lists
from xdeepint_ext.data.lists import Interactions, ListSizes, write_lists
from xdeepint_ext.data.loaders.kuairand import KuaiRand
from xdeepint_ext.data.loaders.taobao import Taobao
from xdeepint_ext.data.loaders.taobao_ad import TaobaoAd
from xdeepint_ext.data.prepare import prepare

LOG = "log_standard_4_22_to_5_08_pure.csv"


def behaviours(folder: pathlib.Path) -> pathlib.Path:
    return raw_taobao.write_behaviour(folder, 90)


def ads(folder: pathlib.Path) -> pathlib.Path:
    return raw_taobao.write_ads(folder, 90)


def rows_of(data: Interactions, *events: str) -> list[tuple]:
    """(user, item, day, time, events ...) of every row."""
    log = data.log
    columns = [log.days, log.times, *(log.events[name] for name in events)]
    ids = [[int(table.keys[i]) for i in places] for table, places in ((data.users, log.users), (data.items, log.items))]
    return list(zip(*ids, *(values.tolist() for values in columns), strict=True))


def columns_of(table, key: int) -> dict[str, bytes]:
    return {name: tokens[table.keys.index(b"%d" % key)] for name, tokens in table.columns.items()}


def test_kuairand(tmp_path: pathlib.Path) -> None:
    data = KuaiRand(history=True, history_length=9).interactions(kuairand.write(tmp_path / "raw"))
    expected = [(i % 3, i % 2, 20220505 + i % 4, 1650812741, i % 2, i % 3 % 2) for i in range(48)]
    assert rows_of(data, "is_click", "long_view") == expected
    assert data.items.keys == [b"0", b"1", b"2"]
    assert columns_of(data.items, 1)["music_type"] == b"9"
    assert columns_of(data.users, 2)["onehot_feat4"] == b""
    histories = {history.feature: (history.event, history.before) for history in data.histories}
    assert histories == {
        "history_watched": (None, (b"5 1 1", b"7", b"")),
        "history_liked": ("is_like", (b"", b"7", b"")),
        "history_long_viewed": ("long_view", (b"1", b"", b"")),
    }
    assert not data.notes and not KuaiRand().interactions(tmp_path / "raw").histories


def test_taobao(tmp_path: pathlib.Path) -> None:
    raw = raw_taobao.write_behaviour(tmp_path / "raw", 90)
    data = Taobao().interactions(raw)
    rows = [raw_taobao.behaviour_row(i) for i in range(90)]
    november = [20171125 + i for i in range(6)] + [20171201 + i for i in range(3)]
    expected = [
        (int(row["user_id"]), int(row["item_id"]), november[i % 9], int(row["timestamp"]), row["behaviour"] == "buy")
        for i, row in enumerate(rows)
    ]
    assert rows_of(data, "buy") == expected
    assert sum(values.sum() for values in data.log.events.values()) == 90
    assert dict(data.notes) == {"records_outside_of_days": 2}
    columns = data.items.keys, data.items.first_day, data.items.columns["category_id"]
    for item, day, category in zip(*columns, strict=True):
        mine = [i for i, row in enumerate(rows) if int(row["item_id"]) == int(item)]
        earliest = min(i % 9 for i in mine)
        assert day == [*november, 20171204][earliest + 1]
        assert category.decode() == next(rows[i]["category_id"] for i in mine if i % 9 == earliest)
    assert len(data.items.keys) == 6


def test_taobao_ad(tmp_path: pathlib.Path) -> None:
    data = TaobaoAd().interactions(raw_taobao.write_ads(tmp_path / "raw", 80))
    rows = [raw_taobao.ad_row(i) for i in range(80)]
    expected = [
        (int(row["user"]), int(row["adgroup_id"]), 20170506 + i % 8, int(row["time_stamp"]), int(row["clk"]))
        for i, row in enumerate(rows)
    ]
    assert rows_of(data, "clk") == expected
    assert dict(data.notes) == {"users_without_features": 1, "items_without_features": 1}
    ad = {"adgroup_id": b"1", "cate_id": b"6401", "campaign_id": b"83238", "customer": b"1"}
    assert columns_of(data.items, 1) == ad | {"brand": b"", "price": b"200.0"}
    assert set(columns_of(data.users, 5).values()) == {b"5", b""}


@pytest.mark.parametrize(
    ("loader", "write", "file", "old", "new", "message"),
    [
        (KuaiRand(), kuairand.write, LOG, "436,0,", "436,2,", "row 2: column 'is_click': expected 0 or 1, got '2'"),
        (KuaiRand(), kuairand.write, LOG, "0,0,20220505", "0,0,2022", "row 2: column 'date': expected a date YYYYMMDD"),
        (KuaiRand(), kuairand.write, LOG, ",1650812741436", ",x", "row 2: column 'time_ms': expected milliseconds"),
        (Taobao(), behaviours, "UserBehavior.csv", ",pv,", ",view,", "row 1: column 'behaviour': expected one of"),
        (TaobaoAd(), ads, "raw_sample.csv", ",0,1\n", ",1,1\n", "row 2: columns 'nonclk' and 'clk'"),
    ],
)
def test_unreadable_rows_are_named_or_counted(tmp_path, loader, write, file, old, new, message):
    raw = write(tmp_path / "raw")
    whole, text = len(loader.interactions(raw).log), (raw / file).read_text()
    assert old in text
    (raw / file).write_text(text.replace(old, new, 1))
    beginning = f"more than max_bad_rows=0 rows cannot be read; the first:\n  {file}, {message}"
    with pytest.raises(DataError, match=beginning):
        loader.interactions(raw)
    data = loader.interactions(raw, max_bad_rows=1)
    assert (len(data.log), data.notes["unreadable_rows"]) == (whole - 1, 1)


def test_histories_must_end_before_the_log_begins(tmp_path: pathlib.Path) -> None:
    raw = kuairand.write(tmp_path / "raw")
    (raw / "user_history_until_20220424.tsv").rename(raw / "user_history_until_20220505.tsv")
    with pytest.raises(DataError, match="row 2 of the log is of 20220505, but the histories end on 20220505"):
        KuaiRand(history=True).interactions(raw)


def test_lists_of_small_ads(tmp_path: pathlib.Path) -> None:
    """From raw files to tensors; the history is a feature that the rows do not have."""
    raw = raw_taobao.write_ads(tmp_path / "raw", 300)
    prepare("taobao_ad", raw_dir=raw, output_dir=tmp_path / "rows", min_count=1)
    options = {"order": ("clk",), "train_until": 20170511, "valid_until": 20170512, "sizes": ListSizes(5, 0, 3)}
    write_lists(tmp_path / "rows", TaobaoAd().interactions(raw), tmp_path / "lists", **options)
    features, labels = next(iter(read_lists(tmp_path / "lists", "test", 8)))
    assert features["clicked_ads"].shape == (len(labels), 50)
    assert features["price"].shape[1:] == (labels.shape[1], 1)
    assert {"pid", "hour"}.isdisjoint(features)


def test_a_real_cut_of_user_behavior(shared_data, tmp_path):
    raw = shared_data("taobao_userbehavior")
    prepare("taobao", raw_dir=raw, output_dir=tmp_path / "rows")
    data = Taobao().interactions(raw)
    options = {"order": ("pv", "fav", "cart", "buy"), "train_until": 20171201, "valid_until": 20171202}
    options |= {"sizes": ListSizes(20, 0, 20), "first_day": 20171201}
    manifest = write_lists(tmp_path / "rows", data, tmp_path / "lists", **options)
    log = data.log
    for split, day in (("train", 20171201), ("valid", 20171202), ("test", 20171203)):
        found, users = manifest.lists["statistics"][split], log.users[log.days == day]
        assert found["lists"] == len(np.unique(users))
        pairs = np.unique(np.stack([users, log.items[log.days == day]]), axis=1).shape[1]
        assert found["repeated_impressions"] == len(users) - pairs
        assert found["items"]["impressions"] == pairs - found["impressions_beyond_size"]
        assert found["items"]["random"] == 20 * found["lists"]
    purchased = np.unique(np.stack([log.users, log.items])[:, (log.days == 20171203) & (log.events["buy"] > 0)], axis=1)
    # No list has more than 20 items with the highest grade, so all of these are in.
    assert manifest.lists["statistics"]["test"]["grades"]["4"] == purchased.shape[1]


@pytest.mark.slow
def test_real_kuairand(shared_data, tmp_path):
    """One day of KuaiRand: nothing shown to a user on that day is a sample, and histories end before it."""
    raw = shared_data("kuairand")
    data = KuaiRand(history=True).interactions(raw)
    assert (len(data.log), len(data.users), len(data.items), dict(data.notes)) == (228_329, 27_285, 7_583, {})
    prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "prepared", history=True, num_workers=1)
    options = {"order": ("is_click", "long_view", "is_like"), "train_until": 20220505, "valid_until": 20220506}
    options |= {"scorer": lambda users, day: np.broadcast_to(np.arange(7_583.0), (len(users), 7_583))}
    options |= {"sizes": ListSizes(None, 5, 5), "splits": ("valid",)}
    write_lists(tmp_path / "prepared", data, tmp_path / "lists", **options)
    log, seen = data.log, {}
    for row in np.flatnonzero(log.days == 20220506):
        seen.setdefault(int(data.users.keys[log.users[row]]), set()).add(int(data.items.keys[log.items[row]]))
    lists = 0
    for features, labels in read_lists(tmp_path / "lists", "valid", 512):
        for i, user in enumerate(features["group_ids"].numpy().tolist()):
            items, stages = features["item_ids"][i].numpy(), features["stages"][i].numpy()
            assert set(items[stages == 0].tolist()) == seen[user]
            assert not set(items[stages > 0].tolist()) & seen[user]
            assert (stages == 1).sum() == (stages == 2).sum() == 5
            assert labels[i].numpy().max() >= 1
        lists += len(labels)
    assert lists > 4_000
