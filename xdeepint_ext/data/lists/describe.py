"""What was drawn, and what was left out and why: counts for the manifest, and a few lines of text."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from xdeepint_ext.data.lists.draw import CANDIDATE, IMPRESSION, RANDOM, Lists
from xdeepint_ext.data.manifest import Manifest

__all__ = ["ListStatistics", "describe_lists"]

_STAGES = {"impressions": IMPRESSION, "candidates": CANDIDATE, "random": RANDOM}


class ListStatistics:
    """Counts the lists of a split.

    Args:
      users: how many users there are.
    """

    def __init__(self, users: int) -> None:
        self._seen = np.zeros(users, bool)
        self._left_out: Counter[str] = Counter()
        self._items: Counter[str] = Counter()
        self._grades: Counter[int] = Counter()
        self._lengths: Counter[int] = Counter()
        self._impressions: Counter[int] = Counter()
        self._positives: Counter[int] = Counter()

    def left_out(self, what: str, number: int) -> None:
        """Counts what is not in the lists."""
        self._left_out[what] += number

    def add(self, lists: Lists) -> None:
        """Counts lists."""
        into = np.repeat(np.arange(len(lists)), np.diff(lists.offsets))
        self._seen[lists.users] = True
        self._items.update({name: int((lists.stages == stage).sum()) for name, stage in _STAGES.items()})
        _tally(self._grades, lists.labels.astype(np.int64))
        _tally(self._lengths, np.diff(lists.offsets))
        _tally(self._impressions, np.bincount(into[lists.stages == IMPRESSION], minlength=len(lists)))
        _tally(self._positives, np.bincount(into[lists.labels > 0], minlength=len(lists)))

    def notes(self) -> dict[str, Any]:
        """Everything counted, as JSON has it."""
        return {
            "lists": sum(self._lengths.values()),
            "items": dict(self._items),
            "grades": {str(grade): number for grade, number in sorted(self._grades.items())},
            "length": _quantiles(self._lengths),
            "impressions": _quantiles(self._impressions),
            "positives": _quantiles(self._positives),
            "users_without_lists": int((~self._seen).sum()),
            **{name: number for name, number in sorted(self._left_out.items())},
        }


def _tally(counter: Counter[int], values: np.ndarray) -> None:
    found, numbers = np.unique(values, return_counts=True)
    counter.update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))


def _quantiles(counter: Counter[int]) -> dict[str, float]:
    """Mean, and the values below which 0, 50, 90, 99 and 100 % of the lists are."""
    if not counter:
        return {}
    values = np.array(sorted(counter))
    ends = np.cumsum([counter[value] for value in values.tolist()])
    found = {"mean": round(float(sum(value * n for value, n in counter.items()) / ends[-1]), 3)}
    for name, share in (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
        found[name] = int(values[np.searchsorted(ends, share * ends[-1])])
    return found


def describe_lists(manifest: Manifest) -> str:
    """What a directory of lists holds, in a few lines of text.

    Args:
      manifest: of the directory; `write_lists` returns it.
    """
    if manifest.lists is None:
        raise ValueError(f"{manifest.dataset} holds single examples, not lists")
    lines = []
    for split, found in manifest.lists["statistics"].items():
        if not found["lists"]:
            lines.append(f"{split}: no list")
            continue
        items = ", ".join(f"{number:,} {name}" for name, number in found["items"].items())
        lines.append(f"{split}: {found['lists']:,} lists of {items}")
        for what in ("length", "impressions", "positives"):
            spread = ", ".join(f"{name} {value:g}" for name, value in found[what].items())
            lines.append(f"  {what} of a list: {spread}")
        grades = ", ".join(f"{grade}: {number:,}" for grade, number in found["grades"].items())
        lines.append(f"  grades {grades}")
        known = ("lists", "items", "grades", "length", "impressions", "positives")
        rest = [f"{name} {number:,}" for name, number in found.items() if name not in known and number]
        lines += [f"  {', '.join(rest)}"] if rest else []
    return "\n".join(lines)
