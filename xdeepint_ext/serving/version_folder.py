"""TF Serving's layout on disk, `base/<version>/`: a version appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator

import tensorflow as tf

SAMPLE_ROWS = "sample_rows.json"
"""File of a version: rows to try it with."""


def versions(base: str) -> list[int]:
    """The versions in a base folder, ascending. TF Serving takes every folder whose name is a whole number for one."""
    if not os.path.isdir(base):
        return []
    return sorted(
        int(name) for name in os.listdir(base) if name.isdecimal() and os.path.isdir(os.path.join(base, name))
    )


def version_dir(model: str) -> str:
    """The folder of a SavedModel: the path itself, or the highest version below it.

    Raises:
      FileNotFoundError: there is no SavedModel.
    """
    if os.path.exists(os.path.join(model, "saved_model.pb")):
        return model
    found = [
        version for version in versions(model) if os.path.exists(os.path.join(model, str(version), "saved_model.pb"))
    ]
    if not found:
        raise FileNotFoundError(f"no SavedModel at {model}: neither saved_model.pb nor a version folder with one")
    return os.path.join(model, str(found[-1]))


@contextlib.contextmanager
def written_beside(base: str, version: int | None = None) -> Iterator[tuple[str, str]]:
    """Gives (a new folder to write into, the final one); renames when the block ends well, else removes what it wrote.

    Args:
      base: the model's base folder; made where it does not exist.
      version: a whole number; None = one more than the highest there, 1 at first.

    Raises:
      ValueError: the version is no whole number.
      FileExistsError: the version exists.
      OSError: the folder cannot be written; names it, and nothing is left of what was begun.
    """
    if version is None:
        version = max(versions(base), default=0) + 1
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise ValueError(f"version must be a whole number >= 0, as TF Serving wants, got {version!r}")
    final = os.path.join(base, str(version))
    if os.path.lexists(final):
        raise FileExistsError(f"version {version} exists: {final}; give another version, or none for the next one")
    # TF Serving looks at names that are numbers only.
    scratch = os.path.join(base, f".writing-{version}-{uuid.uuid4().hex[:8]}")
    made = [folder for folder in _missing_parents(scratch) if folder != scratch]
    try:
        os.makedirs(scratch)
        yield scratch, final
        if os.path.lexists(final):
            raise FileExistsError(f"version {version} appeared while it was written: {final}")
        os.rename(scratch, final)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # somebody else put something there, or it was never made
                os.rmdir(folder)
        if isinstance(error, FileExistsError) or not isinstance(error, OSError | tf.errors.OpError):
            raise
        raise OSError(f"cannot write {final}; nothing of it was left behind: {error}") from error


def _missing_parents(path: str) -> list[str]:
    """The folders on the way to the path that do not exist yet, the deepest first."""
    missing = []
    while path and not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing
