"""SIGTERM and lost processes: a run saves where it is and ends with an exit code that asks to be started again."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

__all__ = ["LOST", "PREEMPTED", "LostProcess", "Preempted", "StopRequest", "ends_on_sigterm", "names_lost_processes"]

PREEMPTED = 75
"""Exit code of a run that SIGTERM ended: sysexits' EX_TEMPFAIL. The same command goes on."""
LOST = 76
"""Exit code of a process whose cluster lost another one. The same command, in all processes, goes on."""
# What TensorFlow raises where another process is gone.
GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)


class Preempted(Exception):
    """The run was asked to end and has saved where it is.

    Args:
      step: of the checkpoint.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"ended by SIGTERM after step {step}, which is saved; the same command goes on from there")


class LostProcess(Exception):
    """Another process of the cluster is gone."""


class StopRequest:
    """Whether SIGTERM came, as a context in which it does nothing else; a second one ends the process at once.

    Args:
      active: whether SIGTERM is caught at all. Only the main thread can.
    """

    def __init__(self, active: bool) -> None:
        self.came = False
        self._active = active and threading.current_thread() is threading.main_thread()
        self._before: Any = None

    def __enter__(self) -> StopRequest:
        if self._active:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._active:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: Any) -> None:
        self.came = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def ends_on_sigterm() -> None:
    """Makes SIGTERM, where nothing else catches it, end the process with `PREEMPTED`: all that counts is saved."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(PREEMPTED))


@contextlib.contextmanager
def names_lost_processes(several: bool) -> Iterator[None]:
    """Turns TensorFlow's errors of connections into `LostProcess`, where there are several processes."""
    try:
        yield
    except GONE as error:
        if not several:
            raise
        raise LostProcess(
            f"another process of the cluster is gone ({type(error).__name__}); start all again: they go on from the "
            f"last checkpoint. TensorFlow says: {error.message.splitlines()[0] if error.message else error}"
        ) from error
