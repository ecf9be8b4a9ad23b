"""Synthetic logs, and the lists that must come of them, item by item in plain Python."""

import collections

import numpy as np

from tests.data import directories
from xdeepint_ext.data.lists import Entities, EventLog, History, Interactions
from xdeepint_ext.schema import Feature, Schema

EVENTS = ("click", "buy", "like")
DAYS = (20240130, 20240131, 20240201, 20240202)


def interactions(rows=120, users=6, items=25, seed=0, of=(), first_day=None):
    """A log in no order, with repeated (user, item) pairs; the last user and the last item never occur."""
    rng = np.random.default_rng(seed)
    days = rng.integers(0, len(DAYS), rows)
    # Distinct times, so that "the last row" is one row.
    times = days * 1000 + rng.permutation(1000)[:rows]
    log = EventLog(
        rng.integers(0, users - 1, rows).astype(np.int32),
        rng.integers(0, items - 1, rows).astype(np.int32),
        np.array(DAYS, np.int32)[days],
        times,
        {name: (rng.random(rows) < 0.5 / (i + 1)).astype(np.uint8) for i, name in enumerate(EVENTS)},
    )
    return Interactions(log, entities("user", users), entities("item", items, first_day), tuple(of))


def entities(name, size, first_day=None):
    keys = [b"%d" % (1000 + 7 * i) for i in range(size)]
    colours = [b"" if i % 4 == 3 else b"%s%d" % (name[:1].encode(), i % 3) for i in range(size)]
    return Entities(keys, {f"{name}_id": keys, f"{name}_colour": colours}, first_day)


def row_schema(users=6, items=25):
    """What `prepare` could have made of such a log."""
    return Schema(
        [
            Feature("user_id", role=("user", "group"), dtype="int", num_values=users - 2),
            Feature("user_colour", role="user", num_values=3, required=False),
            Feature("place", role="context", num_values=1),
            Feature("item_id", role=("item", "item_id"), dtype="int", num_values=items - 3),
            Feature("item_colour", role="item", num_values=3),
            Feature("click", "numeric", "label"),
        ]
    )


def write_rows(folder, users=6, items=25):
    """A prepared directory whose vocabularies lack some users and items."""
    vocabularies = {
        "user_id": [1000 + 7 * i for i in range(users - 2)],
        "item_id": [1000 + 7 * i for i in range(items - 3)],
        "user_colour": ["u0", "u1", "u2"],
        "item_colour": ["i0", "i1", "i2"],
        "place": ["top"],
    }
    row = {"user_id": 1000, "place": "top", "item_id": 1000, "item_colour": "i0", "click": 1.0}
    return directories.write(folder, [[row]], schema=row_schema(users, items), vocabularies=vocabularies)


def window_rows(log, window="day"):
    """(day, slot, user) -> rows of the log, in the order of their times."""
    found = collections.defaultdict(list)
    for row in range(len(log)):
        slot = 0 if window == "day" else int(log.times[row]) // window
        found[int(log.days[row]), slot, int(log.users[row])].append(row)
    return {key: sorted(rows, key=lambda row: log.times[row]) for key, rows in sorted(found.items())}


def grade(log, rows, order):
    """The highest grade among the rows of an item."""
    return max((i for i, name in enumerate(order, 1) for row in rows if log.events[name][row]), default=0)


def by_item(log, rows):
    """item -> its rows."""
    found = collections.defaultdict(list)
    for row in rows:
        found[int(log.items[row])].append(row)
    return found


def history(data, of, user, day, slot, window="day"):
    """Keys of the last items with an event before the window, oldest first."""
    log = data.log
    earlier = [
        row
        for (d, s, u), rows in window_rows(log, window).items()
        if u == user and (d, s) < (day, slot)
        for row in rows
        if of.event is None or log.events[of.event][row]
    ]
    before = [] if of.before is None else of.before[user].split()
    return ([int(key) for key in before] + [int(data.items.keys[log.items[row]]) for row in earlier])[-of.length :]


def histories(users):
    """Two sequences, the second with items from before the log, some of which the catalogue lacks."""
    before = [b"1000 1007", b"", b"1", b"1014 1000 1007 1021"]
    return History("watched", None, 4), History("bought", "buy", 3, [before[i % 4] for i in range(users)])
