"""Whether layers update metrics and step counters of their own: a served model and a second pass must not."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

_RECORDING = contextvars.ContextVar("xdeepint_ext_recording", default=True)


def is_recording() -> bool:
    """Whether a layer that is being called or traced updates its metrics and counts its training calls.

    Not while a strategy builds it.
    """
    return _RECORDING.get() and not tf.distribute.in_cross_replica_context()


@contextlib.contextmanager
def recording_off() -> Iterator[None]:
    """Layers that are called or traced inside the block leave their metrics and step counters alone."""
    token = _RECORDING.set(False)
    try:
        yield
    finally:
        _RECORDING.reset(token)
