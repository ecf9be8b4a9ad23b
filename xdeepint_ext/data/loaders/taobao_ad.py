"""Taobao display ads (Tianchi data set 56, "Alimama"): impressions with clicks, ad and user tables; split by day."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from xdeepint_ext.data.days import LAST_SECOND, DaySplit, clock_columns, days_of
from xdeepint_ext.data.lists.interactions import History, Interactions
from xdeepint_ext.data.loaders.headers import Layout, read_layout
from xdeepint_ext.data.loaders.logs import Index, LogBlock, numbers_of, read_log
from xdeepint_ext.data.loaders.tables import SideTable, read_csv
from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import row_keys
from xdeepint_ext.schema import Feature, Schema

__all__ = ["TaobaoAd"]

USER_COLUMNS = (
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)
AD_COLUMNS = ("cate_id", "campaign_id", "customer", "brand", "price")
_SAMPLE_COLUMNS = ("user", "time_stamp", "adgroup_id", "pid", "nonclk", "clk")
# Of nonclk and clk.
_ANSWERS = {(b"1", b"0"), (b"0", b"1")}


@dataclasses.dataclass(frozen=True)
class TaobaoAd:
    """Loader of `raw_sample.csv`, `ad_feature.csv`, `user_profile.csv` (plain or .gz).

    The files are those of https://tianchi.aliyun.com/dataset/56: 26,557,961 impressions of 846,811 ads to 1.14 million
    users in the eight days from 2017-05-06 to 05-13, days in China. Their header lines:

      raw_sample.csv: user, time_stamp, adgroup_id, pid, nonclk, clk (and nonclk = 1 - clk)
      ad_feature.csv: adgroup_id, cate_id, campaign_id, customer, brand, price
      user_profile.csv: userid, cms_segid, cms_group_id, final_gender_code, age_level, pvalue_level, shopping_level,
        occupation, new_user_class_level (with a blank behind the last name in the published file)

    The text `NULL`, which stands for an ad's missing brand, and an empty field are missing values. About one user in
    fifteen has no profile; the manifest notes how many records this concerns.

    Features: `user` (also the group) and the profile's eight; `adgroup_id` (also the item's id), category, campaign,
    advertiser, brand, and the price in 20 quantile bins; context: `pid`, the place on the page, the hour and the day of
    the week (1 = Monday). The behaviour log of the 22 days before (`behavior_log.csv`, 723 million rows) is not read.
    Split: the last day is the published test part; the day before is the validation split (our choice). `min_count` is
    10 unless it is given, as in BARS (github.com/reczoo/BARS).
    """

    train_until: int = option(20170511, "last day of the training split")
    valid_until: int = option(20170512, "last day of the validation split; what follows is the test split")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        split = DaySplit(self.train_until, self.valid_until)
        sample = TextFile(find_file(raw_dir, "raw_sample.csv"), header=True)
        ads = read_csv(find_file(raw_dir, "ad_feature.csv"), "adgroup_id", AD_COLUMNS)
        users = read_csv(find_file(raw_dir, "user_profile.csv"), "userid", USER_COLUMNS)
        return Source(
            schema=Schema(_features()),
            blocks=functools.partial(read_blocks, (sample,)),
            parse=functools.partial(
                _parse,
                layout=read_layout(sample, ",", _SAMPLE_COLUMNS),
                users=users,
                ads=without_null(ads),
                split=split,
            ),
            splits=("train", "valid", "test"),
            size=os.path.getsize(sample.path) * (4 if sample.path.endswith(".gz") else 1),
        )

    def interactions(self, raw_dir: str | os.PathLike[str], max_bad_rows: int = 0) -> Interactions:
        """The log for `write_lists`: every impression, with the event `clk`.

        All ads of the table may be drawn on all days, as it does not tell since when an ad runs. The history
        `clicked_ads` shares the table of `adgroup_id`.

        Args:
          raw_dir: where the three files are.
          max_bad_rows: so many unreadable rows are left out and counted.

        Raises:
          DataError: more rows cannot be read; names file and row.
        """
        sample = TextFile(find_file(raw_dir, "raw_sample.csv"), header=True)
        ads = without_null(read_csv(find_file(raw_dir, "ad_feature.csv"), "adgroup_id", AD_COLUMNS))
        users, items = Index(read_csv(find_file(raw_dir, "user_profile.csv"), "userid", USER_COLUMNS)), Index(ads)
        layout = read_layout(sample, ",", _SAMPLE_COLUMNS)

        def parse(block: Block) -> LogBlock:
            tokens, times, _, bad = _rows(block, layout)
            clicks = {"clk": numbers_of(tokens["clk"]).astype(np.uint8)}
            return LogBlock(tokens["user"], tokens["adgroup_id"], days_of(times), times, clicks, bad)

        log, notes = read_log(read_blocks((sample,)), parse, users, items, max_bad_rows)
        histories = (History("clicked_ads", "clk"),)
        return Interactions(log, users.entities("user"), items.entities("adgroup_id"), histories, notes=notes)


def without_null(table: SideTable) -> SideTable:
    """The table with missing values in place of the text `NULL`."""
    rows = {key: tuple(b"" if token == b"NULL" else token for token in row) for key, row in table.rows.items()}
    return dataclasses.replace(table, rows=rows)


def _features() -> list[Feature]:
    item: dict[str, Any] = {"role": "item", "dtype": "int", "min_count": 10}
    return [
        Feature("user", role=("user", "group"), dtype="int", min_count=10),
        *(Feature(name, role="user", min_count=10) for name in USER_COLUMNS),
        Feature("adgroup_id", **{**item, "role": ("item", "item_id")}),
        *(Feature(name, **item) for name in AD_COLUMNS[:-1]),
        Feature("price", "numeric", "item", binning="quantile", num_bins=20),
        *(Feature(name, role="context", min_count=10) for name in ("pid", "hour", "weekday")),
        Feature("clk", "numeric", "label"),
    ]


def _parse(block: Block, layout: Layout, users: SideTable, ads: SideTable, split: DaySplit) -> Rows:
    tokens, times, numbers, bad = _rows(block, layout)
    tokens |= clock_columns(times)
    tokens |= users.join(tokens["user"])
    tokens |= ads.join(tokens["adgroup_id"])
    absent = {
        "records_without_user_profile": users.absent(tokens["user"]),
        "records_without_ad_features": ads.absent(tokens["adgroup_id"]),
    }
    counters = {name: count for name, count in absent.items() if count}
    return Rows(numbers, row_keys(block.index, numbers), split(days_of(times)), tokens, bad, counters)


def _rows(block: Block, layout: Layout) -> tuple[dict[str, Any], np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Columns of text, times and numbers of the records that can be read; the others."""
    tokens, numbers, bad = layout.split(block)
    times = numbers_of(tokens["time_stamp"], LAST_SECOND)
    opposite = [pair in _ANSWERS for pair in zip(tokens["nonclk"], tokens["clk"], strict=True)]
    fits = (times >= 0) & np.array(opposite, bool)
    for i in np.flatnonzero(~fits).tolist():
        bad.append((int(numbers[i]), _complaint(tokens, i, times[i] < 0)))
    kept = np.flatnonzero(fits)
    chosen = {name: tuple(values[i] for i in kept.tolist()) for name, values in tokens.items()}
    return chosen, times[kept], numbers[kept], bad


def _complaint(tokens: Mapping[str, tuple[bytes, ...]], i: int, of_time: bool) -> str:
    def shown(name: str) -> str:
        return repr(tokens[name][i].decode("utf-8", "replace"))

    if of_time:
        return f"column 'time_stamp': expected seconds, got {shown('time_stamp')}"
    return f"columns 'nonclk' and 'clk': expected 0 and 1, or 1 and 0, got {shown('nonclk')} and {shown('clk')}"
