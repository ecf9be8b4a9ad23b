"""Starts the processes of a cluster on this machine.

    python -m xdeepint_ext.experiments.local_cluster --workers=2 --ps=1 -- xdeepint --data_dir=DATA --model_dir=MODEL

EXPERIMENT, the first word behind `--`, is a module of `xdeepint_ext.experiments`, or any module by its full name. With
`--ps` its strategy is parameter_server, and one more process coordinates; `--evaluator` adds one that evaluates beside
training. Without `--ps` it is multi_worker. Every line of output begins with the process that wrote it. SIGTERM and
SIGINT are passed on. The exit code is that of the process that failed first, or 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

__all__ = ["LocalCluster", "main"]

CHIEF, WORKER, PS, EVALUATOR = "chief", "worker", "ps", "evaluator"
# Of a process that a signal or a lost neighbour ended, and that may be started again; those of experiments.preemption.
ENDED, LOST = 75, 76
PAUSE = 0.1
GRACE, SHORT_GRACE = 30.0, 5.0
LEAST_INTER_OP = 2


class LocalCluster:
    """Processes of one command with TF_CONFIG on free ports of the loopback.

    Args:
      command: what each runs.
      workers: how many workers.
      ps: how many parameter servers; with some there is a coordinator, too.
      restarts: how often processes that a signal or a lost neighbour ended are started again.
      environment: of the processes; default: this one's.
      threads: inside of an operation, in each process, and between operations, of which there are two at least; None =
        TensorFlow's choice, which is all cores in each process.
      output: where the lines go.
      evaluator: whether one more process evaluates beside training; only with parameter servers.

    Attributes:
      processes: name, such as `worker 1` -> its process.

    Raises:
      ValueError: a number is out of range.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        ps: int = 0,
        restarts: int = 0,
        environment: Mapping[str, str] | None = None,
        threads: int | None = None,
        output: IO[str] = sys.stdout,
        evaluator: bool = False,
    ) -> None:
        for name, value, least in (("workers", workers, 1), ("ps", ps, 0), ("restarts", restarts, 0)):
            if value < least:
                raise ValueError(f"{name} must be >= {least}, got {value}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be >= 1, got {threads}")
        self._command, self._output, self._restarts = list(command), output, restarts
        self._environment = dict(os.environ if environment is None else environment)
        if threads:
            self._environment |= _environment_of(threads)
        if evaluator and not ps:
            raise ValueError("evaluator: only a cluster with parameter servers has one, and ps is 0")
        jobs = {CHIEF: int(ps > 0), WORKER: workers, PS: ps, EVALUATOR: int(evaluator)}
        ports = iter(free_ports(sum(jobs.values())))
        self._jobs = {job: [f"127.0.0.1:{next(ports)}" for _ in range(n)] for job, n in jobs.items() if n}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self._writers: list[threading.Thread] = []
        self._stopping = False

    @property
    def first(self) -> str:
        """The process whose end is that of the cluster."""
        return f"{CHIEF if CHIEF in self._jobs else WORKER} 0"

    def start(self, names: Sequence[str] | None = None) -> None:
        """Starts all processes, or those of the given names."""
        for job, addresses in self._jobs.items():
            for index in range(len(addresses)):
                name = f"{job} {index}"
                if names is not None and name not in names:
                    continue
                place = json.dumps({"cluster": self._jobs, "task": {"type": job, "index": index}})
                process = subprocess.Popen(
                    self._command,
                    env={**self._environment, "TF_CONFIG": place},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                )
                self.processes[name] = process
                writer = threading.Thread(target=self._write, args=(name, process), daemon=True)
                writer.start()
                self._writers.append(writer)

    def wait(self) -> int:
        """Waits for the end; restarts what may be; returns the first failing exit code, or 0."""
        while True:
            codes = {name: process.poll() for name, process in self.processes.items()}
            failed = {name: code for name, code in codes.items() if code}
            if failed and not self._stopping:
                if self._restarts and all(_may_restart(code) for code in failed.values()):
                    self._restart(failed)
                    continue
                return self._give_up(failed)
            servers = [name for name in codes if CHIEF in self._jobs and name != self.first]
            running = [name for name, code in codes.items() if code is None and name not in servers]
            if not running:
                self.stop()
                self._join()
                return next((_shell_code(code) for name, code in codes.items() if code and name not in servers), 0)
            time.sleep(PAUSE)

    def terminate(self) -> None:
        """Passes SIGTERM on to the processes that train; servers follow when these have ended."""
        self._stopping = True
        for name, process in self.processes.items():
            if process.poll() is None and (CHIEF not in self._jobs or name == self.first):
                process.send_signal(signal.SIGTERM)

    def stop(self, grace: float = GRACE) -> None:
        """Ends all processes: by SIGTERM, and by SIGKILL those that do not heed it for so many seconds."""
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + grace
        for process in self.processes.values():
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _restart(self, failed: Mapping[str, int]) -> None:
        """Starts again what has ended: a coordinator's worker or evaluator alone, otherwise all, to begin together."""
        self._restarts -= 1
        alone = CHIEF in self._jobs and all(name.startswith((WORKER, EVALUATOR)) for name in failed)
        names = list(failed) if alone else list(self.processes)
        if not alone:
            self.stop(grace=SHORT_GRACE)
        self._say(f"{', '.join(failed)} ended with {sorted(set(failed.values()))}; starts {', '.join(names)} again")
        self.start(names)

    def _give_up(self, failed: Mapping[str, int]) -> int:
        self._say(", ".join(f"{name} ended with exit code {_shell_code(code)}" for name, code in failed.items()))
        # What only lost its neighbours is not the cause.
        cause = next((code for code in failed.values() if code != LOST), next(iter(failed.values())))
        self.stop()
        self._join()
        return _shell_code(cause)

    def _write(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"[{name}] {line}", end="", file=self._output, flush=True)

    def _say(self, text: str) -> None:
        print(f"[local_cluster] {text}", file=self._output, flush=True)

    def _join(self) -> None:
        for writer in self._writers:
            writer.join(timeout=5)


def _environment_of(threads: int) -> dict[str, str]:
    """What TensorFlow reads where a program has not set its number of threads."""
    inside = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"), str(threads))
    # An operation that waits for another process keeps a thread: with one alone, parameter servers wait for ever.
    return {**inside, "TF_NUM_INTEROP_THREADS": str(max(threads, LEAST_INTER_OP))}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [int(found.getsockname()[1]) for found in sockets]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m xdeepint_ext.experiments.local_cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=2, help="workers (2)")
    parser.add_argument("--ps", type=int, default=0, help="parameter servers (0: strategy multi_worker)")
    parser.add_argument("--evaluator", action="store_true", help="one more process evaluates beside training")
    parser.add_argument("--restarts", type=int, default=0, help="how often ended processes are started again (0)")
    parser.add_argument("--threads", type=int, help="of each process; default: TensorFlow's choice")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- EXPERIMENT flags")
    found = parser.parse_args(arguments)
    words = found.command[1:] if found.command[:1] == ["--"] else found.command
    if not words:
        parser.error("the experiment is missing: ... -- xdeepint --data_dir=DATA --model_dir=MODEL")
    module = words[0] if "." in words[0] else f"xdeepint_ext.experiments.{words[0]}"
    strategy = "parameter_server" if found.ps else "multi_worker"
    command = [sys.executable, "-m", module, *words[1:], f"--strategy={strategy}"]
    try:
        cluster = LocalCluster(
            command, found.workers, found.ps, found.restarts, threads=found.threads, evaluator=found.evaluator
        )
    except ValueError as error:
        parser.error(str(error))
    with _passed_on(cluster):
        cluster.start()
        return cluster.wait()


@contextlib.contextmanager
def _passed_on(cluster: LocalCluster) -> Iterator[None]:
    """Lets SIGTERM and SIGINT end the cluster's processes."""

    def handle(number: int, frame: Any) -> None:
        cluster.terminate()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _may_restart(code: int) -> bool:
    """Whether a process was ended by a signal, or asks to be started again."""
    return code < 0 or code in (ENDED, LOST)


def _shell_code(code: int) -> int:
    """Of a process that a signal ended, 128 + its number, as a shell says it."""
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
