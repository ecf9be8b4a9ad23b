"""Users' columns in, the best items of the cache out, one JSON object a user.

    python -m xdeepint_ext.serving.prerank --model=EXPORTED --cache=CACHE --input=users.json --top_k=50

Scores every item of the cache, a chunk at a time, or with --candidates each user's own. Needs TensorFlow, the exported
folder and the cache, and nothing of the training code. With --index in the cache's place a plain two-tower model asks
an approximate index.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xdeepint_ext.serving.cache_shard import CacheError
from xdeepint_ext.serving.item_cache import ItemCache
from xdeepint_ext.serving.loaded_towers import LoadedTowers, as_towers
from xdeepint_ext.serving.rows import MISSING, SEPARATOR, is_csv, read_rows, read_text, typed
from xdeepint_ext.serving.version_folder import SAMPLE_ROWS

ITEMS_AT_ONCE, USERS_AT_ONCE = 16384, 256
UNKNOWN_ITEMS = ("error", "skip")


class Ranked(NamedTuple):
    """The best items of a user, the best first.

    Args:
      items: ids.
      logits: (n,) float32.
      not_in_cache: candidates that were left out.
    """

    items: list[int | str]
    logits: np.ndarray
    not_in_cache: int = 0

    @property
    def probabilities(self) -> np.ndarray:
        """(n,) float32."""
        return (1 / (1 + np.exp(-self.logits.astype(np.float64)))).astype(np.float32)


class Preranker:
    """Scores users with kept items: the user tower once a user, then `score` alone.

    Args:
      towers: an exported model, or its folder.
      cache: folder of its item cache.
      task: whose logits order the items; None = the only one.
      unknown_items: what becomes of a candidate that the cache lacks: `error`; or `skip`, it is left out and counted
        in `not_in_cache`, of the answer and of this object.
      items_at_once: items that are scored together; bounds the memory. Default: 16,384, our choice.

    Raises:
      CacheError: the cache is another model's, or damaged.
      ValueError: the model has no towers or no such task, or an argument is out of range.

    Example:
      >>> preranker = Preranker("models/clicks", "caches/clicks")  # doctest: +SKIP
      >>> preranker.rank([{"user": 3, "age": None}], top_k=2)[0].items  # doctest: +SKIP
      [17, 4]
    """

    def __init__(
        self,
        towers: LoadedTowers | str | os.PathLike[str],
        cache: str | os.PathLike[str],
        *,
        task: str | None = None,
        unknown_items: str = "error",
        items_at_once: int = ITEMS_AT_ONCE,
    ) -> None:
        if unknown_items not in UNKNOWN_ITEMS:
            raise ValueError(f"unknown_items must be one of {UNKNOWN_ITEMS}, got {unknown_items!r}")
        if items_at_once < 1:
            raise ValueError(f"items_at_once must be >= 1, got {items_at_once}")
        self.towers = as_towers(towers)
        self.task = self.towers.task(task)
        self.cache = ItemCache(cache, self.towers.fingerprint)
        self.not_in_cache = 0
        self._unknown_items, self._items_at_once = unknown_items, items_at_once

    def rank(
        self,
        rows: Sequence[Mapping[str, Any]],
        top_k: int,
        candidates: Sequence[Sequence[int | str | bytes]] | None = None,
        **options: Any,
    ) -> list[Ranked]:
        """The best items of each user, of equal ones that which comes first in the cache (in the candidates).

        Args:
          rows: the users' columns.
          top_k: most items of each.
          candidates: for each user the ids among which to choose, each once, however often it is named; None = the
            whole cache.
          **options: see `xdeepint_ext.serving.rows.typed`.

        Raises:
          CacheError: a candidate is not in the cache, unless such are skipped.
          RowError: a row does not fit.
          ValueError: top_k is below 1, there are not as many lists of candidates as rows, or a score is not finite.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be >= 1, got {top_k}")
        if candidates is not None and len(candidates) != len(rows):
            raise ValueError(f"candidates must have a list for each of the {len(rows)} rows, got {len(candidates)}")
        users = self.towers.users(rows, **options)
        if candidates is None:
            return self._all(users, len(rows), top_k)
        return [self._some(_row(users, n), n, ids, top_k) for n, ids in enumerate(candidates)]

    def _all(self, users: Mapping[str, np.ndarray], number: int, top_k: int) -> list[Ranked]:
        best = [_Best(top_k) for _ in range(number)]
        for begin, vectors in self.cache.chunks(self._items_at_once):
            items = {task: tf.constant(values) for task, values in vectors.items()}
            for user in range(number):
                best[user].add(begin, self._logits(_row(users, user), items, user))
        return [Ranked(self.cache.ids(found.places), found.logits) for found in best]

    def _some(
        self, user: Mapping[str, np.ndarray], number: int, ids: Sequence[int | str | bytes], top_k: int
    ) -> Ranked:
        positions = self.cache.look_up(ids)
        missing = np.flatnonzero(positions < 0)
        if len(missing) and self._unknown_items == "error":
            raise CacheError(
                f"row {number + 1}: {len(missing)} of {len(ids)} candidates are not in the item cache "
                f"{self.cache.folder}, the first is {ids[missing[0]]!r}; bring the cache up to date, or skip them"
            )
        self.not_in_cache += len(missing)
        _, first = np.unique(positions, return_index=True)
        positions = positions[np.sort(first[positions[first] >= 0])]
        best = _Best(top_k)
        for begin in range(0, len(positions), self._items_at_once):
            vectors = self.cache.vectors(positions[begin : begin + self._items_at_once])
            best.add(begin, self._logits(user, vectors, number))
        return Ranked(self.cache.ids(positions[best.places]), best.logits, len(missing))

    def _logits(self, user: Mapping[str, np.ndarray], items: Mapping[str, Any], number: int) -> np.ndarray:
        logits = self.towers.score(user, items)[self.task]
        if not np.isfinite(logits).all():
            raise ValueError(f"row {number + 1}: the model's score of an item is {logits[~np.isfinite(logits)][0]}")
        return logits


class _Best:
    """The best of a stream of scores; of equal ones the earlier."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self.places, self.logits = np.empty(0, np.int64), np.empty(0, np.float32)

    def add(self, begin: int, logits: np.ndarray) -> None:
        places = np.arange(begin, begin + len(logits))
        if len(self.places) == self._top_k:
            better = logits > self.logits[-1]
            places, logits = places[better], logits[better]
        logits = np.concatenate([self.logits, logits])
        order = np.argsort(-logits, kind="stable")[: self._top_k]
        self.places, self.logits = np.concatenate([self.places, places])[order], logits[order]


def _row(users: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    return {task: vectors[number : number + 1] for task, vectors in users.items()}


def candidate_lists(
    rows: Sequence[Mapping[str, Any]], column: str, dtype: str, **options: Any
) -> list[list[int | bytes]]:
    """The item ids in a column of users' rows.

    Raises:
      RowError: a row lacks the column, or holds something else there.
    """
    kind = tf.int64 if dtype == "int" else tf.string
    padded = typed(rows, {column: tf.TensorSpec((None, None), kind)}, **options)[column]
    return [[value for value in row if value != MISSING[kind]] for row in padded.tolist()]


def answers(
    preranker: Any, text: str, top_k: int, candidates: str | None, separator: str = SEPARATOR
) -> Iterator[Ranked]:
    """What `Preranker.rank` or `ApproximateIndex.rank` gives for rows of JSON or CSV, few users at a time."""
    rows = read_rows(text)
    options: dict[str, Any] = {"cells": is_csv(text), "separator": separator}
    known = {*preranker.towers.columns("user"), *preranker.towers.columns("item"), candidates}
    unused = sorted(set(rows[0]) - known)
    if unused:
        print(f"columns that the model does not take: {unused}", file=sys.stderr)
    for begin in range(0, len(rows), USERS_AT_ONCE):
        some = rows[begin : begin + USERS_AT_ONCE]
        if candidates is None:
            yield from preranker.rank(some, top_k, **options)
        else:
            lists = candidate_lists(some, candidates, preranker.cache.id_dtype, **options)
            yield from preranker.rank(some, top_k, lists, **options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, or 1 after an error that the message on standard error explains."""
    parser = argparse.ArgumentParser(
        prog="python -m xdeepint_ext.serving.prerank", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--model", required=True, help="folder of the export: a version, or the base folder")
    kept = parser.add_mutually_exclusive_group(required=True)
    kept.add_argument("--cache", help="folder of the item cache")
    kept.add_argument("--index", help="folder of an approximate index")
    parser.add_argument("--input", help=f"file of users, - = standard input; default: {SAMPLE_ROWS} in the export")
    parser.add_argument("--top_k", type=int, default=10)
    parser.add_argument("--task", help="whose scores order the items, where the model has several tasks")
    parser.add_argument("--candidates", metavar="COLUMN", help="column of the users' candidates; default: all items")
    parser.add_argument(
        "--unknown_items", default="error", choices=UNKNOWN_ITEMS, help="candidates that are not in the cache"
    )
    parser.add_argument("--items_at_once", type=int, default=ITEMS_AT_ONCE, help="items that are scored together")
    parser.add_argument("--separator", default=SEPARATOR, help="between several values in a cell of CSV")
    options = parser.parse_args(arguments)
    if options.index and options.candidates:
        parser.error("--candidates needs --cache: an index chooses among all its items")
    try:
        towers = LoadedTowers(options.model)
        ranker = _ranker(towers, options)
        text = read_text(options.input or os.path.join(towers.folder, SAMPLE_ROWS))
        for ranked in answers(ranker, text, options.top_k, options.candidates, options.separator):
            print(json.dumps(_as_json(ranked, options.candidates is not None)))
        if getattr(ranker, "not_in_cache", 0):
            print(f"{ranker.not_in_cache} candidates were not in the cache and were left out", file=sys.stderr)
    except (ImportError, OSError, ValueError, tf.errors.OpError) as error:
        print(f"prerank: {error}", file=sys.stderr)
        return 1
    return 0


def _ranker(towers: LoadedTowers, options: argparse.Namespace) -> Any:
    if options.index:
        from xdeepint_ext.serving.approximate import ApproximateIndex

        return ApproximateIndex(towers, options.index)
    names = ("task", "unknown_items", "items_at_once")
    return Preranker(towers, options.cache, **{name: getattr(options, name) for name in names})


def _as_json(ranked: Ranked, counts_missing: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"items": ranked.items}
    for name, values in (("logit", ranked.logits), ("probability", ranked.probabilities)):
        found[name] = [float(str(value)) for value in values]
    return found | ({"not_in_cache": ranked.not_in_cache} if counts_missing else {})


if __name__ == "__main__":
    sys.exit(main())
