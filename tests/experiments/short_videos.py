"""A small log in KuaiRand's format whose users click the even videos."""

import pathlib

import numpy as np

from tests.data.test_prepare_kuairand import LOG, USERS, VIDEOS, user_row
from xdeepint_ext.data.prepare import prepare

USERS_OF_LOG, VIDEOS_OF_LOG, SHOWN = 24, 30, 3
DAYS = [20220501 + i for i in range(8)]
TRAIN_UNTIL, VALID_UNTIL = DAYS[5], DAYS[6]


def rows(seed: int = 0) -> list[tuple[int, int, int, int]]:
    """(day, user, video, clicked), in the order of the log."""
    random = np.random.default_rng(seed)
    found = []
    for day in DAYS:
        for user in range(USERS_OF_LOG):
            for video in random.choice(VIDEOS_OF_LOG, SHOWN, replace=False).tolist():
                found.append((day, user, video, int(random.uniform() < (0.2 if video % 2 else 0.9))))
    return found


def write(directory: pathlib.Path, log: list[tuple[int, int, int, int]] | None = None) -> pathlib.Path:
    """The raw files."""
    directory.mkdir()
    lines = [
        f"{user},{video},{day},{100 * (i % 24)},{1650812741436 + i},{click},0,0,0,0,0,{click * (video % 2)}"
        ",61,49,0,0,0,0,1"
        for i, (day, user, video, click) in enumerate(rows() if log is None else log)
    ]
    videos = [
        f"{video},{video % 4},NORMAL,2022-04-10,Web,0.0,{1000 + video},720.0,1280.0,{video % 3},9.0,{video % 5}"
        for video in range(VIDEOS_OF_LOG)
    ]
    histories = [f"{user}\t2\t1\t{user % 7} {user % 5}\t\t{user % 5}" for user in range(0, USERS_OF_LOG, 2)]
    texts = {
        "log_standard_pure.csv": [LOG, *lines],
        "user_features_pure.csv": [USERS, *map(user_row, range(USERS_OF_LOG))],
        "video_features_basic_pure.csv": [VIDEOS, *videos],
        "user_history_until_20220424.tsv": [
            "user_id\thistory_len\tlast_time_ms\twatch_seq\tlike_seq\tlong_watch_seq",
            *histories,
        ],
    }
    for name, content in texts.items():
        (directory / name).write_text("\n".join(content) + "\n")
    return directory


def prepared(raw: pathlib.Path, directory: pathlib.Path) -> pathlib.Path:
    """The prepared directory of the raw files."""
    days = {"train_until": TRAIN_UNTIL, "valid_until": VALID_UNTIL}
    prepare("kuairand", raw_dir=raw, output_dir=directory, history=True, history_length=4, num_shards=2, **days)
    return directory
