"""Wall and processor time of a step. No TensorFlow here: both environments use it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Seconds a step: on the clock, and of all threads together. The second holds up better on a shared machine."""

    wall: float
    processor: float


def time_steps(work: Callable[[], Any], steps: int) -> Timing:
    """Times `work`, which makes so many steps."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Timing((time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps)


def median(timings: Iterable[Timing]) -> Timing:
    """The median of each of the two."""
    return Timing(*(statistics.median(times) for times in zip(*timings, strict=True)))
