"""Waiting until the other processes of a cluster are there, before TensorFlow waits for them without end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping

from xdeepint_ext.experiments.cluster_config import ClusterConfig

__all__ = ["answers_at", "check_port", "listening", "wait_for_others"]

PAUSE = 0.1


def wait_for_others(cluster: ClusterConfig, timeout: float, listens: bool = True) -> None:
    """Returns when every other process of the cluster was seen listening at its address.

    Args:
      cluster: the processes.
      timeout: seconds.
      listens: whether this process shows itself at its own address meanwhile, as those do that all wait for each other.

    Raises:
      OSError: this process's port is in use.
      TimeoutError: a process did not come; names it.
    """
    missing = dict(cluster.others)
    deadline = time.monotonic() + timeout
    with listening(cluster) if listens else contextlib.nullcontext():
        while missing:
            missing = {name: address for name, address in missing.items() if not answers_at(address)}
            if missing and time.monotonic() > deadline:
                raise TimeoutError(
                    f"{cluster.name} waited {timeout:g} s for {_listed(missing)}: it was not started, or cannot be "
                    "reached; --cluster_timeout is for slow starts"
                )
            if missing:
                time.sleep(PAUSE)


def check_port(cluster: ClusterConfig) -> None:
    """Checks that this process can listen at its address.

    Raises:
      OSError: the port is in use, or the address is another machine's.
    """
    with _bound(cluster):
        pass


@contextlib.contextmanager
def listening(cluster: ClusterConfig) -> Iterator[None]:
    """Accepts connections at the process's address, which tells the others that it is there.

    Raises:
      OSError: its port is in use.
    """
    with _bound(cluster) as server:
        server.listen(128)
        server.settimeout(PAUSE)
        done = threading.Event()

        def accept() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    server.accept()[0].close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@contextlib.contextmanager
def _bound(cluster: ClusterConfig) -> Iterator[socket.socket]:
    host, _, port = cluster.address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        # As TensorFlow's server does: what a process has just left counts as free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise OSError(
                f"{cluster.name} cannot listen at {cluster.address}, its address in TF_CONFIG: {error.strerror}; the "
                "port is in use by another process, or the address is another machine's"
            ) from None
        yield server


def answers_at(address: str) -> bool:
    """Whether a process listens at an address `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=1.0):
            return True
    except OSError:
        return False


def _listed(missing: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({address})" for name, address in missing.items())
