"""KuaiRand-Pure (short video): the standard-policy log joined with user and video features, split by date."""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from xdeepint_ext.data.lists.interactions import History, Interactions
from xdeepint_ext.data.loaders.headers import Layout, read_layout
from xdeepint_ext.data.loaders.logs import Index, LogBlock, numbers_of, read_log
from xdeepint_ext.data.loaders.tables import SideTable, as_integer, read_csv
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.raw import Block, TextFile, read_blocks
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import TEST, TRAIN, VALID, RandomSplit, row_keys
from xdeepint_ext.schema import Feature, Schema

__all__ = ["KuaiRand"]

LABELS = (
    "is_click",
    "is_like",
    "is_follow",
    "is_comment",
    "is_forward",
    "is_hate",
    "long_view",
    "is_profile_enter",
)
USER_COLUMNS = (
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)
VIDEO_COLUMNS = ("author_id", "video_type", "upload_type", "music_id", "music_type", "tag", "video_duration")
# Feature -> column of the history file.
HISTORIES = {"history_watched": "watch_seq", "history_liked": "like_seq", "history_long_viewed": "long_watch_seq"}
# Feature -> event of the log; in the file, too, every impression counts as watched.
HISTORY_EVENTS = {"history_watched": None, "history_liked": "is_like", "history_long_viewed": "long_view"}
MAX_TAGS = 4


@dataclasses.dataclass(frozen=True)
class KuaiRand:
    """Loader of `log_standard_*.csv`, `user_features*.csv`, `video_features_basic*.csv` (plain or .gz).

    User features: `user_id` (also the group), the ranges of followers, fans, friends and days since registration (the
    raw counts say the same more finely and are left out), activity, and the 18 anonymous `onehot_feat*`. Video
    features: `video_id` (also the item's id), author, type, upload type, music, music type, up to four tags (several
    ids), and the duration in 20 quantile bins (missing for photo collections: a bin of its own). Context: `tab` and
    the hour of day. Left out because nobody knows them before the video is played: play time, the stay times and every
    `is_*` column that is no label. Left out as constant in this data: `is_rand`, `is_lowactive_period`,
    `visible_status`. The log's `duration_ms` repeats the video's duration. The statistics file is never read: its
    averages cover the whole month, test days included. `min_count` is 5 unless it is given (our choice), so that the
    out-of-vocabulary ids are trained.

    With `day` one day is all: what `experiments.daily` trains on, day after day.

    With `session` the column `session` names the user's day: our reading of a session, as the log has none. It is no
    model input.

    With `history`, the last videos of each user before the log's first day (`user_history_until_YYYYMMDD.tsv`) become
    three sequences that share the table of `video_id`.
    """

    labels: str = option("is_click", "comma-separated labels; several are several tasks")
    train_until: int = option(20220505, "last day of the training split")
    valid_until: int = option(20220506, "last day of the validation split; what follows is the test split")
    train_from: int = option(0, "first day of the training split; rows of days before are left out, and counted")
    day: int = option(0, "one day alone, in place of the three above: its records are training, and `holdout` of them")
    holdout: float = option(0.0, "share of the day's records, drawn by their numbers, that are the validation split")
    session: bool = option(False, "add the sessions, a user's day each, as a side input")
    history: bool = option(False, "add the users' histories")
    history_length: int = option(50, "videos kept of a history, the last ones")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        labels = tuple(self.labels.split(","))
        if unknown := [label for label in labels if label not in LABELS]:
            raise ValueError(f"labels must be among {LABELS}, got {unknown[0]!r}")
        if self.train_from > self.train_until:
            raise ValueError(f"train_from {self.train_from} is after train_until {self.train_until}")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout must be >= 0 and below 1, got {self.holdout}")
        if self.holdout and not self.day:
            raise ValueError(f"holdout={self.holdout} is a share of one day: say which, day=YYYYMMDD")
        if self.train_until > self.valid_until:
            raise ValueError(f"train_until {self.train_until} is after valid_until {self.valid_until}")
        logs = [TextFile(path, header=True) for path in _find(raw_dir, "log_standard_*.csv")]
        users = read_csv(_find(raw_dir, "user_features*.csv")[0], "user_id", USER_COLUMNS)
        videos = read_csv(_find(raw_dir, "video_features_basic*.csv")[0], "video_id", VIDEO_COLUMNS)
        history, history_end = _read_history(raw_dir) if self.history else (SideTable(), 0)
        wanted = ("user_id", "video_id", "date", "hourmin", "tab", *labels)
        return Source(
            schema=Schema(self._features(labels)),
            blocks=functools.partial(read_blocks, logs),
            parse=_Parser(
                [read_layout(log, ",", wanted) for log in logs],
                users,
                videos,
                history,
                history_end,
                _OneDay(self.day, RandomSplit(self.holdout, 0.0, seed))
                if self.day
                else _Bounds(self.train_from, self.train_until, self.valid_until),
                self.session,
            ),
            splits=self._splits(),
            size=sum(os.path.getsize(log.path) * (4 if log.path.endswith(".gz") else 1) for log in logs),
            separators={"tag": b",", **dict.fromkeys(HISTORIES, b" ")},
        )

    def _splits(self) -> tuple[str, ...]:
        if self.day:
            return ("train", "valid") if self.holdout else ("train",)
        # Of days alone the last has only the day after it.
        return ("train", "valid") if self.train_from else ("train", "valid", "test")

    def interactions(self, raw_dir: str | os.PathLike[str], max_bad_rows: int = 0) -> Interactions:
        """The log for `write_lists`: every impression, its events the columns of `LABELS`.

        All videos of the table may be drawn on all days; the published one has none that was uploaded later than the
        log begins. With `history` there are three histories, which go on from the file's videos with the log's.

        Args:
          raw_dir: where the files are.
          max_bad_rows: so many unreadable rows are left out and counted.

        Raises:
          DataError: more rows cannot be read; names file and row.
        """
        raw_dir = os.fspath(raw_dir)
        logs = [TextFile(path, header=True) for path in _find(raw_dir, "log_standard_*.csv")]
        users = Index(read_csv(_find(raw_dir, "user_features*.csv")[0], "user_id", USER_COLUMNS))
        videos = read_csv(_find(raw_dir, "video_features_basic*.csv")[0], "video_id", VIDEO_COLUMNS)
        rows = {key: (*row[:4], as_integer(row[4]), *row[5:]) for key, row in videos.rows.items()}
        items = Index(dataclasses.replace(videos, rows=rows))
        history, history_end = _read_history(raw_dir) if self.history else (SideTable(), 0)
        layouts = [read_layout(log, ",", ("user_id", "video_id", "date", "time_ms", *LABELS)) for log in logs]
        parse = functools.partial(_log_block, layouts=layouts, history_end=history_end)
        log, notes = read_log(read_blocks(logs), parse, users, items, max_bad_rows)
        before = history.join(users.keys)
        return Interactions(
            log,
            users.entities("user_id"),
            items.entities("video_id"),
            tuple(History(name, HISTORY_EVENTS[name], self.history_length, before[name]) for name in before),
            separators={"tag": b","},
            notes=notes,
        )

    def _features(self, labels: tuple[str, ...]) -> list[Feature]:
        item: dict[str, Any] = {"role": "item", "min_count": 5}
        features = [
            Feature("user_id", role=("user", "group"), dtype="int", min_count=5),
            *(Feature(name, role="user", min_count=5) for name in USER_COLUMNS),
            Feature("video_id", role=("item", "item_id"), dtype="int", min_count=5),
            *(Feature(name, dtype="int", **item) for name in ("author_id", "music_id")),
            *(Feature(name, **item) for name in ("video_type", "upload_type", "music_type")),
            Feature("tag", "multi", max_length=MAX_TAGS, **item),
            Feature("video_duration", "numeric", "item", binning="quantile", num_bins=20, missing="bucket"),
            *(Feature(name, role="context", min_count=5) for name in ("tab", "hour")),
        ]
        if self.history:
            options: dict[str, Any] = {
                "dtype": "int",
                "table": "video_id",
                "max_length": self.history_length,
                "min_count": 5,
            }
            features += [Feature(name, "sequence", "user", **options) for name in HISTORIES]
        if self.session:
            features.append(Feature("session", role="session"))
        return features + [Feature(label, "numeric", "label") for label in labels]


@dataclasses.dataclass(frozen=True)
class _Bounds:
    """Days are training until one, validation until another, then test; those before the first are left out."""

    first: int
    train_until: int
    valid_until: int
    left_out: str = "records_before_train_from"

    def inside(self, days: np.ndarray) -> np.ndarray:
        return days >= self.first

    def splits(self, days: np.ndarray, keys: np.ndarray) -> np.ndarray:
        later = np.where(days <= self.valid_until, VALID, TEST)
        return np.where(days <= self.train_until, TRAIN, later).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class _OneDay:
    """One day is divided at random, and all others are left out."""

    day: int
    split: RandomSplit
    left_out: str = "records_of_other_days"

    def inside(self, days: np.ndarray) -> np.ndarray:
        return days == self.day

    def splits(self, days: np.ndarray, keys: np.ndarray) -> np.ndarray:
        return self.split(keys)


class _Parser:
    """Parses a block of the log and joins the tables; picklable."""

    def __init__(
        self,
        layouts: list[Layout],
        users: SideTable,
        videos: SideTable,
        history: SideTable,
        history_end: int,
        days: _Bounds | _OneDay,
        session: bool,
    ) -> None:
        self._layouts, self._chosen, self._session = layouts, days, session
        self._users, self._videos, self._history, self._history_end = users, videos, history, history_end

    def __call__(self, block: Block) -> Rows:
        tokens, numbers, bad = self._layouts[block.index].split(block)
        dates, hours = tokens.pop("date"), tokens.pop("hourmin")
        days, fits = self._days(dates, hours, numbers, bad)
        inside = self._chosen.inside(days)
        others = int(np.count_nonzero(fits & ~inside))
        fits &= inside
        if not fits.all():
            kept = np.flatnonzero(fits).tolist()
            numbers, days = numbers[fits], days[fits]
            tokens = {name: tuple(values[i] for i in kept) for name, values in tokens.items()}
            hours, dates = tuple(hours[i] for i in kept), tuple(dates[i] for i in kept)
        keys = row_keys(block.index, numbers)
        splits = self._chosen.splits(days, keys)
        if self._session:
            tokens["session"] = tuple(b"%s_%s" % pair for pair in zip(tokens["user_id"], dates, strict=True))
        tokens["hour"] = tuple(b"%d" % (int(hour) // 100) for hour in hours)
        tokens |= self._users.join(tokens["user_id"])
        tokens |= self._videos.join(tokens["video_id"])
        tokens["music_type"] = tuple(map(as_integer, tokens["music_type"]))
        tokens |= self._history.join(tokens["user_id"])
        return Rows(numbers, keys, splits, tokens, bad, self._counters(tokens, others))

    def _days(
        self, dates: tuple[bytes, ...], hours: tuple[bytes, ...], numbers: np.ndarray, bad: list[tuple[int, str]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The days as numbers, and which records have a day and an hour; the others go to `bad`."""
        known = {date: int(date) if re.fullmatch(rb"\d{8}", date) else -1 for date in set(dates)}
        days = np.array([known[date] for date in dates], np.int64)
        whole = {hour: bool(re.fullmatch(rb"\d{1,4}", hour)) and int(hour) < 2400 for hour in set(hours)}
        fits = (days > 0) & np.array([whole[hour] for hour in hours], bool)
        for i in np.flatnonzero(~fits).tolist():
            shown = f"{dates[i].decode('utf-8', 'replace')!r} and {hours[i].decode('utf-8', 'replace')!r}"
            bad.append((int(numbers[i]), f"expected a date YYYYMMDD and a time HHMM, got {shown}"))
        for i in np.flatnonzero(fits & (days <= self._history_end)).tolist()[:1]:
            _refuse_early(int(numbers[i]), int(days[i]), self._history_end)
        return days, fits

    def _counters(self, tokens: Mapping[str, tuple[bytes, ...] | list[bytes]], others: int) -> dict[str, int]:
        absent = {
            self._chosen.left_out: others,
            "records_without_user_features": self._users.absent(tokens["user_id"]),
            "records_without_video_features": self._videos.absent(tokens["video_id"]),
        }
        return {name: count for name, count in absent.items() if count}


def _log_block(block: Block, layouts: list[Layout], history_end: int) -> LogBlock:
    tokens, numbers, bad = layouts[block.index].split(block)
    days, times = numbers_of(tokens["date"], 99_991_231), numbers_of(tokens["time_ms"])
    events = {label: numbers_of(tokens[label], 1) for label in LABELS}
    columns = {"date": (days, "a date YYYYMMDD"), "time_ms": (times, "milliseconds")}
    columns |= {label: (values, "0 or 1") for label, values in events.items()}
    fits = np.ones(len(numbers), bool)
    for name, (values, expected) in columns.items():
        wrong = (values < 10_000_000 if name == "date" else values < 0) & fits
        fits &= ~wrong
        for i in np.flatnonzero(wrong).tolist():
            shown = tokens[name][i].decode("utf-8", "replace")
            bad.append((int(numbers[i]), f"column {name!r}: expected {expected}, got {shown!r}"))
    early = np.flatnonzero(fits & (days <= history_end))
    if len(early):
        _refuse_early(int(numbers[early[0]]), int(days[early[0]]), history_end)
    kept = np.flatnonzero(fits)
    users, videos = ([tokens[name][i] for i in kept.tolist()] for name in ("user_id", "video_id"))
    return LogBlock(
        users,
        videos,
        days[kept],
        times[kept] // 1000,
        {name: e[kept].astype(np.uint8) for name, e in events.items()},
        bad,
    )


def _refuse_early(row: int, day: int, history_end: int) -> NoReturn:
    raise DataError(f"row {row} of the log is of {day}, but the histories end on {history_end}")


def _find(raw_dir: str | None, pattern: str) -> list[str]:
    if raw_dir is None:
        raise FileNotFoundError(f"raw_dir is needed: the directory that holds {pattern}")
    paths = sorted(glob.glob(os.path.join(raw_dir, pattern)) + glob.glob(os.path.join(raw_dir, pattern + ".gz")))
    if not paths:
        raise FileNotFoundError(f"raw_dir {raw_dir!r}: expected {pattern} (or .gz)")
    return paths


def _read_history(raw_dir: str | None) -> tuple[SideTable, int]:
    path = _find(raw_dir, "user_history_until_*.tsv")[-1]
    end = re.search(r"until_(\d{8})\.", path)
    if end is None:
        raise DataError(f"{os.path.basename(path)}: the name must tell the last day, user_history_until_YYYYMMDD.tsv")
    table = read_csv(path, "user_id", tuple(HISTORIES.values()), separator="\t")
    return dataclasses.replace(table, names=tuple(HISTORIES)), int(end[1])
