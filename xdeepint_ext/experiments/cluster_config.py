"""`ClusterConfig`: the processes of a cluster and which of them this one is, from the variable TF_CONFIG."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping

__all__ = ["EVALUATOR", "VARIABLE", "ClusterConfig", "is_chief"]

VARIABLE = "TF_CONFIG"
CHIEF, WORKER, PS, EVALUATOR = "chief", "worker", "ps", "evaluator"
# Strategy -> job -> least and most tasks of it.
_MANY = 10**6
JOBS: dict[str, dict[str, tuple[int, int]]] = {
    "multi_worker": {CHIEF: (0, 1), WORKER: (0, _MANY)},
    "parameter_server": {CHIEF: (1, 1), WORKER: (1, _MANY), PS: (1, _MANY), EVALUATOR: (0, 1)},
}
_EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """A cluster, as one of its processes sees it.

    Args:
      strategy: `multi_worker` or `parameter_server`.
      jobs: job -> `host:port` of its tasks.
      job: this process's.
      index: of this process in its job.

    Raises:
      ValueError: the jobs are not the strategy's, an address is none or is used twice, or there is no such task.

    Example:
      >>> ClusterConfig("multi_worker", {"worker": ("a:1", "b:1")}, "worker", 1).others
      {'worker 0': 'a:1'}
    """

    strategy: str
    jobs: Mapping[str, tuple[str, ...]]
    job: str
    index: int

    def __post_init__(self) -> None:
        known = JOBS[self.strategy]
        for job, (least, most) in known.items():
            found = len(self.jobs.get(job, ()))
            if not least <= found <= most:
                wanted = str(least) if least == most else f"{least} or more" if most == _MANY else f"at most {most}"
                raise ValueError(f"{VARIABLE}: --strategy={self.strategy} needs {wanted} of job {job}, got {found}")
        unknown = sorted(set(self.jobs) - set(known))
        if unknown or not any(self.jobs.values()):
            raise ValueError(
                f"{VARIABLE}: the jobs of --strategy={self.strategy} are {list(known)}, got {sorted(self.jobs)}"
            )
        addresses = [address for found in self.jobs.values() for address in found]
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{VARIABLE}: {address!r} is no address host:port")
            if addresses.count(address) > 1:
                raise ValueError(f"{VARIABLE}: two processes have the address {address}")
        if not 0 <= self.index < len(self.jobs.get(self.job, ())):
            raise ValueError(
                f"{VARIABLE}: the task is {self.job} {self.index}, but the cluster has "
                f"{ {job: len(found) for job, found in self.jobs.items()} }"
            )

    @classmethod
    def from_environment(cls, strategy: str, environment: Mapping[str, str] | None = None) -> ClusterConfig:
        """Reads TF_CONFIG.

        Args:
          strategy: for which strategy.
          environment: default: the process's.

        Raises:
          ValueError: it is missing or wrong; says how.
        """
        text = (os.environ if environment is None else environment).get(VARIABLE)
        if not text:
            raise ValueError(
                f"--strategy={strategy} needs the variable {VARIABLE}, which names the processes and this one of them: "
                f"{_EXAMPLE}; experiments.local_cluster sets it for processes on one machine"
            )
        try:
            found = json.loads(text)
            jobs, task = found["cluster"], found["task"]
            jobs = {str(job): tuple(map(str, addresses)) for job, addresses in jobs.items()}
            job, index = str(task["type"]), int(task["index"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{VARIABLE}={text!r} is not of the form {_EXAMPLE}: {type(error).__name__}: {error}"
            ) from None
        return cls(strategy, jobs, job, index)

    @property
    def name(self) -> str:
        """This process, such as `worker 1`."""
        return _name(self.job, self.index)

    @property
    def address(self) -> str:
        """This process's `host:port`."""
        return self.jobs[self.job][self.index]

    @property
    def connected(self) -> dict[str, list[str]]:
        """The jobs that TensorFlow connects; an evaluator works by itself."""
        return {job: list(addresses) for job, addresses in self.jobs.items() if job != EVALUATOR}

    @property
    def others(self) -> dict[str, str]:
        """Name -> address of all other processes."""
        named = {_name(job, i): address for job, found in self.jobs.items() for i, address in enumerate(found)}
        return {name: address for name, address in named.items() if name != self.name}

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what the run leaves: the chief, or worker 0 where there is none."""
        return self.job == CHIEF or (not self.jobs.get(CHIEF) and self.job == WORKER and self.index == 0)

    @property
    def number(self) -> int:
        """Of this process among chief and workers, from 0."""
        return self.index + (len(self.jobs.get(CHIEF, ())) if self.job == WORKER else 0)

    @property
    def training(self) -> int:
        """How many chiefs and workers there are."""
        return len(self.jobs.get(CHIEF, ())) + len(self.jobs.get(WORKER, ()))


def is_chief(strategy: str) -> bool:
    """Whether this process is the one of its cluster that writes and prints; it is where the strategy needs none."""
    return strategy not in JOBS or ClusterConfig.from_environment(strategy).is_chief


def _name(job: str, index: int) -> str:
    return f"{job} {index}"
