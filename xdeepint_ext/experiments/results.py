"""A file of finished runs: one line each, added at once, so that what broke off goes on behind the last.

Several processes may add to one file.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xdeepint_ext.experiments.config import canonical
from xdeepint_ext.experiments.run_directory import write_atomically

__all__ = ["Results", "commit_of_package"]


class Results:
    """The rows of a CSV file. A key is some of their columns; `settings` are compared flag by flag, numbers as numbers.

    Args:
      path: of the file; it need not exist.

    Example:
      >>> results = Results("doctest_results.csv")  # doctest: +SKIP
      >>> key = {"dataset": "adult", "data": "1f", "settings": "model=lr", "seed": 0}
      >>> results.add(key, {"test.auc": 0.92})  # doctest: +SKIP
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows: list[dict[str, str]] = []
        self.reload()

    @property
    def path(self) -> str:
        """Of the file."""
        return self._path

    def reload(self) -> None:
        """Reads the file again, for what other processes have added."""
        self._rows = []
        if os.path.exists(self._path):
            with open(self._path, encoding="utf-8", newline="") as stream:
                self._rows = list(csv.DictReader(stream))

    def __iter__(self) -> Iterator[dict[str, str]]:
        return iter(self._rows)

    def find(self, key: Mapping[str, Any], needs: str = "") -> dict[str, str] | None:
        """The last row of that key which has a value in column `needs`, or None."""
        rows = self.all(key, needs)
        return rows[-1] if rows else None

    def all(self, key: Mapping[str, Any], needs: str = "") -> list[dict[str, str]]:
        """The rows of that key, oldest first; see `find`."""
        wanted = {name: _comparable(name, str(value)) for name, value in key.items()}
        return [
            row
            for row in self._rows
            if (not needs or row.get(needs))
            and all(_comparable(name, row.get(name, "")) == value for name, value in wanted.items())
        ]

    def add(self, key: Mapping[str, Any], values: Mapping[str, Any], replace: bool = False) -> None:
        """Appends a row and writes the file, with what other processes have added; a new column is empty before.

        Args:
          key: its key.
          values: its other columns.
          replace: drop the rows that have the key already.
        """
        with self._changed():
            if replace:
                old = self.all(key)
                self._rows = [row for row in self._rows if row not in old]
            self._rows.append({name: _text(value) for name, value in {**key, **values}.items()})

    def remove(self, unwanted: Callable[[Mapping[str, str]], bool]) -> None:
        """Drops the rows of which the function is true."""
        self.reload()
        if any(unwanted(row) for row in self._rows):
            with self._changed():
                self._rows = [row for row in self._rows if not unwanted(row)]

    @contextlib.contextmanager
    def _changed(self) -> Iterator[None]:
        """Keeps other processes out, reads what they wrote, and at the end writes a file that replaces the old one."""
        directory, name = os.path.split(self._path)
        if directory:
            os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f".{name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.reload()
            yield
            columns = list(dict.fromkeys(name for found in self._rows for name in found))
            stream = io.StringIO(newline="")
            writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
            write_atomically(self._path, stream.getvalue())


def _comparable(name: str, text: str) -> str:
    return canonical(text) if name == "settings" else text


def _text(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def commit_of_package() -> str:
    """The commit of this package's repository, with `+` where files differ from it; "" outside a repository."""
    here = os.path.dirname(os.path.abspath(__file__))

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", here, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", os.path.dirname(here))
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
