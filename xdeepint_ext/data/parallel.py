"""Blocks through worker processes, in order, with bounded memory."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext

from xdeepint_ext.data.encoder import BlockEncoder, EncodedBlock
from xdeepint_ext.data.raw import Block

__all__ = ["encode_in_processes"]

_encoder: BlockEncoder | None = None


def encode_in_processes(
    encoder: BlockEncoder, blocks: Iterable[Block], workers: int
) -> Generator[EncodedBlock, None, None]:
    """The encoded blocks in the order of the blocks; at most about two blocks a worker are under way.

    Args:
      encoder: goes to every worker once.
      blocks: read by the calling process.
      workers: number of processes; with one or none the calling process does the work.

    Raises:
      ChildProcessError: a worker was killed.
    """
    if workers <= 1:
        yield from map(encoder, blocks)
        return
    executor = ProcessPoolExecutor(workers, _context(), _start, (encoder,))
    try:
        waiting: deque[Future[EncodedBlock]] = deque()
        for block in blocks:
            waiting.append(executor.submit(_encode, block))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise ChildProcessError("a worker process was killed; where memory is short, use fewer workers") from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _context() -> BaseContext:
    """Processes that share no thread with this one; a fork server, where there is one, imports the package once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start(encoder: BlockEncoder) -> None:
    global _encoder
    _encoder = encoder
    # Ctrl-C reaches the whole process group; the parent alone reacts, and then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _encode(block: Block) -> EncodedBlock:
    assert _encoder is not None
    return _encoder(block)
