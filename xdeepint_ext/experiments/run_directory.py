"""The directory that a run leaves: its flags, its data's manifest, and whose turn it is to write there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from xdeepint_ext.data.manifest import FILE_NAME, DataError, Manifest
from xdeepint_ext.experiments.config import Config

__all__ = ["RunDirectory", "flag_lines", "flag_texts", "read_flags", "read_manifest"]

FLAGS_FILE, MANIFEST_FILE, METRICS_FILE, LOCK_FILE = "flags.txt", "data_manifest.json", "metrics.json", ".lock"
# TensorFlow's note of the latest checkpoint: from then on there is something to go on from.
CHECKPOINT = os.path.join("checkpoints", "checkpoint")
# The models that have a command of their own; that of RankTower trains the others, that of CROLoss those of retrieval.
RETRIEVAL = ("mf", "pooled", "sasrec")
OWN_COMMAND = ("adaensemble", "dynint", "groupce", "mseqa", "ranktower", "xdeepint")
# What a process leaves that was killed before it wrote its flags.
BEGUN = {LOCK_FILE, MANIFEST_FILE, FILE_NAME, f"{FLAGS_FILE}.part"}


class RunDirectory:
    """`model_dir` of a run.

    Args:
      config: of the run.
      manifest: of its data.
    """

    def __init__(self, config: Config, manifest: Manifest) -> None:
        self.path = config.model_dir
        self._config, self._manifest = config, manifest

    def file(self, name: str) -> str:
        """Path of a file in it."""
        return os.path.join(self.path, name)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[dict[str, Any] | None]:
        """Makes the directory or goes on in it, and keeps other processes out.

        Yields:
          The metrics, if it holds this run, finished, and nothing else is wanted of it; else None.

        Raises:
          ValueError: it holds something else, a run with other flags or data, or a run that goes on right now.
          OSError: it cannot be made or written.
        """
        os.makedirs(self.path, exist_ok=True)
        others = sorted(set(os.listdir(self.path)) - BEGUN)
        if others and FLAGS_FILE not in others:
            raise ValueError(f"model_dir: {self.path} exists and is no run's directory: it holds {others[:5]}")
        with open(self.file(LOCK_FILE), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"model_dir: another process is running in {self.path}") from None
            if any(os.path.exists(self.file(name)) for name in (CHECKPOINT, METRICS_FILE)):
                self._check_flags()
                self._check_data()
            else:
                self._manifest.save(self.path)
                os.replace(self.file(FILE_NAME), self.file(MANIFEST_FILE))
            metrics = self._metrics()
            if metrics is None:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(self.file(METRICS_FILE))
                lines = [*_title(self._config), *flag_lines(self._config), ""]
                write_atomically(self.file(FLAGS_FILE), "\n".join(lines))
            yield metrics

    def _metrics(self) -> dict[str, Any] | None:
        if not os.path.exists(self.file(METRICS_FILE)):
            return None
        stored = read_flags(self.file(FLAGS_FILE))
        if any(stored.get(name) != value for name, value in flag_texts(self._config, "report").items()):
            return None
        with open(self.file(METRICS_FILE), encoding="utf-8") as stream:
            found = json.load(stream)
        return {name: float("nan") if value is None else value for name, value in found.items()}

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Writes metrics.json, which says that the run is finished; NaN becomes null."""
        finite = {n: None if isinstance(v, float) and math.isnan(v) else v for n, v in metrics.items()}
        write_atomically(self.file(METRICS_FILE), json.dumps(finite, indent=1, allow_nan=False) + "\n")

    def _check_flags(self) -> None:
        stored = read_flags(self.file(FLAGS_FILE))
        wanted = {"model": self._config.model, **flag_texts(self._config, "training")}
        other = [
            f"--{name}: {stored.get(name, 'unset')} there, {value if value is not None else 'unset'} here"
            for name, value in wanted.items()
            if stored.get(name) != value
        ]
        if other:
            listed = "\n  ".join(other)
            raise ValueError(
                f"model_dir: {self.path} holds a run with other flags:\n  {listed}\nUse another model_dir."
            )

    def _check_data(self) -> None:
        with open(self.file(MANIFEST_FILE), encoding="utf-8") as stream:
            stored = json.load(stream)
        here = json.loads(json.dumps(vars(self._manifest), default=vars))
        other = [name for name in ("dataset", "schema", "compression", "packed") if stored[name] != here[name]]
        tables = {**stored["tables"], **here["tables"]}
        other += [f"table {name!r}" for name in tables if stored["tables"].get(name) != here["tables"].get(name)]
        records = [{k: [s["records"] for s in v] for k, v in m["splits"].items()} for m in (stored, here)]
        other += [
            f"split {name!r}" for name in {**records[0], **records[1]} if records[0].get(name) != records[1].get(name)
        ]
        if other:
            raise DataError(
                f"model_dir: {self.path} holds a run on other data than {self._config.data_dir}: {', '.join(other)} "
                "differ. Use another model_dir."
            )


def flag_lines(config: Config) -> list[str]:
    """A flagfile's lines that repeat a run."""
    return [f"--{name}={value}" for name, value in flag_texts(config).items() if value is not None]


def read_flags(path: str) -> dict[str, str]:
    """Flag -> text of a flags.txt, and `model`, which a command of several models has as a flag."""
    with open(path, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    found = dict(line[2:].split("=", 1) for line in lines if line.startswith("--"))
    return {"model": lines[0].split()[3].rpartition(".")[2], **found}


def read_manifest(directory: str) -> Manifest:
    """The manifest of the data that a run was trained on.

    Raises:
      DataError: it is not there, or no manifest.
    """
    return Manifest.load(directory, MANIFEST_FILE)


def write_atomically(path: str, text: str) -> None:
    """Writes a file that is there as a whole or not at all."""
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)


def _title(config: Config) -> list[str]:
    own = config.model in OWN_COMMAND
    command = config.model if own else "croloss" if config.model in RETRIEVAL else "ranktower"
    title = f"# python -m xdeepint_ext.experiments.{command} --flagfile={FLAGS_FILE}"
    return [title] if own else [title, f"--model={config.model}"]


def flag_texts(config: Config, changes: str | None = None) -> dict[str, str | None]:
    """Flag -> text, as on a command line; None = unset. For `changes` see `Config.flags`."""
    return {name: _text(value) for name, value in config.flags(changes).items()}


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else None if value is None else str(value)
