"""Small raw files of users with their items, in the documented formats."""

import json
import pathlib

import numpy as np

from tests.data.raw_taobao import write

VIEWS = "pv"


def events(users: int = 30, items: int = 60, seed: int = 0) -> list[tuple[int, int, int]]:
    """(user, item, time), not in order of time; a few users and items are rare."""
    random = np.random.default_rng(seed)
    found = []
    for user in range(users):
        for _ in range(int(random.integers(2, 25))):
            # Squared: the last items are rare. Few moments: many are equal.
            found.append((user, int(items * random.uniform() ** 2), int(random.integers(1000, 1040))))
    order = random.permutation(len(found))
    return [found[i] for i in order]


def write_books(directory: pathlib.Path, log: list[tuple[int, int, int]], zipped: bool = True) -> pathlib.Path:
    lines = [
        json.dumps({"reviewerID": f"A{u}", "asin": f"00{i}X", "helpful": [0, 0], "overall": 5.0, "unixReviewTime": t})
        for u, i, t in log
    ]
    return write(directory / "reviews_Books_5.json", lines, zipped)


def write_taobao(directory: pathlib.Path, log: list[tuple[int, int, int]]) -> pathlib.Path:
    lines = [f"{u},{i},7,pv,{t}" for u, i, t in log]
    lines += [f"{u},{i},7,buy,{t}" for u, i, t in log[:20]]  # not page views
    return write(directory / "UserBehavior_first30users.csv", lines)


def write_movielens(directory: pathlib.Path, log: list[tuple[int, int, int]]) -> pathlib.Path:
    lines = ["userId,movieId,rating,timestamp", *(f"{u},{i},3.5,{t}" for u, i, t in log)]
    return write(directory / "ratings.csv", lines)


def write_lightgcn(directory: pathlib.Path, train: dict[int, list[int]], test: dict[int, list[int]]) -> pathlib.Path:
    for name, users in (("train.txt", train), ("test.txt", test)):
        write(directory / name, [" ".join(map(str, (user, *items))) for user, items in users.items()])
    return directory
