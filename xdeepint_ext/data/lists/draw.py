"""Full-stage sampling: lists of impressions, candidates and random items for each user and window."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from xdeepint_ext.data.lists.interactions import Interactions
from xdeepint_ext.data.lists.items import Items, Pool, place_in_list
from xdeepint_ext.data.lists.labels import SoftLabel, check_order, hard_labels, soft_labels
from xdeepint_ext.data.lists.windows import Windows
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.splits import hash_rows

__all__ = ["CANDIDATE", "IMPRESSION", "RANDOM", "Count", "ListSampler", "ListSizes", "Lists", "Scorer"]

IMPRESSION, CANDIDATE, RANDOM = range(3)
"""Stages, as `losses.hybrid.STAGES` has them."""

Scorer = Callable[[np.ndarray, int], np.ndarray]
"""(positions of users (n,), day) -> retrieval scores (n, items); minus infinity keeps an item out."""

Count = Callable[[int, str, int], None]
"""Is told a day, what happened on it, and how often."""

_MOST_LISTS = 4096
_MOST_SCORES = 1 << 22


@dataclasses.dataclass(frozen=True)
class ListSizes:
    """The most items of each stage in a list.

    Args:
      impressions: None = all. Where a window has more, the higher grades stay, and among equal ones a random choice.
      candidates: top items of the retrieval scores that are no impressions of the window.
      random: items drawn uniformly from the rest of the catalogue.
      pool: so many top items, of which the candidates are a random choice. None = as many as candidates: the top ones.

    Raises:
      ValueError: impressions is below 1, another below 0, or the pool smaller than candidates.

    Source: RankTower (arXiv 2407.12385), full-stage sampling; the sizes are our choice.
    """

    impressions: int | None = 20
    candidates: int = 20
    random: int = 20
    pool: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("impressions", 1), ("candidates", 0), ("random", 0), ("pool", self.candidates)):
            value = getattr(self, name)
            if value is None and name in ("impressions", "pool"):
                continue
            if not isinstance(value, int) or value < least:
                raise ValueError(f"sizes: {name} must be a whole number >= {least}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Lists:
    """Some lists of one day; the items of list i are those from `offsets[i]` to `offsets[i + 1]`.

    Args:
      day: YYYYMMDD.
      users: (U,) positions in the users.
      ranks: (U,) numbers of the lists' windows.
      keys: (U,) uint64, one for each list whatever else is drawn.
      offsets: (U + 1,).
      items: (N,) positions in the items.
      stages: (N,) 0 = impression, 1 = candidate, 2 = random.
      labels: (N,) grades; 0 for candidates and random items.
      soft: (N,) soft labels, or None.
      teacher: (N,) the teacher's scores, NaN where it gave none; or None.
      drawn_from: how many windows of users these are what is left of.
    """

    day: int
    users: np.ndarray
    ranks: np.ndarray
    keys: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    stages: np.ndarray
    labels: np.ndarray
    soft: np.ndarray | None = None
    teacher: np.ndarray | None = None
    drawn_from: int = 0

    def __len__(self) -> int:
        return len(self.users)


class ListSampler:
    """Draws a list for each user and window that has rows in the log; see `write_lists` for the rules.

    Args:
      interactions: the log with its users and items.
      order: names of events, the least important first; see `hard_labels`.
      sizes: of the stages.
      scorer: gives retrieval scores, or has them, (users, items); None where no candidates are wanted.
      soft: a function that makes soft labels, beside the grades.
      teacher: (rows of the log,) scores of the impressions.
      window: see `Windows`.
      wanted: (n,) days -> (n,) whether they get lists; None = all. The others' rows are history only.
      min_positives: lists with fewer items of a grade above 0 are left out and counted.
      min_items: lists with fewer items are left out and counted.
      seed: of everything random.

    Raises:
      ValueError: an argument is out of range, or the order names an unknown event.
      DataError: the teacher lacks a score.

    Example:
      >>> from xdeepint_ext.data.lists import Entities, EventLog
      >>> log = EventLog(*np.array([[0, 0], [1, 2], [20240101, 20240101], [5, 9]]), {"click": np.array([0, 1])})
      >>> data = Interactions(log, Entities([b"7"], {}), Entities([b"1", b"2", b"3", b"4"], {}))
      >>> lists = next(ListSampler(data, ("click",), sizes=ListSizes(5, 0, 5))(lambda day, what, number: None))
      >>> sorted(zip(lists.items.tolist(), lists.stages.tolist(), lists.labels.tolist()))
      [(0, 2, 0.0), (1, 0, 0.0), (2, 0, 1.0), (3, 2, 0.0)]
    """

    def __init__(
        self,
        interactions: Interactions,
        order: Sequence[str],
        *,
        sizes: ListSizes | None = None,
        scorer: Scorer | np.ndarray | None = None,
        soft: SoftLabel | None = None,
        teacher: np.ndarray | None = None,
        window: str | int = "day",
        wanted: Callable[[np.ndarray], np.ndarray] | None = None,
        min_positives: int = 1,
        min_items: int = 2,
        seed: int = 0,
    ) -> None:
        self._interactions, self._log = interactions, interactions.log
        self.order = check_order(order, list(self._log.events))
        self.sizes = ListSizes() if sizes is None else sizes
        if min_positives < 0 or min_items < 1:
            raise ValueError(f"min_positives must be >= 0 and min_items >= 1, got {min_positives} and {min_items}")
        self._scorer = _checked_scorer(interactions, scorer, self.sizes.candidates)
        self._wanted = wanted or (lambda days: np.ones(len(days), bool))
        self._soft, self._teacher = soft, _checked_teacher(interactions, teacher, self._wanted)
        self._seed = seed
        self._min_positives, self._min_items = min_positives, min_items
        self.windows = Windows.of(self._log, window)
        self._pool = Pool(interactions.items)

    def __call__(self, count: Count) -> Iterator[Lists]:
        """Draws the lists, day after day.

        Args:
          count: is told what was left out and why.
        """
        most = _MOST_LISTS
        if self._scorer is not None:
            most = max(1, min(most, _MOST_SCORES // len(self._interactions.items)))
        for first, last in self.windows.chunks(most):
            if self._wanted(self.windows.days[first : first + 1]).all():
                yield self._draw(first, last, count)

    def _draw(self, first: int, last: int, count: Count) -> Lists:
        """The lists of some groups of the windows, all of one day."""
        windows, log = self.windows, self._log
        starts, day = windows.starts[first : last + 1], int(windows.days[first])
        rows = windows.rows[starts[0] : starts[-1]]
        heads = rows[starts[:-1] - starts[0]]
        keys = self._keys(log.users[heads], day, windows.slots[first:last])
        shown = self._impressions(rows, np.repeat(np.arange(last - first), np.diff(starts)))
        capped = self._capped(shown, keys)
        count(day, "repeated_impressions", len(rows) - len(shown))
        count(day, "impressions_beyond_size", len(shown) - len(capped))
        enough = np.bincount(capped.lists[capped.labels > 0], minlength=len(heads)) >= self._min_positives
        count(day, "lists_without_positives", int((~enough).sum()))
        heads, keys = heads[enough], keys[enough]
        drawn = self._with_samples(shown.of_lists(enough), capped.of_lists(enough), log.users[heads], keys, day)
        several = np.bincount(drawn.lists, minlength=len(heads)) >= self._min_items
        count(day, "lists_too_short", int((~several).sum()))
        drawn, heads, keys = drawn.of_lists(several), heads[several], keys[several]
        samples = np.bincount(drawn.lists[drawn.stages != IMPRESSION], minlength=len(heads))
        count(day, "lists_short_of_samples", int((samples < self.sizes.candidates + self.sizes.random).sum()))
        # An order that tells nothing of stages and labels.
        drawn = drawn.take(np.lexsort((self._hashes(drawn, keys), drawn.lists)))
        offsets = np.r_[0, np.cumsum(np.bincount(drawn.lists, minlength=len(heads)))]
        columns = drawn.items, drawn.stages, drawn.labels, drawn.soft, drawn.teacher
        return Lists(day, log.users[heads], windows.ranks[heads], keys, offsets, *columns, last - first)

    def _keys(self, users: np.ndarray, day: int, slots: np.ndarray) -> np.ndarray:
        """A uint64 for each (user, window) that does not depend on the user's position."""
        moments = np.uint64(day << 32) + slots.astype(np.uint64)
        return hash_rows(self._interactions.users.hashes[users] + hash_rows(moments, 0, "window"), self._seed, "list")

    def _impressions(self, rows: np.ndarray, lists: np.ndarray) -> Items:
        """Each (list, item) once: its events are put together, and the teacher's score is that of the last row."""
        log = self._log
        pairs = lists * len(self._interactions.items) + log.items[rows]
        together = np.argsort(pairs, kind="stable")
        pairs, rows = pairs[together], rows[together]
        starts = np.flatnonzero(np.r_[True, pairs[1:] != pairs[:-1]])
        events = {name: np.maximum.reduceat(np.asarray(values)[rows], starts) for name, values in log.events.items()}
        latest = rows[np.r_[starts[1:], len(rows)] - 1]
        return Items(
            lists[together][starts],
            log.items[latest],
            np.full(len(starts), IMPRESSION, np.uint8),
            hard_labels(events, self.order),
            None if self._soft is None else soft_labels(events, self._soft),
            None if self._teacher is None else self._teacher[latest],
        )

    def _capped(self, shown: Items, keys: np.ndarray) -> Items:
        if self.sizes.impressions is None:
            return shown
        ordered = shown.take(np.lexsort((self._hashes(shown, keys), -shown.labels, shown.lists)))
        return ordered.take(place_in_list(ordered.lists) < self.sizes.impressions)

    def _hashes(self, items: Items, keys: np.ndarray) -> np.ndarray:
        return hash_rows(keys[items.lists] + self._interactions.items.hashes[items.items], self._seed, "item")

    def _with_samples(self, shown: Items, capped: Items, users: np.ndarray, keys: np.ndarray, day: int) -> Items:
        """Impressions, candidates and random items.

        What was shown in the window but found no place in the list is no sample either: it has its feedback.
        """
        parts, taken = [capped], [shown]
        if self._scorer is not None and len(users):
            taken.append(shown.unlabelled(*self._candidates(users, keys, day, shown), CANDIDATE))
            parts.append(taken[-1])
        if self.sizes.random:
            known = Items.concatenate(taken)
            drawn = self._pool.draw(keys, day, known.lists, known.items, self.sizes.random)
            parts.append(shown.unlabelled(*drawn, RANDOM))
        return Items.concatenate(parts)

    def _candidates(self, users: np.ndarray, keys: np.ndarray, day: int, shown: Items) -> tuple[np.ndarray, np.ndarray]:
        assert self._scorer is not None
        shape = (len(users), len(self._interactions.items))
        scores = np.array(self._scorer(users, day), np.float32)
        if scores.shape != shape:
            raise ValueError(f"scorer must give scores (users, items) {shape}, got shape {scores.shape}")
        if np.isnan(scores).any():
            i, j = np.argwhere(np.isnan(scores))[0]
            user, item = self._interactions.users.keys[users[i]], self._interactions.items.keys[j]
            raise ValueError(f"scorer gave NaN for user {user.decode()} and item {item.decode()}, day {day}")
        scores[shown.lists, shown.items] = -np.inf
        scores[:, self._pool.absent(day)] = -np.inf
        most = min(self.sizes.pool or self.sizes.candidates, shape[1])
        best: np.ndarray = np.argpartition(-scores, most - 1, axis=1)[:, :most]
        fine: np.ndarray = np.take_along_axis(scores, best, axis=1) > -np.inf
        if most > self.sizes.candidates:
            drawn = hash_rows(keys[:, np.newaxis] + self._interactions.items.hashes[best], self._seed, "candidate")
            order = np.lexsort((drawn, ~fine))[:, : self.sizes.candidates]
            best, fine = (np.take_along_axis(x, order, axis=1) for x in (best, fine))
        return np.nonzero(fine)[0], best[fine]


def _checked_scorer(interactions: Interactions, scorer: Scorer | np.ndarray | None, candidates: int) -> Scorer | None:
    if not candidates:
        return None
    if scorer is None:
        raise ValueError(f"sizes asks for {candidates} candidates, which needs a scorer")
    if callable(scorer):
        return scorer
    scores, shape = np.asarray(scorer), (len(interactions.users), len(interactions.items))
    if scores.shape != shape:
        raise ValueError(f"scorer must be a function or scores (users, items) {shape}, got shape {scores.shape}")
    return lambda users, day: scores[users]


def _checked_teacher(
    interactions: Interactions, teacher: np.ndarray | None, wanted: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray | None:
    if teacher is None:
        return None
    log, scores = interactions.log, np.asarray(teacher, np.float32)
    if scores.shape != (len(log),):
        raise ValueError(f"teacher must have a score for each of the log's {len(log)} rows, got shape {scores.shape}")
    wrong = np.flatnonzero(~np.isfinite(scores) & wanted(np.asarray(log.days)))
    if len(wrong):
        row = wrong[0]
        user, item = interactions.users.keys[log.users[row]], interactions.items.keys[log.items[row]]
        raise DataError(
            f"teacher: {len(wrong)} of {len(log)} impressions have no finite score; the first is row {row} of the log "
            f"(user {user.decode()}, item {item.decode()}): {scores[row]}"
        )
    return scores
