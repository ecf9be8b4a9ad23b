"""Events of a (user, item) to one label: the highest grade in an order of events, or a function of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

__all__ = ["SoftLabel", "check_order", "hard_labels", "soft_labels"]

SoftLabel = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Event name -> values (n,), to labels (n,)."""


def check_order(order: Sequence[str], events: Sequence[str]) -> tuple[str, ...]:
    """The order as a tuple.

    Raises:
      ValueError: it is empty, names an event twice, or one that there is not.
    """
    order = (order,) if isinstance(order, str) else tuple(order)
    if not order:
        raise ValueError(f"order must name events, the least important first; there are {sorted(events)}")
    for name in order:
        if name not in events:
            near = difflib.get_close_matches(name, events, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"order names event {name!r}; there are {sorted(events)}{hint}")
        if order.count(name) > 1:
            raise ValueError(f"order names event {name!r} twice")
    return order


def hard_labels(events: Mapping[str, np.ndarray], order: Sequence[str]) -> np.ndarray:
    """Grades (n,) float32: the place in the order, from 1, of the most important event that happened; 0 without any.

    Args:
      events: name -> (n,) numbers, above 0 where it happened.
      order: names of events, the least important first.

    Raises:
      ValueError: see `check_order`.

    Example:
      >>> hard_labels({"click": np.array([0, 1, 1]), "buy": np.array([0, 0, 1])}, ("click", "buy"))
      array([0., 1., 2.], dtype=float32)

    Source: RankTower (arXiv 2407.12385), label aggregation, hard labels.
    """
    order = check_order(order, list(events))
    grades = [np.where(np.asarray(events[name]) > 0, grade, 0) for grade, name in enumerate(order, 1)]
    return np.max(grades, axis=0).astype(np.float32)


def soft_labels(events: Mapping[str, np.ndarray], function: SoftLabel) -> np.ndarray:
    """Labels (n,) float32 that a function of the events gives, such as the ranking stage's objective.

    Args:
      events: name -> (n,) numbers.
      function: event name -> values (n,), to labels (n,), finite and >= 0.

    Raises:
      ValueError: it gives something else.

    Example:
      >>> events = {"click": np.array([0, 1, 1]), "buy": np.array([0, 0, 1])}
      >>> soft_labels(events, lambda e: e["click"] + 4 * e["buy"])
      array([0., 1., 5.], dtype=float32)

    Source: RankTower (arXiv 2407.12385), label aggregation, soft labels.
    """
    size = len(next(iter(events.values())))
    labels = np.asarray(function(events), np.float32)
    if labels.shape != (size,):
        raise ValueError(f"soft must give a label for each of {size} items, got shape {labels.shape}")
    wrong = np.flatnonzero(~(np.isfinite(labels) & (labels >= 0)))
    if len(wrong):
        given = {name: values[wrong[0]].item() for name, values in events.items()}
        raise ValueError(f"soft must give finite labels >= 0, got {labels[wrong[0]]} for {given}")
    return labels
