"""iPinYou (2013): display ads bought in real-time auctions, in the tab-separated form of Zhang et al. (2014)."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence

import numpy as np

from xdeepint_ext.data.loaders.headers import Layout, read_layout
from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import TEST, TRAIN, RandomSplit, row_keys
from xdeepint_ext.schema import Feature, Schema

__all__ = ["IPinYou"]

FEATURES = (
    "weekday",
    "hour",
    "IP",
    "region",
    "city",
    "adexchange",
    "domain",
    "slotid",
    "slotwidth",
    "slotheight",
    "slotvisibility",
    "slotformat",
    "creative",
    "advertiser",
    "useragent",
    "slotprice",
)
# The script that makes the files writes these three as whole numbers; the other columns are texts to it.
INTEGERS = ("weekday", "hour", "slotprice")
# Zhang et al.: 0, 1 .. 10, 11 .. 50, 51 .. 100, more.
PRICE_BOUNDARIES = (1.0, 11.0, 51.0, 101.0)


@dataclasses.dataclass(frozen=True)
class IPinYou:
    """Loader of `train.log.txt` and `test.log.txt` (plain or .gz) as `make-ipinyou-data` writes them.

    That is the processing of Zhang, Yuan, Wang, Shen, "Real-Time Bidding Benchmarking with iPinYou Dataset"
    (arXiv 1407.7073; github.com/wnzhang/make-ipinyou-data). It makes a folder for each advertiser (1458, 2259, 2261,
    2821, 2997, 3358, 3386, 3427, 3476) and one for all of them, `all`. The files' header line names the columns
    click, weekday (0 = Sunday), hour, bidid, timestamp, logtype, ipinyouid, useragent (system_browser), IP, region,
    city, adexchange, domain, url, urlid, slotid, slotwidth, slotheight, slotvisibility, slotformat, slotprice,
    creative, bidprice, payprice, keypage, advertiser, usertag; in the test file also nclick and nconversation. The
    columns are found by that line.

    Features: the 16 of the paper's data, all categorical; the user tags, identifiers, addresses of pages and the
    auction's prices are not read. The floor price `slotprice` becomes one of Zhang et al.'s five bins 0, 1 .. 10,
    11 .. 50, 51 .. 100, more; with `slotprice="value"` each price is a value of its own. The files write `null` for an
    empty field, which to Zhang et al. is a value like others; `null="missing"` makes it a missing value.

    Split: `published` keeps the test file as the test split and draws the validation split out of the training file
    by the seed; with `valid_fraction` 0 there is none, as in the authors' code. `random` is what the paper prints
    (xDeepInt §4.1.1): 70/10/20 of all records of both files. `min_count` is 20 unless it is given: the paper leaves out
    values seen less often. The authors' iPinYou script keeps values seen more than 100 times (`min_count=101`).
    """

    campaign: str = option("", "folder of raw_dir: `all` or an advertiser; default: raw_dir itself, else all")
    slotprice: str = option("bins", "the floor price in the five bins of Zhang et al., or as it is", ("bins", "value"))
    null: str = option("value", "what the text null is: a value like others, or a missing one", ("value", "missing"))
    split: str = option("published", "the files' own, or 70/10/20 of all records by the seed", ("published", "random"))
    valid_fraction: float = option(0.1, "share of the validation split: of the training file, or of all (split=random)")
    test_fraction: float = option(0.2, "share of the test split, for split=random")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        folders = [self.campaign] if self.campaign else ["", "all"]
        train = find_file(raw_dir, *(os.path.join(folder, "train.log.txt") for folder in folders))
        test = find_file(os.path.dirname(train), "test.log.txt")
        files = (TextFile(train, header=True, split=TRAIN), TextFile(test, header=True, split=TEST))
        published = self.split == "published"
        random = RandomSplit(self.valid_fraction, 0.0 if published else self.test_fraction, seed)
        return Source(
            schema=Schema(self._features()),
            blocks=functools.partial(read_blocks, files),
            parse=functools.partial(
                _parse,
                layouts=[read_layout(file, "\t", ("click", *FEATURES)) for file in files],
                random=random,
                published=published,
                null_is_missing=self.null == "missing",
            ),
            splits=(*random.splits, "test") if published else random.splits,
            size=sum(os.path.getsize(file.path) * (6 if file.path.endswith(".gz") else 1) for file in files),
        )

    def _features(self) -> list[Feature]:
        features = {
            name: Feature(name, dtype="int" if name in INTEGERS else "string", min_count=20) for name in FEATURES
        }
        if self.slotprice == "bins":
            features["slotprice"] = Feature(
                "slotprice", "numeric", dtype="int", binning="boundaries", boundaries=PRICE_BOUNDARIES
            )
        return [*features.values(), Feature("click", "numeric", "label")]


def _parse(
    block: Block, layouts: Sequence[Layout], random: RandomSplit, published: bool, null_is_missing: bool
) -> Rows:
    tokens, numbers, bad = layouts[block.index].split(block)
    if null_is_missing:
        for name in FEATURES:
            if b"null" in tokens[name]:
                tokens[name] = tuple(b"" if token == b"null" else token for token in tokens[name])
    keys = row_keys(block.index, numbers)
    splits = np.full(len(numbers), TEST, np.uint8) if published and block.split == TEST else random(keys)
    return Rows(numbers, keys, splits, tokens, bad)
