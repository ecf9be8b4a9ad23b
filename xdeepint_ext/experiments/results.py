"""A file of finished runs: one line each, appended at once, so that a sweep that broke off goes on behind the last."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from typing import Any

from xdeepint_ext.experiments.config import canonical

__all__ = ["Results"]


class Results:
    """Rows of a CSV file. A key is some of their columns; `settings` are compared flag by flag, numbers as numbers.

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
        if os.path.exists(path):
            with open(path, encoding="utf-8", newline="") as stream:
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
        """Appends a row and writes the file; a new column is empty in the rows before.

        Args:
          key: its key.
          values: its other columns.
          replace: drop the rows that have the key already.
        """
        if replace:
            old = self.all(key)
            self._rows = [row for row in self._rows if row not in old]
        self._rows.append({name: _text(value) for name, value in {**key, **values}.items()})
        columns = list(dict.fromkeys(name for found in self._rows for name in found))
        directory = os.path.dirname(self._path)
        if directory:
            os.makedirs(directory, exist_ok=True)
        with open(f"{self._path}.part", "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
        os.replace(f"{self._path}.part", self._path)


def _comparable(name: str, text: str) -> str:
    return canonical(text) if name == "settings" else text


def _text(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)
