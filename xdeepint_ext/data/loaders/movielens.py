"""MovieLens: the `latest` and 25M sets (CSV with a header) and 1M (`::` between values); split by time."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from typing import Any

import numpy as np

from xdeepint_ext.data.loaders.tables import SideTable, read_csv, read_separated
from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks, split_lines
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import TEST, TRAIN, VALID, RandomSplit, hash_rows, row_keys
from xdeepint_ext.data.statistics import NumericStatistics
from xdeepint_ext.schema import Feature, Schema

__all__ = ["MovieLens"]

COLUMNS = ("user_id", "movie_id", "rating", "timestamp")
MAX_GENRES = 8
_SAMPLED = 1_000_000


@dataclasses.dataclass(frozen=True)
class MovieLens:
    """Loader of `ratings.csv` and `movies.csv`, or of `ratings.dat`, `users.dat` and `movies.dat` (plain or .gz).

    The label is 1 for a rating of `positive_rating` or more. Features: `user_id` (also the group), `movie_id` (also
    the item's id), genres (several ids), the year of release from the title; 1M adds gender, age, occupation and zip
    code. The latest `test_fraction` of the ratings are the test split, the `valid_fraction` before them the validation
    split; ratings of the same second stay together. The two moments come from a first pass over the times (from a
    sample of a million, where there are more). Many users of the later splits have no earlier rating: their id is out
    of the vocabulary, as new users' are in practice. `min_count` is 5 unless it is given (our choice).
    """

    positive_rating: float = option(4.0, "smallest rating whose label is 1")
    valid_fraction: float = option(0.1, "share of the validation split")
    test_fraction: float = option(0.1, "share of the test split, the latest ratings")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        shares = RandomSplit(self.valid_fraction, self.test_fraction, seed)
        path = find_file(raw_dir, "ratings.csv", "ratings.dat")
        old = os.path.basename(path).startswith("ratings.dat")
        ratings, separator = TextFile(path, header=not old), b"::" if old else b","
        users = SideTable()
        if old:
            users = read_separated(
                find_file(raw_dir, "users.dat"),
                "::",
                ("user_id", "gender", "age", "occupation", "zip_code"),
                ("gender", "age", "occupation", "zip_code"),
                "latin-1",
            )
            names = ("movie_id", "title", "genres")
            movies = read_separated(find_file(raw_dir, "movies.dat"), "::", names, names[1:], "latin-1")
        else:
            movies = read_csv(find_file(raw_dir, "movies.csv"), "movieId", ("title", "genres"))
        return Source(
            schema=Schema(_features(users)),
            blocks=functools.partial(read_blocks, (ratings,)),
            parse=functools.partial(
                _parse,
                separator=separator,
                users=users,
                movies=_clean(movies),
                positive=self.positive_rating,
                ends=_ends(ratings, separator, shares),
            ),
            splits=shares.splits,
            size=os.path.getsize(path) * (4 if path.endswith(".gz") else 1),
        )


def _features(users: SideTable) -> list[Feature]:
    item: dict[str, Any] = {"role": "item", "min_count": 5}
    return [
        Feature("user_id", role=("user", "group"), dtype="int", min_count=5),
        *(Feature(name, role="user", min_count=5) for name in users.names),
        Feature("movie_id", role=("item", "item_id"), dtype="int", min_count=5),
        Feature("genres", "multi", max_length=MAX_GENRES, **item),
        Feature("year", dtype="int", **item),
        Feature("label", "numeric", "label"),
    ]


def _clean(movies: SideTable) -> SideTable:
    """Titles become years of release; "(no genres listed)" becomes no genre."""
    rows: dict[bytes, tuple[bytes, ...]] = {}
    for key, (title, genres) in movies.rows.items():
        year = re.search(rb"\((\d{4})\)\s*$", title)
        rows[key] = (year[1] if year else b"", b"" if genres.startswith(b"(") else genres)
    return SideTable(("year", "genres"), rows)


def _ends(ratings: TextFile, separator: bytes, shares: RandomSplit) -> tuple[int, int]:
    """The first moments of the validation and of the test split."""
    times = NumericStatistics(("timestamp",), _SAMPLED)
    for block in read_blocks([ratings]):
        columns, numbers, _ = split_lines(block, separator, len(COLUMNS))
        whole = [i for i, token in enumerate(columns[3]) if token.isdigit()]
        values = np.array([[float(columns[3][i])] for i in whole]).reshape(-1, 1)
        times.add(values, hash_rows(row_keys(0, numbers[whole]), shares.seed, "sample"))
    ordered = times.sample("timestamp")
    if not len(ordered):
        return 0, 0
    starts = [int(len(ordered) * (1 - shares.valid - shares.test)), int(len(ordered) * (1 - shares.test))]
    valid, test = (int(ordered[i]) if i < len(ordered) else 2**62 for i in starts)
    return valid, test


def _parse(
    block: Block, separator: bytes, users: SideTable, movies: SideTable, positive: float, ends: tuple[int, int]
) -> Rows:
    columns, numbers, bad = split_lines(block, separator, len(COLUMNS))
    ratings = {token: _rating(token) for token in set(columns[2])}
    fits = [i for i, token in enumerate(columns[2]) if ratings[token] is not None and columns[3][i].isdigit()]
    if len(fits) < len(numbers):
        for i in sorted(set(range(len(numbers))).difference(fits)):
            shown = b" and ".join((columns[2][i], columns[3][i])).decode("utf-8", "replace")
            bad.append((int(numbers[i]), f"expected a rating of 0 .. 5 and a time in seconds, got {shown!r}"))
        columns, numbers = [tuple(values[i] for i in fits) for values in columns], numbers[fits]
    tokens: dict[str, Any] = dict(zip(COLUMNS, columns, strict=True))
    times = np.array([int(token) for token in tokens.pop("timestamp")], np.int64)
    labels = {token: b"1" if rating is not None and rating >= positive else b"0" for token, rating in ratings.items()}
    tokens["label"] = tuple(labels[token] for token in tokens.pop("rating"))
    tokens |= users.join(tokens["user_id"]) | movies.join(tokens["movie_id"])
    unknown = movies.absent(tokens["movie_id"])
    splits = np.where(times < ends[0], TRAIN, np.where(times < ends[1], VALID, TEST)).astype(np.uint8)
    counters = {"records_without_movie": unknown} if unknown else {}
    return Rows(numbers, row_keys(block.index, numbers), splits, tokens, bad, counters)


def _rating(token: bytes) -> float | None:
    try:
        rating = float(token)
    except ValueError:
        return None
    return rating if 0 <= rating <= 5 else None
