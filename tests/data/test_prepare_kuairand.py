"""The KuaiRand loader on small files of the documented format."""

import gzip
import pathlib

import pytest

from tests.data.prepared import all_records, ordered, records, vocabulary
from xdeepint_ext.data import DataError
from xdeepint_ext.data.loaders.kuairand import USER_COLUMNS, VIDEO_COLUMNS
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
USERS = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    "register_days_range," + ",".join(f"onehot_feat{i}" for i in range(18))
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag"
)
TAGS = ["39", "3,9", ""]


def log_row(i: int) -> str:
    day = 20220505 + i % 4
    labels = f"{i % 2},0,0,0,0,0,{i % 3 % 2}"
    return f"{i % 3},{i % 2},{day},{100 * (i % 24)},1650812741436,{labels},61,49,0,0,0,0,{i % 2}"


def user_row(user: int) -> str:
    features = ",".join("" if user == 2 and i == 4 else f"{i}.0" for i in range(18))
    return f'{user},full_active,0,-124,1,514,"(250,500]",150,"[100,1k)",34,"[30,60)",799,730+,{features}'


def video_row(video: int) -> str:
    tag = TAGS[video]
    duration = "" if video == 1 else f"{1000 * (video + 1)}.0"
    tag = f'"{tag}"' if "," in tag else tag
    return f"{video},77{video},NORMAL,2022-04-10,Web,0.0,{duration},720.0,1280.0,91556971{video},9.0,{tag}"


def write(directory: pathlib.Path, log: str | None = None) -> pathlib.Path:
    directory.mkdir(exist_ok=True)
    lines = [log_row(i) for i in range(48)]
    (directory / "log_standard_4_22_to_5_08_pure.csv").write_text(log or "\n".join([LOG, *lines]) + "\n")
    (directory / "log_random_4_22_to_5_08_pure.csv").write_text("never read\n")
    users = "\n".join([USERS, *(user_row(user) for user in range(3))])
    (directory / "user_features_pure.csv.gz").write_bytes(gzip.compress(users.encode()))
    (directory / "video_features_basic_pure.csv").write_text("\n".join([VIDEOS, *map(video_row, range(3))]) + "\n")
    (directory / "user_history_until_20220424.tsv").write_text(
        "user_id\thistory_len\tlast_time_ms\twatch_seq\tlike_seq\tlong_watch_seq\n"
        "0\t3\t1\t5 1 1\t\t1\n"
        "1\t1\t1\t7\t7\t\n"
    )
    return directory


def expected(i: int) -> dict[str, list]:
    user, video = i % 3, i % 2
    record = {"user_id": [user], "user_active_degree": [b"full_active"], "is_live_streamer": [b"-124"]}
    record |= {"is_video_author": [b"1"], "follow_user_num_range": [b"(250,500]"], "fans_user_num_range": [b"[100,1k)"]}
    record |= {"friend_user_num_range": [b"[30,60)"], "register_days_range": [b"730+"]}
    record |= {f"onehot_feat{j}": [f"{j}.0".encode()] for j in range(18) if (user, j) != (2, 4)}
    record |= {"video_id": [video], "author_id": [770 + video], "music_id": [915569710 + video]}
    record |= {"video_type": [b"NORMAL"], "upload_type": [b"Web"], "music_type": [b"9"]}
    record |= {"tag": [tag.encode() for tag in TAGS[video].split(",")], "tab": [str(i % 2).encode()]}
    record |= {"video_duration": [1000.0]} if video == 0 else {}
    return record | {"hour": [str(i % 24).encode()], "is_click": [float(i % 2)]}


def test_a_day_alone_and_its_sessions(tmp_path: pathlib.Path) -> None:
    """Rows of days before are left out and counted; a session is a user's day, and no input."""
    out, day = tmp_path / "out", 20220507
    days = {"train_from": day, "train_until": day, "valid_until": day + 1}
    manifest = prepare("kuairand", raw_dir=write(tmp_path / "raw"), output_dir=out, min_count=1, session=True, **days)
    kept = [i for i in range(48) if i % 4 == 2]
    sessions = {i: {"session": [f"{i % 3}_{20220505 + i % 4}".encode()]} for i in range(48)}
    assert ordered(records(out, "train")) == ordered([expected(i) | sessions[i] for i in kept])
    assert manifest.notes["records_before_train_from"] == 24
    assert records(out, "valid") == [expected(i) | sessions[i] for i in range(48) if i % 4 == 3]
    assert "test" not in manifest.splits
    schema = Schema.load(out)
    assert schema.side_inputs["session_ids"].name == "session" and not schema["session"].is_input
    with pytest.raises(ValueError, match="train_from 20220508 is after train_until 20220507"):
        prepare("kuairand", raw_dir=tmp_path / "raw", output_dir=tmp_path / "no", **{**days, "train_from": day + 1})


def test_join_and_split_by_date(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    manifest = prepare("kuairand", raw_dir=write(tmp_path / "raw"), output_dir=out, min_count=1)
    assert records(out, "valid") == [expected(i) for i in range(48) if i % 4 == 1]
    assert records(out, "test") == [expected(i) for i in range(48) if i % 4 in (2, 3)]
    assert ordered(records(out, "train")) == ordered([expected(i) for i in range(48) if i % 4 == 0])
    assert manifest.notes["bad_rows"]["count"] == 0
    assert "records_without_user_features" not in manifest.notes
    schema = Schema.load(out)
    assert {f.name for f in schema.with_role("user")} == {"user_id", *USER_COLUMNS}
    assert {f.name for f in schema.with_role("item")} == {"video_id", *VIDEO_COLUMNS}
    assert {f.name for f in schema.with_role("context")} == {"tab", "hour"}
    assert schema.side_inputs["group_ids"].name == "user_id"
    assert schema.side_inputs["item_ids"].name == "video_id"
    assert schema.tasks == ("is_click",)


def test_nothing_leaks_from_the_impression(tmp_path: pathlib.Path) -> None:
    prepare("kuairand", raw_dir=write(tmp_path / "raw"), output_dir=tmp_path / "out", min_count=1)
    columns = {name for record in all_records(tmp_path / "out") for name in record}
    log = set(LOG.split(","))
    assert columns & log == {"user_id", "video_id", "tab", "is_click"}


def test_several_tasks_and_other_dates(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    options = {"labels": "is_click,long_view", "train_until": 20220506, "valid_until": 20220507}
    prepare("kuairand", raw_dir=write(tmp_path / "raw"), output_dir=out, min_count=1, **options)
    assert Schema.load(out).tasks == ("is_click", "long_view")
    assert [len(records(out, split)) for split in ("train", "valid", "test")] == [24, 12, 12]
    for i, record in zip([i for i in range(48) if i % 4 == 3], records(out, "test"), strict=True):
        assert (record["is_click"], record["long_view"]) == ([float(i % 2)], [float(i % 3 % 2)])


def test_histories_share_the_table_of_the_video(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    prepare("kuairand", raw_dir=write(tmp_path / "raw"), output_dir=out, min_count=1, history=True, history_length=9)
    by_user = {0: ([5, 1, 1], [], [1]), 1: ([7], [7], []), 2: ([], [], [])}
    for record in all_records(out):
        found = tuple(record[name] for name in ("history_watched", "history_liked", "history_long_viewed"))
        assert found == by_user[record["user_id"][0]]
    schema = Schema.load(out)
    assert schema["history_watched"].table_name == "video_id"
    assert schema["history_watched"].max_length == 9
    counts: dict[int, int] = {}
    for record in records(out, "train"):
        for name in ("video_id", "history_watched", "history_liked", "history_long_viewed"):
            for value in record[name]:
                counts[value] = counts.get(value, 0) + 1
    assert vocabulary(out, "video_id") == [str(v) for v in sorted(counts, key=lambda v: (-counts[v], str(v)))]


def test_unknown_users_and_videos_are_counted(tmp_path: pathlib.Path) -> None:
    log = "\n".join([LOG, *(log_row(i) for i in range(48))]).replace("\n0,0,20220505,0", "\n9,8,20220505,0", 1)
    manifest = prepare("kuairand", raw_dir=write(tmp_path / "raw", log), output_dir=tmp_path / "out", min_count=1)
    assert manifest.notes["records_without_user_features"] == 1
    assert manifest.notes["records_without_video_features"] == 1
    (record,) = [record for record in all_records(tmp_path / "out") if record["user_id"] == [9]]
    assert sorted(record) == ["hour", "is_click", "tab", "tag", "user_id", "video_id"]
    assert record["tag"] == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0,0,20220505,0,", "0,0,2022-05-05,0,", "row 2: expected a date YYYYMMDD and a time HHMM, got '2022-05-05'"),
        ("0,0,20220505,0,", "0,0,20220505,2500,", "row 2: expected a date YYYYMMDD and a time HHMM, got .*'2500'"),
        ("0,0,20220505,0,", "x,0,20220505,0,", "row 2: column 'user_id': expected an integer, got 'x'"),
        ("0,0,20220505,0,", "0,0,20220505,", "row 2: expected 19 columns, got 18"),
        ("1650812741436,0,", "1650812741436,2,", "row 2: column 'is_click': a label must be 0 or 1, got '2'"),
        ("is_click,", "click,", "no column 'is_click'; it has"),
    ],
)
def test_bad_rows(tmp_path: pathlib.Path, old: str, new: str, message: str) -> None:
    log = "\n".join([LOG, *(log_row(i) for i in range(48))])
    assert old in log
    raw = write(tmp_path / "raw", log.replace(old, new, 1))
    with pytest.raises(DataError, match=f"log_standard_4_22_to_5_08_pure.csv.*{message}"):
        prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "out", min_count=1)


def test_histories_must_end_before_the_log_begins(tmp_path: pathlib.Path) -> None:
    log = "\n".join([LOG, log_row(0).replace("20220505", "20220424"), *(log_row(i) for i in range(48))])
    raw = write(tmp_path / "raw", log)
    with pytest.raises(DataError, match="row 2 of the log is of 20220424, but the histories end on 20220424"):
        prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "out", min_count=1, history=True)
    (raw / "user_history_until_20220424.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"user_history_until_\*.tsv"):
        prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "out", min_count=1, history=True)


def test_options(tmp_path: pathlib.Path) -> None:
    raw = write(tmp_path / "raw")
    for options, message in (
        ({"labels": "is_click,play_time_ms"}, "labels must be among .*, got 'play_time_ms'"),
        ({"train_until": 20220507}, "train_until 20220507 is after valid_until 20220506"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "out", **options)
    with pytest.raises(DataError, match="no record for split 'valid'; the others:"):
        prepare("kuairand", raw_dir=raw, output_dir=tmp_path / "out", min_count=1, train_until=20220506)
