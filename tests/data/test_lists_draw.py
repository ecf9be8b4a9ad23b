"""Lists against a loop in plain Python, and the rules that they must keep."""

import collections
import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.data import logs
from xdeepint_ext.data import DataError
from xdeepint_ext.data.lists import EventLog, Interactions, ListSampler, ListSizes, hard_labels, soft_labels
from xdeepint_ext.data.lists.permutation import permuted

ORDER = ("click", "like", "buy")


def soft(events):
    return events["click"] + 2.5 * events["buy"]


def scores(data, seed=0):
    """Distinct scores, a few of them minus infinity."""
    shape = (len(data.users), len(data.items))
    values = np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    return np.where(values % 11 == 0, -np.inf, values)


def draw(data, order=ORDER, **options):
    """(day, rank, user) -> its items as (item, stage, label, soft, teacher), and what was left out."""
    left_out = collections.Counter()
    found = {}
    for lists in ListSampler(data, order, **options)(lambda day, what, n: left_out.update({what: n})):
        for i, user in enumerate(lists.users.tolist()):
            part = slice(lists.offsets[i], lists.offsets[i + 1])
            columns = [lists.items[part], lists.stages[part], lists.labels[part]]
            columns += [np.zeros(len(columns[0])) if x is None else x[part] for x in (lists.soft, lists.teacher)]
            found[lists.day, int(lists.ranks[i]), user] = list(zip(*(c.tolist() for c in columns), strict=True))
    return found, left_out


def check_list(data, rows, items, sizes, user, teacher, scored, available):
    """One list against the rules."""
    log, shown = data.log, logs.by_item(data.log, rows)
    assert len({item[0] for item in items}) == len(items)
    stages = [{item[0] for item in items if item[1] == stage} for stage in range(3)]
    # Impressions: all, or the best of them.
    grades = {item: logs.grade(log, of, ORDER) for item, of in shown.items()}
    most = len(shown) if sizes.impressions is None else sizes.impressions
    assert stages[0] <= set(shown)
    assert sorted(grades[item] for item in stages[0]) == sorted(sorted(grades.values())[-most:])
    # Candidates: the best, or some of the best, of what may be shown and was not.
    free = [item for item in available if item not in shown]
    ranked = sorted((item for item in free if scored[user, item] > -np.inf), key=lambda item: -scored[user, item])
    best = ranked[: sizes.pool or sizes.candidates]
    assert stages[1] <= set(best) and len(stages[1]) == min(sizes.candidates, len(best))
    # Random items: of the rest, as many as there are.
    assert stages[2] <= set(free) - stages[1]
    assert len(stages[2]) == min(sizes.random, len(free) - len(stages[1]))
    for item, stage, label, soft_label, score in items:
        of = shown.get(item, [])
        assert label == (grades[item] if stage == 0 else 0)
        events = {name: max((log.events[name][row] for row in of), default=0) for name in logs.EVENTS}
        assert soft_label == soft(events)
        np.testing.assert_equal(score, np.float32(teacher[of[-1]]) if stage == 0 else np.nan)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 60),
    items=st.integers(2, 30),
    impressions=st.sampled_from([None, 1, 3]),
    candidates=st.integers(0, 6),
    random=st.integers(0, 30),
    beyond=st.sampled_from([None, 0, 5]),
    window=st.sampled_from(["day", 300]),
)
def test_lists_keep_the_rules(seed, rows, items, impressions, candidates, random, beyond, window):
    first_day = np.random.default_rng(seed).choice([0, *logs.DAYS, 20240301], items)
    data = logs.interactions(rows, 5, items, seed, first_day=first_day)
    teacher = np.random.default_rng(seed).standard_normal(rows)
    pool = None if beyond is None else candidates + beyond
    sizes, scored = ListSizes(impressions, candidates, random, pool), scores(data)
    options = {"sizes": sizes, "scorer": scored, "soft": soft, "teacher": teacher, "window": window}
    found, left_out = draw(data, **options, seed=seed, min_positives=0, min_items=1)
    expected = logs.window_rows(data.log, window)
    ranks = {key: rank for rank, key in enumerate(sorted({key[:2] for key in expected}))}
    assert set(found) == {(day, ranks[day, slot], user) for day, slot, user in expected}
    for (day, slot, user), of in expected.items():
        available = np.flatnonzero(first_day <= day).tolist()
        check_list(data, of, found[day, ranks[day, slot], user], sizes, user, teacher, scored, available)
    assert left_out["repeated_impressions"] == rows - sum(len(logs.by_item(data.log, of)) for of in expected.values())
    beyond = sum(len(logs.by_item(data.log, of)) for of in expected.values())
    assert left_out["impressions_beyond_size"] == beyond - sum(i[1] == 0 for of in found.values() for i in of)


def test_candidates_of_a_pool_are_a_uniform_choice():
    """Each of the 10 best of 25 items is in 4 / 10 of 480 lists, within 4 deviations; another seed draws others."""
    data = logs.interactions(1, users=480)
    log = EventLog(np.arange(480), np.zeros(480, int), np.full(480, 20240130), np.arange(480), {"click": np.ones(480)})
    data = Interactions(log, data.users, data.items)
    draws = [
        draw(data, ("click",), sizes=ListSizes(1, 4, 0, 10), scorer=np.tile(np.arange(25.0), (480, 1)), seed=seed)[0]
        for seed in (0, 1)
    ]
    chosen = [[item[0] for of in found.values() for item in of if item[1] == 1] for found in draws]
    counts = np.bincount(chosen[0], minlength=25)
    assert (counts[:15] == 0).all()
    np.testing.assert_allclose(counts[15:], 480 * 0.4, atol=4 * np.sqrt(480 * 0.4 * 0.6))
    assert chosen[0] != chosen[1]


def test_lists_without_positives_or_too_short_are_counted():
    data = logs.interactions(80, users=20)
    everything, _ = draw(data, sizes=ListSizes(5, 0, 0), min_positives=0, min_items=1)
    found, left_out = draw(data, sizes=ListSizes(5, 0, 0), min_positives=1, min_items=3)
    positives = {key: sum(item[2] > 0 for item in items) for key, items in everything.items()}
    assert left_out["lists_without_positives"] == sum(number < 1 for number in positives.values()) > 0
    assert left_out["lists_too_short"] == sum(n > 0 and len(everything[k]) < 3 for k, n in positives.items()) > 0
    assert found == {key: items for key, items in everything.items() if positives[key] and len(items) >= 3}


def test_lists_of_one_item_and_without_any_positive():
    """They can be asked for: distillation needs no positive."""
    log = EventLog(*(np.array([0]) for _ in range(2)), np.array([20240101]), np.array([5]), {"click": np.array([0])})
    data = Interactions(log, logs.entities("user", 1), logs.entities("item", 1))
    options = {"order": ("click",), "sizes": ListSizes(1, 2, 2), "scorer": np.zeros((1, 1))}
    assert draw(data, **options) == ({}, {**draw(data, **options)[1], "lists_without_positives": 1})
    found, left_out = draw(data, **options, min_positives=0, min_items=1)
    assert found == {(20240101, 0, 0): [(0, 0, 0.0, 0.0, 0.0)]}
    assert left_out["lists_short_of_samples"] == 1


def renumbered(data, rows, seed=1):
    """The log's chosen rows, with users and items at other positions and those without rows left out."""
    log, rng = data.log, np.random.default_rng(seed)
    rows = rng.permutation(rows)
    parts, places = [], []
    for positions, table in ((log.users[rows], data.users), (log.items[rows], data.items)):
        kept = rng.permutation(len(table)) if table is data.items else rng.permutation(np.unique(positions))
        place = np.full(len(table), -1)
        place[kept] = np.arange(len(kept))
        columns = {name: [tokens[i] for i in kept] for name, tokens in table.columns.items()}
        first = None if table.first_day is None else table.first_day[kept]
        parts.append(dataclasses.replace(table, keys=[table.keys[i] for i in kept], columns=columns, first_day=first))
        places.append((place, kept))
    events = {name: values[rows] for name, values in log.events.items()}
    small = EventLog(
        places[0][0][log.users[rows]], places[1][0][log.items[rows]], log.days[rows], log.times[rows], events
    )
    return Interactions(small, *parts), places


def named(lists, users, items):
    """Lists in the order of their windows and users; ranks count the windows of one log, positions are those of one."""
    ordered = sorted(lists.items(), key=lambda pair: (pair[0][:2], users[pair[0][2]]))
    return [(day, users[user], [(items[item], *rest) for item, *rest in of]) for (day, _, user), of in ordered]


@pytest.mark.parametrize("window", ["day", 250])
def test_nothing_in_a_list_depends_on_later_rows_or_other_users(window):
    first_day = np.where(np.arange(25) % 5 == 0, logs.DAYS[2], 0)
    data = logs.interactions(200, first_day=first_day)
    scored, sizes = scores(data), ListSizes(3, 4, 5)
    whole, _ = draw(data, sizes=sizes, scorer=scored, soft=soft, window=window)
    for rows in (np.flatnonzero(data.log.days <= logs.DAYS[1]), np.flatnonzero(data.log.users == 2)):
        small, ((_, users), (_, items)) = renumbered(data, rows)
        found, _ = draw(small, sizes=sizes, scorer=scored[np.ix_(users, items)], soft=soft, window=window)
        same = {(day, users[user]) for day, _, user in found}
        expected = named(whole, range(len(data.users)), range(len(data.items)))
        assert named(found, users, items) == [part for part in expected if part[:2] in same]
        assert len(found) > 3


def test_the_seed_draws_and_nothing_else_does():
    data = logs.interactions(200)
    options = {"sizes": ListSizes(2, 0, 6)}
    first, _ = draw(data, **options, seed=1)
    np.random.default_rng(0).random()
    assert draw(data, **options, seed=1)[0] == first
    second, _ = draw(data, **options, seed=2)
    assert set(second) == set(first)
    assert sum(second[key] != first[key] for key in first) > len(first) // 2


def test_order_in_a_list_tells_nothing():
    """The mean place of the positives of many lists is that of all items, within five standard errors."""
    data = logs.interactions(900, users=60, items=40)
    found, _ = draw(data, sizes=ListSizes(5, 0, 10))
    places = [i / (len(of) - 1) for of in found.values() for i, item in enumerate(of) if item[2] > 0]
    assert np.mean(places) == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / len(places)))


def test_random_items_are_uniform():
    rows, items = 400, 12
    ones = np.ones(rows, np.int64)
    log = EventLog(np.arange(rows), 0 * ones, 20240101 * ones, ones, {"click": ones})
    data = Interactions(log, logs.entities("user", rows), logs.entities("item", items))
    found, _ = draw(data, order=("click",), sizes=ListSizes(1, 0, 3))
    counts = collections.Counter(item[0] for of in found.values() for item in of if item[1] == 2)
    assert set(counts) == set(range(1, items))
    share = 3 / (items - 1)
    assert max(abs(n - rows * share) for n in counts.values()) < 5 * np.sqrt(rows * share * (1 - share))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1000])
def test_permutations(size):
    keys = np.random.default_rng(0).integers(0, 2**63, 300).astype(np.uint64)
    found = permuted(np.repeat(keys, size), np.tile(np.arange(size), 300), size).reshape(300, size)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(size), (300, 1)))
    if size >= 5:
        assert len({tuple(row) for row in found.tolist()}) > (100 if size == 5 else 295)
        counts = np.bincount(found[:, 0] * 5 // size, minlength=5)
        assert np.abs(counts - 60).max() < 5 * np.sqrt(300 * 0.2 * 0.8)


def test_hard_labels_are_the_highest_event():
    events = {"click": np.array([0, 1, 1, 0]), "buy": np.array([0, 0, 1, 2])}
    assert hard_labels(events, ("click", "buy")).tolist() == [0, 1, 2, 2]
    assert hard_labels(events, ("buy", "click")).tolist() == [0, 2, 2, 1]
    assert hard_labels(events, "buy").tolist() == [0, 0, 1, 1]
    for order, message in (
        (("click", "bay"), r"order names event 'bay'; there are \['buy', 'click'\]; did you mean 'buy'"),
        (("click", "click"), "order names event 'click' twice"),
        ((), "order must name events"),
    ):
        with pytest.raises(ValueError, match=message):
            hard_labels(events, order)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda e: e["click"][:1], r"soft must give a label for each of 2 items, got shape \(1,\)"),
        (lambda e: e["click"] - 1.0, r"soft must give finite labels >= 0, got -1.0 for {'click': 0}"),
        (lambda e: e["click"] / np.array([1.0, np.inf]) + np.nan, "got nan for"),
    ],
)
def test_soft_labels_are_checked(function, message):
    with pytest.raises(ValueError, match=message):
        soft_labels({"click": np.array([0, 1])}, function)


def test_bad_arguments_are_named():
    data = logs.interactions(50)
    teacher = np.zeros(50)
    teacher[7] = np.nan
    user, item = (
        int(table.keys[column[7]]) for table, column in ((data.users, data.log.users), (data.items, data.log.items))
    )
    for options, message in (
        ({"order": ("click", "bought")}, "order names event 'bought'; there are"),
        (
            {"teacher": teacher},
            rf"1 of 50 impressions have no finite score; .* row 7 of the log \(user {user}, item {item}\)",
        ),
        ({"teacher": teacher[:9]}, r"teacher must have a score for each of the log's 50 rows, got shape \(9,\)"),
        ({"sizes": ListSizes()}, "sizes asks for 20 candidates, which needs a scorer"),
        ({"sizes": ListSizes(), "scorer": np.zeros((2, 2))}, r"scores \(users, items\) \(6, 25\), got shape \(2, 2\)"),
        ({"window": "hour"}, "window must be 'day' or a number > 0, got 'hour'"),
        ({"min_items": 0}, "min_positives must be >= 0 and min_items >= 1, got 1 and 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ListSampler(data, **{"order": ORDER, "sizes": ListSizes(3, 0, 0), **options})
    for scorer, message in (
        (lambda users, day: np.zeros((len(users), 2)), r"scorer must give scores .*, got shape \(\d+, 2\)"),
        (
            lambda users, day: np.full((len(users), 25), np.nan),
            "scorer gave NaN for user 10.. and item 1000, day 20240130",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            draw(data, scorer=scorer)
    for name, value in (("impressions", 0), ("candidates", -1), ("random", 2.5), ("pool", 19)):
        with pytest.raises(ValueError, match=f"sizes: {name} must be a whole number >= \\d+, got {value}"):
            ListSizes(**{name: value})


def test_logs_are_checked():
    data = logs.interactions(10)
    log, (watched, bought) = data.log, logs.histories(6)
    for changes, message in (
        ({"items": log.items[:3]}, r"'items' has shape \(3,\), but users \(10,\)"),
        ({"events": {"click": -np.ones(10)}}, "row 0: event 'click' must be >= 0, got -1.0"),
        ({name: np.zeros(0) for name in ("users", "items", "days", "times")} | {"events": {}}, "the log has no row"),
    ):
        with pytest.raises(DataError, match=message):
            dataclasses.replace(log, **changes)
    for changes, message in (
        ({"users": logs.entities("user", 2)}, r"'users' must be a position in 0 .. 1, got \d"),
        ({"histories": (dataclasses.replace(watched, event="bay"),)}, "history 'watched' is of event 'bay'"),
        ({"histories": (dataclasses.replace(bought, before=[b""]),)}, "before has 1 rows for 6 users"),
    ):
        with pytest.raises(DataError, match=message):
            dataclasses.replace(data, **changes)
    with pytest.raises(DataError, match="keys must be unique, but 1 of them repeat"):
        dataclasses.replace(data.users, keys=[b"1"] * 2, columns={})
    with pytest.raises(DataError, match="column 'x' has 1 values for 6 keys"):
        dataclasses.replace(data.users, columns={"x": [b""]})
