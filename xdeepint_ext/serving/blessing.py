"""`bless`: a judged version appears under the served path, whole, and only behind the one it was compared with."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from xdeepint_ext.serving.version_folder import missing_part, versions, written_beside

__all__ = ["BLESSING", "BlessingError", "bless", "last_blessed"]

BLESSING = "blessing.json"
"""File of a blessed version: what it was judged by."""
_LOCK = ".blessing.lock"


class BlessingError(ValueError):
    """A version cannot follow the one that is served."""


def last_blessed(base: str | os.PathLike[str]) -> int | None:
    """The highest version in a base folder, which TF Serving serves; None where there is none."""
    return max(versions(os.fspath(base)), default=None)


def bless(
    candidate: str | os.PathLike[str],
    base: str | os.PathLike[str],
    version: int,
    against: int | None,
    facts: Mapping[str, Any],
) -> str:
    """Copies an export's version folder to `base/<version>/`, by one rename at the end.

    Of several processes that bless at once one succeeds: each holds a lock while it looks whether the highest version
    is still the one that it judged against.

    Args:
      candidate: the version's folder, as `export` returns it.
      base: the served base folder; made where it does not exist.
      version: above `against`, as servers take the highest.
      against: the version that the candidate was compared with; None = there was none.
      facts: what it was judged by, for `blessing.json`.

    Returns:
      The new folder.

    Raises:
      BlessingError: another version was blessed meanwhile, or the new one would not be the highest.
      FileNotFoundError: the candidate is no complete SavedModel.
      OSError: the folder cannot be written; nothing of it is left.
    """
    candidate, base = os.fspath(candidate), os.fspath(base)
    lacking = missing_part(candidate) if os.path.isdir(candidate) else "it does not exist"
    if lacking:
        raise FileNotFoundError(f"the candidate {candidate} is no complete SavedModel: {lacking}")
    if against is not None and version <= against:
        raise BlessingError(f"version must be above {against}, which is served from {base}, got {version}")
    os.makedirs(base, exist_ok=True)
    with open(os.path.join(base, _LOCK), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        highest = last_blessed(base)
        if highest != against:
            raise BlessingError(
                f"version {version} was judged against {_named(against)}, but {base} has {_named(highest)} now: "
                "another process blesses there, too; judge it again"
            )
        with written_beside(base, version) as (folder, final):
            shutil.copytree(candidate, folder, dirs_exist_ok=True)
            with open(os.path.join(folder, BLESSING), "w", encoding="utf-8") as stream:
                json.dump({"version": version, "against": against, **facts}, stream, indent=1)
                stream.write("\n")
    return final


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
